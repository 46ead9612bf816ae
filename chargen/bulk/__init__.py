"""Bulk work: score or continue the rows of many files, in one process or on a Ray cluster, into Parquet parts."""
