"""Benchmarks and checks that anyone can run again. LOG.md and RESULTS.md contain the measured results."""
