"""Measurements that anyone can run again; what they gave stands in LOG.md."""
