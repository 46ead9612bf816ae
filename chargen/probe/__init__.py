"""Explain scores: the surprisal of each character, and what the model expected instead."""
