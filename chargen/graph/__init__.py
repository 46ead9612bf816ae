"""A cell's equations as a graph of operators, and the back ends that run it."""
