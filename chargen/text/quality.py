"""What is odd about a text, with what to do about it: `chargen corpora check`.

The text is looked at as training would read it. Every look is one pass over its pieces, in bounded memory.

Passages that stand in a text twice, found by hashes of every stretch of WIDTH characters.

    h(i) = Σ_j c(i + j) Bʲ  mod 2⁶⁴,  j = 0 … WIDTH − 1

(Karp & Rabin 1987, with B odd, so that a difference of two prefix sums can be divided by Bⁱ.) Of a long text only those
stretches are kept whose hash falls into a small part of all: the same passage gives the same ones wherever it stands
(Manber 1994), so memory is bounded, and only shorter passages of a very long text are passed over.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.text.corpus import Corpus
from chargen.text.documents import MARK
from chargen.text.long_text import Span, code_points

RARE = 10  #: times: a character that stands in the text less often is hardly learned
MAX_SHOWN = 10  #: characters or places that a finding names
MUCH_REPEATED, SOME_SHARED = 0.05, 0.01  #: shares from which on they are worth a word
ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"
SEPARATORS = ("<|endoftext|>", "<|startoftext|>", "</s>", "[SEP]", "***", "---")  #: lines that often part documents
MIN_LINES = 100  #: from which on lines are worth a word
SHORT_LINE = 60


@dataclass(frozen=True)
class Finding:
    """One odd thing."""

    kind: str
    what: str
    advice: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The text in numbers."""

    chars: int
    bytes: int
    lines: int
    longest_line_chars: int
    median_line_chars: int
    blank_lines: int
    distinct_chars: int
    sha256: str


def check_quality(corpus: Corpus, val_fraction: float) -> tuple[Facts, list[Finding]]:
    """Look at a text from all sides.

    Args:
        corpus: the text.
        val_fraction: how much of its end will be held out.
    """
    text = corpus.content.span()
    facts, separators = _lines(text, corpus)
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _changes(corpus),
        lambda: _characters(text),
        lambda: _structure(facts, separators, text.text.documents),
        lambda: _repeats(text, val_fraction),
    ]
    return facts, [finding for look in looks for finding in look()]


def _lines(text: Span, corpus: Corpus) -> tuple[Facts, dict[str, int]]:
    """Count lines by length, and those that look like separators."""
    lengths = np.zeros(1, dtype=np.int64)
    separators = dict.fromkeys(SEPARATORS, 0)
    blank, held = 0, ""
    for piece in text.pieces():
        *lines, held = (held + piece).split("\n")
        if lines:
            counts = np.bincount([len(line) for line in lines])
            lengths = np.pad(lengths, (0, max(0, len(counts) - len(lengths))))
            lengths[: len(counts)] += counts
            blank += sum(not line.strip() for line in lines)
            for line in lines:
                if line in separators:
                    separators[line] += 1
    if held:
        lengths = np.pad(lengths, (0, max(0, len(held) + 1 - len(lengths))))
        lengths[len(held)] += 1
    survey = text.text.statistics
    middle = int(np.searchsorted(np.cumsum(lengths), lengths.sum() / 2))
    facts = Facts(
        chars=survey.num_chars,
        bytes=survey.num_bytes,
        lines=int(lengths.sum()),
        longest_line_chars=int(np.flatnonzero(lengths).max(initial=0)),
        median_line_chars=middle,
        blank_lines=blank,
        distinct_chars=int((text.counts() > 0).sum()),
        sha256=corpus.sha256,
    )
    return facts, {line: count for line, count in separators.items() if count}


def _changes(corpus: Corpus) -> Iterator[Finding]:
    for note in corpus.notes:
        yield Finding("cleaned", note, "Training reads it so; nothing to do.")


def _characters(text: Span) -> Iterator[Finding]:
    counts = text.counts()
    codes = [int(code) for code in np.flatnonzero(counts)]
    control = [c for c in codes if unicodedata.category(chr(c)) in ("Cc", "Cn", "Co") and chr(c) not in "\n\t" + MARK]
    hidden = [c for c in codes if chr(c) in ZERO_WIDTH]
    rare = [c for c in codes if counts[c] < RARE and c not in control and c not in hidden]
    kinds = (
        ("control", control, "control or unassigned characters", "Take them out, unless the text means them."),
        (
            "zero-width",
            hidden,
            "characters without width",
            "Nobody sees them, and the model learns them: take them out.",
        ),
        (
            "rare",
            rare,
            f"characters seen under {RARE} times",
            "Few examples: replace what is a slip or a stray symbol.",
        ),
    )
    for kind, found, what, advice in kinds:
        if found:
            total = int(counts[found].sum())
            places = _first_places(text, sorted(found, key=lambda c: int(counts[c]))[:MAX_SHOWN])
            named = [f"{_name(c)}: {int(counts[c]):,} ×, first in {place}" for c, place in places]
            yield Finding(kind, f"{len(found):,} {what}, {total:,} in all", advice, tuple(named))
    if text.text.statistics.num_chars and (letters := [c for c in codes if unicodedata.combining(chr(c))]):
        marks, base = int(counts[letters].sum()), sum(_is_composed(chr(c)) for c in codes)
        if base and marks:
            what = f"{marks:,} combining marks beside {base:,} kinds of composed letters"
            yield Finding("mixture", what, "If one letter is written in two ways, leave --normalize at nfc.")


def _is_composed(char: str) -> bool:
    return unicodedata.normalize("NFD", char) != char


