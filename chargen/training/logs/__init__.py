"""What is written and read while a run trains: its loss curves, and event files of TensorBoard."""
