"""N-best lists: what a translator or a recogniser hesitated between, best first by its own account.

    moses   id ||| text ||| features ||| total [||| more …]     one list: lines that follow each other with one id
    kaldi   utt-id[-n] text                                     one list: the same, but for the n
            utt-id[-n] cost                                     beside it, in other files: −log p, lower is better

A line is kept as it was given, so that whatever is written again differs from it in nothing but what was added.

N-best lists scored by a model: the new total is the given one + weight × the model's value.

Several lists are scored in one call, for speed; what is in memory at once does not grow with the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import BinaryIO

import numpy as np

from chargen.errors import CorpusError
from chargen.scoring.scorer import Score
from chargen.tasks.tuning import Candidates, edit_distances, split_units
from chargen.text.limits import MAX_RECORD_BYTES, check_record

MOSES, KALDI = "moses", "kaldi"
SEPARATOR = "|||"
MAX_TOTAL = 1e100  #: of a total or cost: no sum or product with a weight overflows
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NTH = re.compile(r"(.+)-[1-9][0-9]*")  # Kaldi counts a list's texts from 1


@dataclass(frozen=True)
class Hypothesis:
    """One line of a list."""

    line: str  #: as it was given, without its newline
    number: int  #: of the line in its file, from 1
    list_id: str
    text: str  #: without the spaces around it
    given: float  #: the total that came with it, higher is better; 0 where none did


def read_lines(raw: BinaryIO, where: str) -> Iterator[str]:
    """Yield a file's lines as texts, without their newlines; only LF ends one.

    Raises:
        CorpusError: a line is not UTF-8, or too long to be held.
    """
    for number, line in enumerate(iter(lambda: raw.readline(MAX_RECORD_BYTES + 1), b""), start=1):
        check_record(len(line), f"{where}, line {number:,}")
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        try:
            yield line.removesuffix(b"\n").decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{where}, line {number:,} is not UTF-8 (byte {error.start + 1} of the line)",
                "Convert the file to UTF-8.",
            ) from error


def detect_format(lines: Iterator[str], where: str) -> tuple[str, Iterator[str]]:
    """Return (the form of an N-best list by its first line, all of the lines).

    Raises:
        CorpusError: there is none.
    """
    first = next(lines, None)
    if first is None:
        raise CorpusError(f"{where} is empty", "Give an N-best list, a hypothesis a line.")
    return MOSES if SEPARATOR in first else KALDI, chain([first], lines)


def read_lists(
    lines: Iterable[str], where: str, form: str, costs: Sequence[tuple[str, Iterator[str]]] = ()
) -> Iterator[list[Hypothesis]]:
    """Yield lists, each with its hypotheses, in the order of the file; no more of it is in memory than one list.

    Args:
        lines: of the file, without newlines.
        where: what to call it.
        form: "moses" or "kaldi".
        costs: names and lines of files that go with one in Kaldi's form, line by line.

    Raises:
        CorpusError: a line is not of this form, or a file of costs does not go with the list.
    """
    parsed = _moses(lines, where) if form == MOSES else _kaldi(lines, where, costs)
    for _, group in groupby(parsed, key=lambda hypothesis: hypothesis.list_id):
        yield list(group)


def read_references(lines: Iterable[str], where: str, form: str) -> dict[str, str]:
    """Return what each list should have said, by the list's id.

    Args:
        lines: of Kaldi's form `utt-id text`; of Moses' the text alone, the first line for the list 0.
        where: what to call the file.
        form: "moses" or "kaldi".

    Raises:
        CorpusError: an id comes twice, or a line has none.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        utterance, text = (str(number - 1), line) if form == MOSES else _two_columns(line, where, number)
        if utterance in found:
            raise CorpusError(f"{where}, line {number:,}: {utterance!r} has a reference already", "Give each one once.")
        found[utterance] = text.strip()
    return found


def add_feature(hypothesis: Hypothesis, name: str, value: str, total: str) -> str:
    """Return a line of Moses' form with one more feature and another total; all else as it was given.

    Raises:
        CorpusError: the line has a feature of this name.
    """
    columns = hypothesis.line.split(SEPARATOR)
    features = columns[2]
    if f"{name}=" in features.split():
        raise CorpusError(
            f"line {hypothesis.number:,} has a feature {name}= already, and its total counts it",
            "Rescore the list as it was before, or say --feature ANOTHER.",
        )
    bare = features.rstrip()
    columns[2] = f"{bare} {name}= {value}{features[len(bare) :]}"
    columns[3] = columns[3].replace(columns[3].strip(), total)
    return SEPARATOR.join(columns)


def _moses(lines: Iterable[str], where: str) -> Iterator[Hypothesis]:
    for number, line in enumerate(lines, start=1):
        columns = line.split(SEPARATOR)
        if len(columns) < 4:
            raise _malformed(
                where, number, f"{len(columns)} columns, not `id ||| text ||| features ||| total`", "or --format kaldi"
            )
        if not columns[0].strip():
            raise _malformed(where, number, "no id before its first |||", "which names its list")
        total = _number(columns[3].strip(), where, number, "total")
        yield Hypothesis(line, number, columns[0].strip(), columns[1].strip(), total)


