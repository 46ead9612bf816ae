"""Applications of language models: rescoring N-best lists, and classifying texts."""
