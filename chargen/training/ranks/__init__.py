"""Training on several processes ("ranks"), which `torchrun` starts: on the cores, GPUs and machines of a cluster."""
