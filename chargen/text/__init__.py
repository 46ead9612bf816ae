"""Text in, ids out: reading corpora, tokenizers, and the memory-mapped store."""
