"""Ids in, batches out."""
