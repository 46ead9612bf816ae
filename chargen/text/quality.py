"""Quality check of a text: `chargen corpora check` reports what is unusual about it, and what to do.

The text is checked as training would read it. Each check is one pass over its pieces, in bounded memory.

Repeated passages are found by the hashes of all windows of WIDTH characters (`hashing.py`). Of a long text only a
sample is kept: the hashes that are multiples of a number. The same passage has the same sampled hashes wherever it
occurs (Manber 1994), so memory is bounded, and only short repeated passages of a very long text can be missed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.schema import format_count
from chargen.text.corpus import Corpus
from chargen.text.documents import MARK
from chargen.text.hashing import Hashes, hash_windows, read_overlapping, to_uint64_codes
from chargen.text.long_text import Span

RARE_COUNT = 10  #: a character that occurs less often than this is hardly learned
MAX_SHOWN = 10  #: limit of the characters that a finding names
MAX_REPEATED_SHARE, MAX_SHARED_SHARE = 0.05, 0.01  #: shares of repeated text above which there is a finding
ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"
SEPARATORS = ("<|endoftext|>", "<|startoftext|>", "</s>", "[SEP]", "***", "---")  #: lines that often separate documents
MIN_LINES = 100  #: a text with fewer lines is not reported as a list
MAX_SHORT_LINE_CHARS = 60  #: median line length up to which a text can be a list
MAX_SINGLE_LINE_CHARS = 10_000  #: a longer text that is one line is reported
MAX_LEAK_CHARS = 200_000  #: how much of the held-out part is compared with the training part


@dataclass(frozen=True)
class Finding:
    """One unusual property of a text."""

    kind: str
    what: str
    advice: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSummary:
    """Sizes of a text."""

    chars: int
    bytes: int
    lines: int
    longest_line_chars: int
    median_line_chars: int
    blank_lines: int
    distinct_chars: int
    sha256: str


def check_quality(corpus: Corpus, val_fraction: float) -> tuple[TextSummary, list[Finding]]:
    """Return the sizes of a text, and everything unusual about it.

    Args:
        corpus: The text.
        val_fraction: Share of the text, from its end, that training will hold out.
    """
    text = corpus.content.span()
    summary, separators = _summarize(text, corpus)
    findings = [Finding("cleaned", note, "Training reads the changed text; nothing to do.") for note in corpus.notes]
    findings += _check_characters(text)
    findings += _check_structure(summary, separators, text.text.has_documents)
    findings += _check_repetition(text, val_fraction)
    return summary, findings


def _summarize(text: Span, corpus: Corpus) -> tuple[TextSummary, dict[str, int]]:
    """Return the sizes of a text, and how often each line that may separate documents occurs."""
    lengths = np.zeros(1, dtype=np.int64)  # number of lines by length
    separators = dict.fromkeys(SEPARATORS, 0)
    blank, last = 0, ""
    for piece in text.pieces():
        *lines, last = (last + piece).split("\n")
        if lines:
            counts = np.bincount([len(line) for line in lines])
            lengths = np.pad(lengths, (0, max(0, len(counts) - len(lengths))))
            lengths[: len(counts)] += counts
            blank += sum(not line.strip() for line in lines)
            for line in lines:
                if line in separators:
                    separators[line] += 1
    if last:
        lengths = np.pad(lengths, (0, max(0, len(last) + 1 - len(lengths))))
        lengths[len(last)] += 1
    statistics = text.text.statistics
    summary = TextSummary(
        chars=statistics.num_chars,
        bytes=statistics.num_bytes,
        lines=int(lengths.sum()),
        longest_line_chars=int(np.flatnonzero(lengths).max(initial=0)),
        median_line_chars=int(np.searchsorted(np.cumsum(lengths), lengths.sum() / 2)),
        blank_lines=blank,
        distinct_chars=int((text.counts() > 0).sum()),
        sha256=corpus.sha256,
    )
    return summary, {line: count for line, count in separators.items() if count}


def _check_characters(text: Span) -> Iterator[Finding]:
    counts = text.counts()
    codes = [int(code) for code in np.flatnonzero(counts)]
    control = [c for c in codes if unicodedata.category(chr(c)) in ("Cc", "Cn", "Co") and chr(c) not in "\n\t" + MARK]
    zero_width = [c for c in codes if chr(c) in ZERO_WIDTH]
    rare = [c for c in codes if counts[c] < RARE_COUNT and c not in control and c not in zero_width]
    if control:
        what = ("control or unassigned character", "control or unassigned characters")
        advice = "Remove them if the text does not need them."
        yield _character_finding("control", text, counts, control, what, advice)
    if zero_width:
        what = ("character without width", "characters without width")
        advice = "They are invisible, but the model learns them: remove them."
        yield _character_finding("zero-width", text, counts, zero_width, what, advice)
    if rare:
        times = f"fewer than {RARE_COUNT} times"
        what = (f"character that occurs {times}", f"characters that occur {times}")
        advice = "A model learns little from so few examples: replace errors and stray symbols."
        yield _character_finding("rare", text, counts, rare, what, advice)
    combining = [c for c in codes if unicodedata.combining(chr(c))]
    num_combining, num_composed = int(counts[combining].sum()), sum(_is_composed(chr(c)) for c in codes)
    if num_combining and num_composed:
        counted = format_count(num_combining, "combining mark")
        letters = format_count(num_composed, "distinct composed letter")
        advice = "The same letter may have two forms. --normalize nfc, the default, makes them one."
        yield Finding("mixture", f"{counted}, and {letters}", advice)


def _character_finding(
    kind: str, text: Span, counts: NDArray[np.int64], codes: list[int], what: tuple[str, str], advice: str
) -> Finding:
    """Return a finding about some characters, which names the rarest of them with their first positions."""
    rarest = sorted(codes, key=lambda c: int(counts[c]))[:MAX_SHOWN]
    examples = [
        f"{_name(c)}: {int(counts[c]):,} ×, first in {position}" for c, position in _first_positions(text, rarest)
    ]
    return Finding(
        kind, f"{format_count(len(codes), *what)}, {int(counts[codes].sum()):,} in total", advice, tuple(examples)
    )


def _is_composed(char: str) -> bool:
    return unicodedata.normalize("NFD", char) != char


def _first_positions(text: Span, codes: list[int]) -> list[tuple[int, str]]:
    """Return (code point, "line 12, column 3") for the first position of each character."""
    missing, positions = set(map(chr, codes)), {}
    line, column = 1, 1
    for piece in text.pieces():
        while missing and (match := re.search(f"[{re.escape(''.join(missing))}]", piece)):
            line, column = _advance(line, column, piece[: match.start()])
            positions[match.group()] = f"line {line:,}, column {column:,}"
            missing.discard(match.group())
            piece = piece[match.start() :]
        line, column = _advance(line, column, piece)
        if not missing:
            break
    return [(code, positions[chr(code)]) for code in codes if chr(code) in positions]


def _advance(line: int, column: int, text: str) -> tuple[int, int]:
    """Return the line and the column after a text."""
    newlines = text.count("\n")
    return line + newlines, len(text) - text.rfind("\n") if newlines else column + len(text)


def _name(code: int) -> str:
    char = chr(code)
    shown = f"{char!r} " if char.isprintable() else ""
    return f"{shown}U+{code:04X} {unicodedata.name(char, '')}".strip()


def _check_structure(summary: TextSummary, separators: dict[str, int], has_documents: bool) -> Iterator[Finding]:
    if has_documents:
        return
    for line, count in separators.items():
        if count > 1:
            what = f"{count:,} lines are {line!r}"
            yield Finding("documents", what, f"If this line separates documents: --documents {line!r}.")
    is_short = summary.median_line_chars <= MAX_SHORT_LINE_CHARS
    if summary.lines >= MIN_LINES and is_short and not summary.blank_lines:
        what = f"{summary.lines:,} short lines and no blank line: perhaps a list (names, words)"
        yield Finding("documents", what, "If each line is a separate item: --documents line.")
    if summary.lines == 1 and summary.chars > MAX_SINGLE_LINE_CHARS:
        advice = "The model learns from newlines where a sentence can start: add some."
        yield Finding("structure", "the text is one line", advice)


def _check_repetition(text: Span, val_fraction: float) -> Iterator[Finding]:
    share = repeated_share(text)
    if share > MAX_REPEATED_SHARE:
        what = f"{share:.0%} of the text occurs in it more than once, in passages of {WIDTH} characters or more"
        yield Finding("repeated", what, "A model memorizes repeated passages: keep one copy of each.")
    begin = int(text.num_chars * (1 - val_fraction))
    if 0 < begin < text.num_chars:
        train = Span(text.text, 0, begin)
        held_out = Span(text.text, begin, min(text.num_chars, begin + MAX_LEAK_CHARS))
        both = find_shared(train, held_out)
        if both.share > MAX_SHARED_SHARE:
            what = (
                f"{both.share:.0%} of the held-out part is also in the training part (in blocks of {WIDTH} characters)"
            )
            advice = "The validation loss will be too low: give a separate validation text with --val."
            yield Finding("leak", what, advice, (repr(both.example.replace(MARK, "\n")),))


WIDTH = 100  #: characters of a window
MAX_SAMPLED_HASHES = 1 << 20
FILTER_BITS = 16  #: low bits of a hash by which `find_shared` excludes most windows, before it searches


@dataclass(frozen=True)
class Shared:
    """Passages that are both in a text and in the text that is held out from it."""

    share: float  #: share of the held-out characters
    example: str


def repeated_share(text: Span) -> float:
    """Return which share of the text's windows of WIDTH characters occur more than once, estimated for long texts."""
    step = np.uint64(max(1, text.num_chars // MAX_SAMPLED_HASHES))
    samples = [hashes[hashes % step == 0] for _, hashes in _window_hashes(text)]
    sampled = np.concatenate(samples) if samples else np.zeros(0, dtype=np.uint64)
    if not len(sampled):
        return 0.0
    _, counts = np.unique(sampled, return_counts=True)
    return float(counts[counts > 1].sum() / len(sampled))


def find_shared(text: Span, held_out: Span) -> Shared:
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


def _window_hashes(text: Span) -> Iterator[tuple[int, Hashes]]:
    """Yield (a position, the hashes of the windows of WIDTH characters that begin from there on), piece by piece."""
    for position, piece in read_overlapping(text, lambda: WIDTH - 1):
        yield position, hash_windows(to_uint64_codes(piece), [WIDTH])[0]
