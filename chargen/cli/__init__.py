"""The command line: one file a command, thin over `chargen.lm` and `chargen.training.run`."""