def _kaldi(lines: Iterable[str], where: str, costs: Sequence[tuple[str, Iterator[str]]]) -> Iterator[Hypothesis]:
    number = 0
    for number, line in enumerate(lines, start=1):
        name, text = _two_columns(line, where, number)
        given = -sum(_cost(name, next(beside, None), file, number) for file, beside in costs)
        yield Hypothesis(line, number, _NTH.sub(r"\1", name) if _NTH.fullmatch(name) else name, text, given)
    for file, beside in costs:
        if next(beside, None) is not None:
            raise CorpusError(f"{file} has more than the {number:,} lines of {where}", "They go together line by line.")


def _cost(name: str, line: str | None, where: str, number: int) -> float:
    if line is None:
        raise CorpusError(f"{where} ends before line {number:,}, {name!r}", "It goes with the list line by line.")
    found, cost = _two_columns(line, where, number)
    if found != name:
        raise _malformed(where, number, f"the id {found!r}, but the list has {name!r} there", "in the same order")
    return _number(cost, where, number, "cost")


def _two_columns(line: str, where: str, number: int) -> tuple[str, str]:
    name, *rest = re.split(r"[ \t\r]+", line.strip(" \t\r"), maxsplit=1)
    if not name:
        raise _malformed(where, number, "no id", "which is what a line begins with")
    return name, "".join(rest).strip()


def _number(text: str, where: str, number: int, what: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else float("inf")
    if abs(value) > MAX_TOTAL:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise _malformed(
            where,
            number,
            f"the {what} {shown!r}, which is not a finite number within ±{MAX_TOTAL:g}",
            "as in -12.5",
        )
    return value


def _malformed(where: str, number: int, what: str, remedy: str) -> CorpusError:
    return CorpusError(f"{where}, line {number:,} has {what}", f"Mend that line ({remedy}).")


TOTAL, PER_CHAR = "total", "per-char"
CHARS = 1 << 16  #: of text, about, that are handed to the model at once
PLACES = 4  #: decimals of nats that a value has: as many as are the same on every engine


@dataclass(frozen=True)
class ScoredHypothesis:
    """A hypothesis and what a model says of it."""

    hypothesis: Hypothesis
    score: Score
    value: float  #: log p in nats, of the whole text or for each of its characters, rounded as it is printed

    def total(self, weight: float) -> float:
        """Return the new total."""
        return self.hypothesis.given + weight * self.value


def score_lists(
    lists: Iterable[list[Hypothesis]], score: Callable[[list[str]], list[Score]], by: str = TOTAL
) -> Iterator[list[ScoredHypothesis]]:
    """Yield the lists with their scores, in their order.

    Args:
        lists: as `read_lists` yields them.
        score: texts → scores, as `LanguageModel.score` does it. A text that comes several times is asked for once.
        by: "total" (log p) or "per-char" (log p over the characters; 0 for an empty text).
    """
    held: list[list[Hypothesis]] = []
    chars = 0
    for hypotheses in lists:
        held.append(hypotheses)
        chars += sum(len(hypothesis.text) for hypothesis in hypotheses)
        if chars >= CHARS:
            yield from _scored(held, score, by)
            held, chars = [], 0
    if held:
        yield from _scored(held, score, by)


def best_hypothesis(scored: Sequence[ScoredHypothesis], weight: float) -> ScoredHypothesis:
    """Return the hypothesis with the highest new total; of equals the first."""
    return max(scored, key=lambda one: one.total(weight))


def rank_hypotheses(scored: Sequence[ScoredHypothesis], weight: float) -> list[ScoredHypothesis]:
    """Return a list's hypotheses by their new total, the highest first; equals in their order."""
    return sorted(scored, key=lambda one: -one.total(weight))


def prepare_tuning(
    lists: Sequence[Sequence[ScoredHypothesis]], references: Mapping[str, str], where: str, error: str
) -> tuple[list[Candidates], int]:
    """Return (the lists as `tune_weight` takes them, the length of their references in words or characters).

    Args:
        lists: scored.
        references: by a list's id.
        where: what to call the references.
        error: "wer" or "cer".

    Raises:
        CorpusError: a list has no reference, or comes twice, or the references have no words.
    """
    made, length, seen = [], 0, set()
    for scored in lists:
        first = scored[0].hypothesis
        if first.list_id not in references:
            raise CorpusError(
                f"{where} has no reference for the list {first.list_id!r} (line {first.number:,})",
                "Kaldi's are `utt-id text`; Moses' a text a line, the first for the id 0.",
            )
        if first.list_id in seen:
            raise CorpusError(
                f"the list {first.list_id!r} begins again at line {first.number:,}", "Put the lines of a list together."
            )
        seen.add(first.list_id)
        reference = split_units(references[first.list_id], error)
        errors = edit_distances(reference, [split_units(one.hypothesis.text, error) for one in scored])
        given, value = np.array([one.hypothesis.given for one in scored]), np.array([one.value for one in scored])
        made.append(Candidates(given, value, errors))
        length += len(reference)
    if not length:
        raise CorpusError(f"the references in {where} are empty", "An error rate is of what should have been said.")
    return made, length


def _scored(
    lists: list[list[Hypothesis]], score: Callable[[list[str]], list[Score]], by: str
) -> Iterator[list[ScoredHypothesis]]:
    texts = list(dict.fromkeys(hypothesis.text for hypotheses in lists for hypothesis in hypotheses))
    scores = dict(zip(texts, score(texts), strict=True))
    for hypotheses in lists:
        yield [ScoredHypothesis(one, scores[one.text], _value(scores[one.text], by)) for one in hypotheses]


def _value(score: Score, by: str) -> float:
    per = 1 if by == TOTAL else max(1, score.chars)
    return round(score.log_prob_nats / per, PLACES)
