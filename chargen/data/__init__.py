"""Turn a text into token ids on disk and into training batches."""
