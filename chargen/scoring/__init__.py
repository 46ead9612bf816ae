"""Numbers out of a model: how likely a text is."""
