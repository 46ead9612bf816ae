"""Engines run a trained model: NumPy for one stream at a time, torch for batches and GPUs."""
