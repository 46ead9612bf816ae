"""A long file that is its own clean text: it is read where it stands, and no copy of it is kept.

Whether it is, all cores find out in the same reading that surveys it. A file that is not goes the way of all others
(`decode.py`), which also says what is wrong with it.
"""

from __future__ import annotations

import codecs
import os
import unicodedata
from pathlib import Path

from chargen.config import DataConfig
from chargen.text.decode import stands_alone
from chargen.text.documents import NONE
from chargen.text.longtext import LongText
from chargen.text.parallel import WORTH_PROCESSES, Arrays
from chargen.text.reading import is_plain
from chargen.text.survey import counted, surveyed

BOM = "\ufeff".encode()
BEYOND_ASCII = bytes(range(128, 256))


def standing_text(argument: str, config: DataConfig) -> LongText | None:
    """Return a long file as the text that it is, or None: it is short, no plain UTF-8, or its clean form is another.

    Raises:
        CorpusError: it was changed while it was read.
    """
    plain = config.documents == NONE and codecs.lookup(config.encoding).name == "utf-8" and is_plain(argument)
    if not plain or not os.path.isfile(argument) or os.path.getsize(argument) < WORTH_PROCESSES:
        return None
    try:
        text = LongText.standing(Path(argument))
    except OSError:
        return None  # whoever reads it next says why
    survey = surveyed(text.blocks(_before_ascii), text.num_bytes, _looked_at, config.newline, config.normalize)
    if survey is None:
        return None
    text.survey = survey
    return text


def _before_ascii(block: bytes) -> int:
    """Return where to cut a block: before an ASCII character, which is never part of what stands before it."""
    return max(len(block.rstrip(BEYOND_ASCII)) - 1, 0) or len(block)


def _looked_at(block: bytes, newline: str, normalize: str) -> Arrays:
    """Count a block that cleaning leaves as it is; of another return nothing, nor of one that is cut amiss."""
    if b"\0" in block or block.startswith(BOM) or (newline == "lf" and b"\r" in block):
        return []
    if not block.isascii():
        try:
            text = block.decode()
        except UnicodeDecodeError:
            return []
        if normalize == "nfc" and not (stands_alone(text[0]) and unicodedata.is_normalized("NFC", text)):
            return []
    return counted(block)
