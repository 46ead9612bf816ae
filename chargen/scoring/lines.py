"""The ids of a text, line by line: what a model gives to a line when it reads the whole text.

A model of documents reads boundaries where the text has a separator. What ends a document counts with its last line,
and a line that is only a separator costs nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from chargen.text.documents import MARK, NONE, marked
from chargen.text.tokenizer import BOUNDARY_ID, Ids, Tokenizer


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, each with its newline; put end to end they are the text."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def line_ids(tokenizer: Tokenizer, documents: str, lines: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
    """Return (the ids of a text, [N]; the number of the line that each counts with, [N]).

    Args:
        tokenizer: the model's.
        documents: what a document is to the model, "none" for one running text.
        lines: of the text, newlines included, in the training text's form.
    """
    parts = enumerate(lines) if documents == NONE else _document_parts(lines, documents)
    ids, numbers = [], []
    for number, part in parts:
        found = np.array([BOUNDARY_ID], dtype=np.int32) if part == MARK else tokenizer.encode(part)
        ids.append(found)
        numbers.append(np.full(len(found), number))
    return np.concatenate(ids), np.concatenate(numbers)


def _document_parts(lines: Sequence[str], documents: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its line, text) for what each document has of each line, and a MARK where it ends."""
    text = "".join(lines)
    begins = [0, *accumulate(map(len, lines))]
    at = 0
    for document in "".join(marked([text], documents)).split(MARK)[:-1]:
        at = text.index(document, at)  # what stands between two is a separator
        end, number = at + len(document), bisect_right(begins, at) - 1
        while at < end:
            cut = min(end, begins[number + 1])
            yield number, text[at:cut]
            at, number = cut, number + 1
        yield number - 1, MARK
