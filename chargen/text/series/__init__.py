"""A series of numbers as a text: recordings (WAV) and columns of numbers, with one character per value."""
