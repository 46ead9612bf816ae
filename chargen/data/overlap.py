"""What a text repeats, and what two texts have in common.

Repeated passages are found by the hashes of all windows of WIDTH characters (`hashing.py`). Of a long text only a
sample is kept: the hashes that are multiples of a number. The same passage has the same sampled hashes wherever it
occurs (Manber 1994), so memory is bounded, and only short repeated passages of a very long text can be missed.

Documents may be shorter than a window. They are compared as wholes, by one 64-bit hash each. A separate validation text
is compared line by line, which is fast enough for every start of a training run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.schema import format_count
from chargen.text.documents import MARK
from chargen.text.hashing import Hashes, hash_windows, read_overlapping, to_uint64_codes
from chargen.text.long_text import TextPart

WIDTH = 100  #: characters of a window
MAX_SAMPLED_HASHES = 1 << 20
FILTER_BITS = 16  #: low bits of a hash by which `find_shared` excludes most windows, before it searches


@dataclass(frozen=True)
class Shared:
    """Passages that are both in a text and in the text that is held out from it."""

    share: float  #: share of the held-out characters
    example: str


def repeated_share(text: TextPart) -> float:
    """Return which share of the text's windows of WIDTH characters occur more than once, estimated for long texts."""
    step = np.uint64(max(1, text.num_chars // MAX_SAMPLED_HASHES))
    samples = [hashes[hashes % step == 0] for _, hashes in _window_hashes(text)]
    sampled = np.concatenate(samples) if samples else np.zeros(0, dtype=np.uint64)
    if not len(sampled):
        return 0.0
    _, counts = np.unique(sampled, return_counts=True)
    return float(counts[counts > 1].sum() / len(sampled))


def find_shared(text: TextPart, held_out: TextPart) -> Shared:
    """Return how much of the held-out text is also in the text, compared in blocks of WIDTH characters.

    A shared passage of twice that length contains a whole block, wherever it begins.
    """
    held_out_text = held_out.read()
    blocks = np.arange(0, len(held_out_text) - WIDTH + 1, WIDTH)
    if not len(blocks):
        return Shared(0.0, "")
    wanted = hash_windows(to_uint64_codes(held_out_text), [WIDTH])[0][blocks]
    order = np.argsort(wanted)
    low_bits = np.uint64((1 << FILTER_BITS) - 1)
    has_low_bits = np.zeros(1 << FILTER_BITS, dtype=bool)
    has_low_bits[wanted & low_bits] = True
    is_shared = np.zeros(len(blocks), dtype=bool)
    for position, all_hashes in _window_hashes(text):
        candidates = np.flatnonzero(has_low_bits[all_hashes & low_bits])
        hashes = all_hashes[candidates]
        nearest = order[np.minimum(np.searchsorted(wanted, hashes, sorter=order), len(wanted) - 1)]
        matches = np.flatnonzero(wanted[nearest] == hashes)
        for block, match in zip(*np.unique(nearest[matches], return_index=True), strict=True):
            begin = blocks[block]
            start = position + int(candidates[matches[match]])
            if not is_shared[block] and text.read(start, start + WIDTH) == held_out_text[begin : begin + WIDTH]:
                is_shared |= wanted == wanted[block]
    example = held_out_text[blocks[is_shared][0] :][:WIDTH] if is_shared.any() else ""
    return Shared(float(is_shared.mean()), example)


def _window_hashes(text: TextPart) -> Iterator[tuple[int, Hashes]]:
    """Yield (a position, the hashes of the windows of WIDTH characters that begin from there on), piece by piece."""
    for position, piece in read_overlapping(text, lambda: WIDTH - 1):
        yield position, hash_windows(to_uint64_codes(piece), [WIDTH])[0]


def document_hashes(text: TextPart) -> NDArray[np.int64]:
    """Return a hash of each complete document of a text, [documents]. Other processes compute other hashes."""
    hashes = [np.zeros(0, dtype=np.int64)]
    pending: list[str] = []  # pieces of a document that is not complete
    for piece in text.pieces():
        first, *others = piece.split(MARK)
        pending.append(first)
        if others:
            documents = ["".join(pending), *others[:-1]]
            hashes.append(np.fromiter(map(hash, documents), dtype=np.int64, count=len(documents)))
            pending = [others[-1]]
    return np.concatenate(hashes)


def _stripped_lines(text: TextPart, max_chars: int) -> Iterator[list[str]]:
    """Yield the lines of a text without the white space around them, for each piece of the text those that end in it.

    The whole text can be a single line that is longer than memory. So not much more than `max_chars` characters of a
    line are kept.

    Args:
        text: The text.
        max_chars: Of a line with more characters, something else is yielded: "", or a part that is also longer.
    """
    parts: list[str] = []  # of the incomplete line, without the white space before it
    num_chars = 0  # of the parts
    is_too_long = False  # whether something other than white space follows the parts
    for piece in text.pieces():
        first, *others = piece.split("\n")
        if num_chars <= max_chars:
            first = first if num_chars else first.lstrip()
            parts.append(first)
            num_chars += len(first)
        elif first.strip():
            is_too_long = True
        if others:
            *complete, last = others
            yield ["" if is_too_long else "".join(parts).strip(), *map(str.strip, complete)]
            last = last.lstrip()
            parts, num_chars, is_too_long = [last], len(last), False
    yield ["" if is_too_long else "".join(parts).strip()]


MIN_LINE_CHARS = 20  #: shorter lines of two texts are often equal by chance
MIN_SHARED_LINES = 0.1  #: share of common lines from which on there is a message
MAX_BLOCK_CHARS = 1 << 24  #: how much of a training text is searched for a validation text without lines


def describe_overlap(train: TextPart, val: TextPart) -> str:
    """Return which share of a validation text is also in the training text; "" if it is small.

    Args:
        train: The training text.
        val: A validation text that is not a part of the corpus. It is kept in memory.
    """
    what = "so the validation loss also measures what the model memorized"
    if val.text.statistics.sha256 == train.text.statistics.sha256:
        return f"the validation text is the training text, all {format_count(val.num_chars, 'character')} of it, {what}"
    if val.text.has_documents:
        hashes = document_hashes(val)
        num_shared, num_parts, noun = int(np.isin(hashes, document_hashes(train)).sum()), len(hashes), "document"
    else:
        lines = [line.strip() for line in val.read().split("\n") if line.strip()]
        if len(lines) == 1:
            share = find_shared(train.text.span(0, min(MAX_BLOCK_CHARS, train.num_chars)), val).share
            if share >= MIN_SHARED_LINES:
                return f"{share:.0%} of the validation text is also in the training text, {what}"
        lines = [line for line in lines if len(line) >= MIN_LINE_CHARS] or lines
        wanted = set(lines)
        found: set[str] = set()
        for train_lines in _stripped_lines(train, max(map(len, wanted), default=0)):
            found |= wanted.intersection(train_lines)
        num_shared, num_parts, noun = sum(line in found for line in lines), len(lines), "line"
    if num_shared < MIN_SHARED_LINES * num_parts or not num_shared:
        return ""
    parts = format_count(num_parts, f"{noun} of the validation text", f"{noun}s of the validation text")
    return f"{num_shared:,} of {parts} {'is' if num_shared == 1 else 'are'} also in the training text, {what}"
