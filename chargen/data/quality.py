"""Quality check of a text: `chargen corpora check` reports what is unusual about it, and what to do.

The text is checked as training would read it. Each check is one pass over its pieces, in bounded memory.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.data.held_out import document_ends, hold_out
from chargen.data.overlap import WIDTH, document_hashes, find_shared, repeated_share
from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.text.corpus import Corpus
from chargen.text.documents import MARK
from chargen.text.long_text import LongText, TextPart

RARE_COUNT = 10  #: a character that occurs less often than this is hardly learned
MAX_SHOWN = 10  #: limit of the characters that a finding names
MAX_REPEATED_SHARE, MAX_SHARED_SHARE = 0.05, 0.01  #: shares of repeated text above which there is a finding
ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"
SEPARATORS = ("<|endoftext|>", "<|startoftext|>", "</s>", "[SEP]", "***", "---")  #: lines that often separate documents
MAX_SEPARATOR_CHARS = max(map(len, SEPARATORS))
MIN_LINES = 100  #: a text with fewer lines is not reported as a list
MAX_SHORT_LINE_CHARS = 60  #: median line length up to which a text can be a list
MAX_SINGLE_LINE_CHARS = 10_000  #: a longer text that is one line is reported
MAX_LIST_CHARS = 1 << 20  #: how much of a text is read to see whether it is a list


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
    documents: int | None  #: None for a continuous text
    repeated_documents: int | None  #: documents that are equal to an earlier one; None for a continuous text
    sha256: str  #: hash of the UTF-8 bytes of the clean text


def check_quality(corpus: Corpus, config: DataConfig) -> tuple[TextSummary, list[Finding]]:
    """Return the sizes of a text, and everything unusual about it.

    Args:
        corpus: The text. Sizes and positions are those of `corpus.original`, if it was kept.
        config: How training will split the text into documents and hold out a part of it.
    """
    content = corpus.content
    text = (corpus.original or content).span()
    hashes = document_hashes(content.span()) if content.has_documents else None
    summary, separators = _summarize(text, hashes)
    findings = [Finding("cleaned", note, "Training reads the changed text; nothing to do.") for note in corpus.notes]
    findings += [Finding("repeated", note, "Name each file once.") for note in corpus.repeated_files]
    findings += _check_characters(text)
    if hashes is not None:
        findings += _check_documents(content, hashes)
    else:
        findings += _check_structure(text, summary, separators)
    # A generated text whose entropy is known may repeat itself: the loss is compared with the entropy.
    if corpus.entropy_nats_per_char is None:
        findings += _check_repetition(text)
        findings += _check_leak(content, config)
    return summary, findings


def _summarize(text: TextPart, hashes: NDArray[np.int64] | None) -> tuple[TextSummary, dict[str, int]]:
    """Return the sizes of a text, and how often each line that may separate documents occurs."""
    lengths: Counter[int] = Counter()  # number of lines by length
    separators = dict.fromkeys(SEPARATORS, 0)
    num_blank = 0
    # Of the line that is not complete: its length, whether it has only white space, and its first characters. The whole
    # text can be a single line that is longer than memory.
    size, is_blank, start = 0, True, ""
    for piece in text.pieces():
        first, *others = piece.split("\n")
        size += len(first)
        is_blank = is_blank and not first.strip()
        start = (start + first)[: MAX_SEPARATOR_CHARS + 1]
        if others:
            *complete, last = others
            lengths.update([size, *map(len, complete)])
            num_blank += is_blank + sum(not line.strip() for line in complete)
            for line in (start, *complete):
                if line in separators:
                    separators[line] += 1
            size, is_blank, start = len(last), not last.strip(), last[: MAX_SEPARATOR_CHARS + 1]
    if size:
        lengths[size] += 1
    statistics = text.text.statistics
    summary = TextSummary(
        chars=statistics.num_chars,
        bytes=statistics.num_bytes,
        lines=lengths.total(),
        longest_line_chars=max(lengths, default=0),
        median_line_chars=_median(lengths),
        blank_lines=num_blank,
        distinct_chars=int((text.counts() > 0).sum()),
        documents=None if hashes is None else len(hashes),
        repeated_documents=None if hashes is None else len(hashes) - len(np.unique(hashes)),
        sha256=statistics.sha256,
    )
    return summary, {line: count for line, count in separators.items() if count}


def _median(counts: Counter[int]) -> int:
    """Return the median of numbers, given how often each occurs: the lower of two medians; 0 if there are none."""
    half = counts.total() / 2
    num_lower = 0
    for number in sorted(counts):
        num_lower += counts[number]
        if num_lower >= half:
            return number
    return 0


def _check_characters(text: TextPart) -> Iterator[Finding]:
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
    kind: str, text: TextPart, counts: NDArray[np.int64], codes: list[int], what: tuple[str, str], advice: str
) -> Finding:
    """Return a finding about some characters, which names the rarest of them with their first positions."""
    rarest = sorted(codes, key=lambda c: int(counts[c]))[:MAX_SHOWN]
    examples = [
        f"{_name(c)}: {int(counts[c]):,} ×, first in {position}" for c, position in _first_positions(text, rarest)
    ]
    if len(codes) > len(rarest):
        examples.append(f"… and {len(codes) - len(rarest):,} more")
    return Finding(
        kind, f"{format_count(len(codes), *what)}, {int(counts[codes].sum()):,} in total", advice, tuple(examples)
    )


def _is_composed(char: str) -> bool:
    return unicodedata.normalize("NFD", char) != char


def _first_positions(text: TextPart, codes: list[int]) -> list[tuple[int, str]]:
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


def _check_structure(text: TextPart, summary: TextSummary, separators: dict[str, int]) -> Iterator[Finding]:
    for line, count in separators.items():
        if count > 1:
            what = f"{count:,} lines are {line!r}"
            yield Finding("documents", what, f"If this line separates documents: --documents {line!r}.")
    if not summary.blank_lines and (what := describe_list(text)):
        yield Finding("documents", what, "If each line is a separate item: --documents line.")
    if summary.lines == 1 and summary.chars > MAX_SINGLE_LINE_CHARS:
        advice = "The model learns from newlines where a sentence can start: add some."
        yield Finding("structure", "the text is one line", advice)


def describe_list(text: TextPart) -> str:
    """Return the properties by which a continuous text is probably a list of names or words; "" if it is not.

    Only the first MAX_LIST_CHARS characters are read.
    """
    lines = text.read(0, MAX_LIST_CHARS).split("\n")
    lines = lines[:-1] if not lines[-1] or text.num_chars > MAX_LIST_CHARS else lines
    if len(lines) < MIN_LINES or not all(map(str.strip, lines)):
        return ""
    median = sorted(map(len, lines))[len(lines) // 2]
    if median > MAX_SHORT_LINE_CHARS:
        return ""
    counts = text.counts()
    num_lines = max(len(lines), int(counts[ord("\n")]))
    order = ", in sorted order" if lines == sorted(lines) else ""
    median_chars = format_count(median, "character")
    return f"{num_lines:,} short lines (median {median_chars}{order}) and no blank line: perhaps a list (names, words)"


def _check_documents(content: LongText, hashes: NDArray[np.int64]) -> Iterator[Finding]:
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    share = float(counts[counts > 1].sum() / max(1, len(hashes)))
    if share <= MAX_REPEATED_SHARE:
        return
    ends = document_ends(content)
    places = []
    for k in np.argsort(-counts, kind="stable")[: min(MAX_SHOWN, int((counts > 1).sum()))].tolist():
        end = int(ends[first[k]]) - 1  # before its MARK
        begin = int(ends[first[k] - 1]) if first[k] else 0
        shown = content.read(begin, min(end, begin + MAX_SHORT_LINE_CHARS))
        places.append(f"{shown!r}{'…' if len(shown) < end - begin else ''}: {int(counts[k]):,} ×")
    what = f"{share:.0%} of the {len(hashes):,} documents occur more than once"
    yield Finding("repeated", what, "If they are copies, keep one of each.", tuple(places))


def _check_repetition(text: TextPart) -> Iterator[Finding]:
    share = repeated_share(text)
    if share > MAX_REPEATED_SHARE:
        what = f"{share:.0%} of the text occurs in it more than once, in passages of {WIDTH} characters or more"
        yield Finding("repeated", what, "A model memorizes repeated passages: keep one copy of each.")


def _check_leak(content: LongText, config: DataConfig) -> Iterator[Finding]:
    try:
        train, held_out = hold_out(content, config)
    except CorpusError as error:
        yield Finding("structure", error.message, error.hint)
        return
    advice = "The validation loss will be too low: give a separate validation text with --val."
    if content.has_documents:
        both = np.isin(document_hashes(held_out), document_hashes(train))
        if len(both) and both.mean() > MAX_SHARED_SHARE:
            what = f"{both.mean():.0%} of the {len(both):,} held-out documents are also in the training part"
            yield Finding("leak", what, advice)
            return
    passages = find_shared(train, held_out)
    if passages.share > MAX_SHARED_SHARE:
        what = (
            f"{passages.share:.0%} of the held-out part is also in the training part (in blocks of {WIDTH} characters)"
        )
        yield Finding("leak", what, advice, (repr(passages.example.replace(MARK, "\n")),))
