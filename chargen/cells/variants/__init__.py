"""Variants of the classic cells: other gates, initial weights or activations; one file per cell."""
