"""How a file stores the weights of a network: with fewer bits, and without rows of zeros."""
