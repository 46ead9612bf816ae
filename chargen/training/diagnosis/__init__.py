"""What the numbers of a run say at its end, and what would help."""
