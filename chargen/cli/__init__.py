"""The command line: one file per command, each a thin layer over `chargen.lm` and `chargen.training.run`."""
