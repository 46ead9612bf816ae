"""Applications of language models: rescoring n-best lists, and classification."""
