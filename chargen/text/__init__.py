"""Files → clean Unicode text: readers, cleaning, documents, long texts, quality checks, built-in corpora."""