def _first_places(text: Span, codes: list[int]) -> list[tuple[int, str]]:
    """Return (character, "line 12, column 3") of the first place where each stands."""
    left, places, line, column = set(map(chr, codes)), {}, 1, 1
    for piece in text.pieces():
        while left and (found := re.search(f"[{re.escape(''.join(left))}]", piece)):
            before = piece[: found.start()]
            line, column = _moved(line, column, before)
            places[found.group()] = f"line {line:,}, column {column:,}"
            left.discard(found.group())
            piece = piece[found.start() :]
        line, column = _moved(line, column, piece)
        if not left:
            break
    return [(code, places[chr(code)]) for code in codes if chr(code) in places]


def _moved(line: int, column: int, text: str) -> tuple[int, int]:
    breaks = text.count("\n")
    return line + breaks, len(text) - text.rfind("\n") if breaks else column + len(text)


def _name(code: int) -> str:
    char = chr(code)
    shown = f"{char!r} " if char.isprintable() else ""
    return f"{shown}U+{code:04X} {unicodedata.name(char, '')}".strip()


def _structure(facts: Facts, separators: dict[str, int], documents: bool) -> Iterator[Finding]:
    if documents:
        return
    for line, count in separators.items():
        if count > 1:
            yield Finding("documents", f"{count:,} lines are {line!r}", f"If it parts documents: --documents {line!r}.")
    if facts.lines >= MIN_LINES and facts.median_line_chars <= SHORT_LINE and not facts.blank_lines:
        what = f"{facts.lines:,} short lines and no blank one: a list, perhaps (names, words)"
        yield Finding("documents", what, "If each line is an item of its own: --documents line.")
    if facts.lines == 1 and facts.chars > 10_000:
        yield Finding("structure", "the text is one line", "A sentence begins after a newline; put some in.")


def _repeats(text: Span, val_fraction: float) -> Iterator[Finding]:
    share = repeated_share(text)
    if share > MUCH_REPEATED:
        what = f"{share:.0%} of the text stands in it more than once, in passages of {WIDTH} characters or more"
        yield Finding("repeated", what, "What is repeated is learned by heart: keep one copy of each passage.")
    begin = int(text.num_chars * (1 - val_fraction))
    if 0 < begin < text.num_chars:
        learned, held_out = (Span(text.text, *places) for places in ((0, begin), (begin, text.num_chars)))
        both = shared(learned, Span(text.text, begin, min(held_out.end, begin + 200_000)))
        if both.share > SOME_SHARED:
            what = (
                f"{both.share:.0%} of what will be held out stands in the training part too (in {WIDTH}s of characters)"
            )
            advice = "Validation will look better than it is: give a text of its own with --val."
            yield Finding("leak", what, advice, (repr(both.example.replace(MARK, "\n")),))


WIDTH = 100  #: characters of a stretch
MAX_KEPT = 1 << 20  #: hashes
BASE = 0x9E3779B97F4A7C15  #: odd
INVERSE = pow(BASE, -1, 1 << 64)


@dataclass(frozen=True)
class Shared:
    """Passages that stand both in a text and in what is held out of it."""

    share: float  #: of the held-out characters
    example: str


def hashes(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hash of the WIDTH characters from every place on, [N − WIDTH + 1]."""
    N = len(codes)
    if N < WIDTH:
        return np.zeros(0, dtype=np.uint64)
    sums = np.zeros(N + 1, dtype=np.uint64)
    np.cumsum(codes * _powers(BASE, N), out=sums[1:])
    windows: NDArray[np.uint64] = (sums[WIDTH:] - sums[:-WIDTH]) * _powers(INVERSE, N - WIDTH + 1)
    mixed: NDArray[np.uint64] = windows ^ (windows >> np.uint64(29))  # the low bits alone say little
    return mixed


def repeated_share(text: Span) -> float:
    """Return the share of a text's stretches of WIDTH characters that stand in it more than once, about."""
    keep = max(1, text.num_chars // MAX_KEPT)
    kept = [found[found % np.uint64(keep) == 0] for _, found in _hashed(text)]
    every = np.concatenate(kept) if kept else np.zeros(0, dtype=np.uint64)
    if not len(every):
        return 0.0
    _, counts = np.unique(every, return_counts=True)
    return float(counts[counts > 1].sum() / len(every))


def shared(text: Span, held_out: Span) -> Shared:
    """Return how much of what is held out stands in the text too, looked at in blocks of WIDTH characters.

    A shared passage of twice that length holds a whole block, wherever it begins.
    """
    own = held_out.read()
    blocks = np.arange(0, len(own) - WIDTH + 1, WIDTH)
    if not len(blocks):
        return Shared(0.0, "")
    wanted = hashes(_codes(own))[blocks]
    found = np.zeros(len(blocks), dtype=bool)
    order = np.argsort(wanted)
    for place, some in _hashed(text):
        near = np.minimum(np.searchsorted(wanted, some, sorter=order), len(wanted) - 1)
        hits = np.flatnonzero(wanted[order[near]] == some)
        for block, hit in zip(*np.unique(order[near[hits]], return_index=True), strict=True):
            begin, there = blocks[block], place + int(hits[hit])
            if not found[block] and text.read(there, there + WIDTH) == own[begin : begin + WIDTH]:
                found |= wanted == wanted[block]
    example = own[blocks[found][0] :][:WIDTH] if found.any() else ""
    return Shared(float(found.mean()), example)


def _hashed(text: Span) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield (place, the hashes of the stretches that begin from there on), piece by piece."""
    place, rest = 0, ""
    for piece in text.pieces():
        whole = rest + piece
        found = hashes(_codes(whole))
        yield place, found
        place += len(found)
        rest = whole[len(found) :]


def _codes(text: str) -> NDArray[np.uint64]:
    return code_points(text).astype(np.uint64)


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """Return 1, base, base², … mod 2⁶⁴."""
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    np.multiply.accumulate(powers, out=powers)
    return powers
