"""What runs a trained model: NumPy for one stream at once, torch for batches and GPUs."""
