"""Training on examples with targets, such as texts with labels: the loop, its reports and its state on the disk."""
