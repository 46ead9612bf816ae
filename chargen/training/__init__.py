"""Training: `run.py` tells the story; the other files are its parts."""
