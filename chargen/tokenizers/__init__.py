"""One tokenizer a file; the contract is in `chargen.tokenizers.tokenizer`."""
