"""From files to rows: text, JSON lines, CSV and Parquet, divided into slices."""
