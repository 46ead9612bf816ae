"""Tokenizers: text ⇄ token ids, one file per tokenizer.

To add one: write `tokenizers/mine.py` with a subclass of `Tokenizer` (see `tokenizer.py`), and add its line here.
It can then be selected with `--tokenizer mine` or `--tokenizer mine:OPTION`, and is saved in model files like the
others. A tokenizer is imported when it is first used: loading sentencepiece is expensive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chargen.registry import Registry

if TYPE_CHECKING:
    from chargen.tokenizers.tokenizer import Tokenizer

TOKENIZERS: Registry[type[Tokenizer]] = Registry(
    "tokenizer",
    {
        "char": "chargen.tokenizers.char:CharTokenizer",
        "byte": "chargen.tokenizers.byte:ByteTokenizer",
        "mulaw": "chargen.tokenizers.mulaw:MuLawTokenizer",
        "sp": "chargen.tokenizers.sentencepiece:SentencePieceTokenizer",
    },
)

__all__ = ["TOKENIZERS"]
