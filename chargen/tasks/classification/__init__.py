"""Classify texts: with one language model for each label, or with an encoder that reads whole texts."""
