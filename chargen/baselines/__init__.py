"""What needs no network: the numbers that a trained model is put beside."""
