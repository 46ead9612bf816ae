"""Training: `run.py` shows the order of all steps; the other files implement them."""
