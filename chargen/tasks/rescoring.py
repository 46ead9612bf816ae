"""Rescore N-best lists: the texts that a translator or a speech recogniser proposes, each with a total, best first.

The new total is the given total plus a weight times the model's log p of the text. Lists come in two formats:

    moses   id ||| text ||| features ||| total [||| more …]     one list: consecutive lines with the same id
    kaldi   utt-id[-n] text                                     one list: consecutive lines with the same utt-id
            utt-id[-n] cost                                     in other files, line by line: −log p, lower is better

A line is kept as it was given, so that the output differs from the input only in what was added. Several lists are
scored in one call, for speed; the memory does not grow with the size of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.scoring.scorer import Score
from chargen.tasks.tuning import Candidates, edit_distances, split_units

MOSES, KALDI = "moses", "kaldi"
SEPARATOR = "|||"
MAX_TOTAL = 1e100  #: limit of a total or a cost, so that no sum or product with a weight overflows
TOTAL, PER_CHAR = "total", "per-char"
BATCH_CHARS = 1 << 16  #: approximate number of characters that are scored in one call
MAX_ENDED_LISTS = 1 << 18  #: lists whose ids are remembered, in 30 MB, to find one that starts again
NUM_DECIMALS = 4  #: printed decimals of a value in nats: these are the same on every engine
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_KALDI_ID = re.compile(r"(.+)-[1-9][0-9]*")  # Kaldi numbers the texts of a list from 1


@dataclass(frozen=True)
class Hypothesis:
    """One line of a list."""

    line: str  #: the line as it was given, without its newline
    number: int  #: number of the line in its file, from 1
    list_id: str
    text: str  #: the text without white space at its start and end
    given: float  #: its total in the list, higher is better; 0 if there is none


@dataclass(frozen=True)
class ScoredHypothesis:
    """A hypothesis and its score by a model."""

    hypothesis: Hypothesis
    score: Score
    value: float  #: log p in nats, in total or per character, rounded to NUM_DECIMALS as it is printed

    def total(self, weight: float) -> float:
        """Return the new total: the given one plus weight × value."""
        return self.hypothesis.given + weight * self.value


def detect_format(lines: Iterator[str], where: str) -> tuple[str, Iterator[str]]:
    """Return (format of an N-best list, "moses" or "kaldi"; all of its lines). The first line tells the format.

    Raises:
        CorpusError: If there are no lines.
    """
    first = next(lines, None)
    if first is None:
        raise CorpusError(f"{where} is empty", "Give an N-best list with one hypothesis on each line.")
    return MOSES if SEPARATOR in first else KALDI, chain([first], lines)


def read_lists(
    lines: Iterable[str], where: str, list_format: str, costs: Sequence[tuple[str, Iterator[str]]] = ()
) -> Iterator[list[Hypothesis]]:
    """Yield the lists of a file, each with its hypotheses in their order. One list is in memory at a time.

    Args:
        lines: Lines of the file, without newlines.
        where: Name of the file in error messages.
        list_format: "moses" or "kaldi".
        costs: (name, lines) of each file of costs that belongs to a list in Kaldi's format, line by line.

    Raises:
        CorpusError: If a line does not have this format, a list starts again within MAX_ENDED_LISTS lists after its
            end, or a file of costs does not match the list.
    """
    parsed = _parse_moses(lines, where) if list_format == MOSES else _parse_kaldi(lines, where, costs)
    ended: dict[int, None] = {}  # hashes of the ids of the lists before, oldest first
    for list_id, group in groupby(parsed, key=lambda hypothesis: hypothesis.list_id):
        hypotheses = list(group)
        key = hash(list_id)
        if key in ended:
            raise CorpusError(
                f"{where}, line {hypotheses[0].number:,}: the list {list_id!r} starts again, but it has ended before",
                "Put all lines of a list one after the other.",
            )
        ended[key] = None
        if len(ended) > MAX_ENDED_LISTS:
            del ended[next(iter(ended))]
        yield hypotheses


def read_references(lines: Iterable[str], where: str, list_format: str) -> dict[str, str]:
    """Return the reference text of each list, by the id of the list.

    Args:
        lines: In Kaldi's format `utt-id text`; for Moses the text alone, where the first line belongs to the id 0.
        where: Name of the file in error messages.
        list_format: "moses" or "kaldi".

    Raises:
        CorpusError: If an id occurs twice, or a line has none.
    """
    references: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        list_id, text = (str(number - 1), line) if list_format == MOSES else _split_kaldi(line, where, number)
        if list_id in references:
            raise CorpusError(f"{where}, line {number:,}: {list_id!r} has a reference already", "Give each one once.")
        references[list_id] = text.strip()
    return references


def score_lists(
    lists: Iterable[list[Hypothesis]], score: Callable[[list[str]], list[Score]], by: str = TOTAL
) -> Iterator[list[ScoredHypothesis]]:
    """Yield the lists with their scores, in their order.

    Args:
        lists: As `read_lists` yields them.
        score: Returns the scores of texts, as `LanguageModel.score` does. Equal texts of a call are scored once.
        by: "total" for log p, or "per-char" for log p divided by the number of characters (by 1 for an empty text).
    """
    batch: list[list[Hypothesis]] = []
    num_chars = 0
    for hypotheses in lists:
        batch.append(hypotheses)
        num_chars += sum(len(hypothesis.text) for hypothesis in hypotheses)
        if num_chars >= BATCH_CHARS:
            yield from _score_batch(batch, score, by)
            batch, num_chars = [], 0
    if batch:
        yield from _score_batch(batch, score, by)


def best_hypothesis(scored: Sequence[ScoredHypothesis], weight: float) -> ScoredHypothesis:
    """Return the hypothesis with the highest new total; the first one wins a tie."""
    return max(scored, key=lambda one: one.total(weight))


def rank_hypotheses(scored: Sequence[ScoredHypothesis], weight: float) -> list[ScoredHypothesis]:
    """Return the hypotheses of a list by their new total, the highest first; ties keep their order."""
    return sorted(scored, key=lambda one: -one.total(weight))


def add_feature(hypothesis: Hypothesis, name: str, value: str, total: str) -> str:
    """Return a line in Moses' format with one more feature and another total; everything else is unchanged.

    Raises:
        CorpusError: If the line has a feature with this name already.
    """
    columns = hypothesis.line.split(SEPARATOR)
    features = columns[2]
    if f"{name}=" in features.split():
        raise CorpusError(
            f"line {hypothesis.number:,} has a feature {name}= already, and its total counts it",
            "Rescore the original list, or give another name: --feature NAME.",
        )
    stripped = features.rstrip()
    columns[2] = f"{stripped} {name}= {value}{features[len(stripped) :]}"
    columns[3] = columns[3].replace(columns[3].strip(), total)
    return SEPARATOR.join(columns)


def prepare_tuning(
    lists: Sequence[Sequence[ScoredHypothesis]], references: Mapping[str, str], where: str, error: str
) -> tuple[list[Candidates], int]:
    """Return (the lists as `tune_weight` takes them; the total length of their references in words or characters).

    Args:
        lists: Scored lists.
        references: Reference of each list, by its id.
        where: Name of the references in error messages.
        error: "wer" for word errors, or "cer" for character errors.

    Raises:
        CorpusError: If a list has no reference, a reference has no list, or all references are empty.
    """
    candidates = []
    num_units = 0
    used_ids = set()
    for scored in lists:
        first = scored[0].hypothesis
        if first.list_id not in references:
            raise CorpusError(
                f"{where} has no reference for the list {first.list_id!r} (line {first.number:,})",
                "In Kaldi's format a reference is `utt-id text`; in Moses' format line 1 belongs to the id 0.",
            )
        used_ids.add(first.list_id)
        reference = split_units(references[first.list_id], error)
        errors = edit_distances(reference, [split_units(one.hypothesis.text, error) for one in scored])
        given = np.array([one.hypothesis.given for one in scored])
        candidates.append(Candidates(given, np.array([one.value for one in scored]), errors))
        num_units += len(reference)
    unused = [list_id for list_id in references if list_id not in used_ids]
    if unused:
        have = format_count(len(unused), "reference has", "references have")
        raise CorpusError(
            f"{where}: {have} no list; the first is that of {unused[0]!r}",
            "An error rate counts all references: give a list for each of them, or remove those without one.",
        )
    if not num_units:
        raise CorpusError(f"the references in {where} are empty", "An error rate is relative to the references.")
    return candidates, num_units


def _parse_moses(lines: Iterable[str], where: str) -> Iterator[Hypothesis]:
    for number, line in enumerate(lines, start=1):
        columns = line.split(SEPARATOR)
        if len(columns) < 4:
            raise _malformed(
                where,
                number,
                f"{format_count(len(columns), 'column')}, not `id ||| text ||| features ||| total`",
                "or --format kaldi",
            )
        if not columns[0].strip():
            raise _malformed(where, number, "no id before its first |||", "the id names the list")
        total = _parse_number(columns[3].strip(), where, number, "total")
        yield Hypothesis(line, number, columns[0].strip(), columns[1].strip(), total)


def _parse_kaldi(lines: Iterable[str], where: str, costs: Sequence[tuple[str, Iterator[str]]]) -> Iterator[Hypothesis]:
    number = 0
    for number, line in enumerate(lines, start=1):
        name, text = _split_kaldi(line, where, number)
        given = -sum(_parse_cost(name, next(cost_lines, None), file, number) for file, cost_lines in costs)
        list_id = _KALDI_ID.sub(r"\1", name) if _KALDI_ID.fullmatch(name) else name
        yield Hypothesis(line, number, list_id, text, given)
    for file, cost_lines in costs:
        if next(cost_lines, None) is not None:
            raise CorpusError(f"{file} has more than the {number:,} lines of {where}", "They must match line by line.")


def _parse_cost(name: str, line: str | None, where: str, number: int) -> float:
    if line is None:
        raise CorpusError(f"{where} ends before line {number:,}, {name!r}", "It must match the list line by line.")
    cost_id, cost = _split_kaldi(line, where, number)
    if cost_id != name:
        raise _malformed(where, number, f"the id {cost_id!r}, but the list has {name!r} there", "in the same order")
    return _parse_number(cost, where, number, "cost")


def _split_kaldi(line: str, where: str, number: int) -> tuple[str, str]:
    """Return (id, the rest) of a line in Kaldi's format."""
    name, *rest = re.split(r"[ \t\r]+", line.strip(" \t\r"), maxsplit=1)
    if not name:
        raise _malformed(where, number, "no id", "a line starts with an id")
    return name, "".join(rest).strip()


def _parse_number(text: str, where: str, number: int, what: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else float("inf")
    if abs(value) > MAX_TOTAL:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        problem = f"the {what} {shown!r}, which is not a finite number within ±{MAX_TOTAL:g}"
        raise _malformed(where, number, problem, "as in -12.5")
    return value


def _malformed(where: str, number: int, problem: str, remedy: str) -> CorpusError:
    return CorpusError(f"{where}, line {number:,} has {problem}", f"Correct that line ({remedy}).")


def _score_batch(
    lists: list[list[Hypothesis]], score: Callable[[list[str]], list[Score]], by: str
) -> Iterator[list[ScoredHypothesis]]:
    texts = list(dict.fromkeys(hypothesis.text for hypotheses in lists for hypothesis in hypotheses))
    scores = dict(zip(texts, score(texts), strict=True))
    for hypotheses in lists:
        yield [ScoredHypothesis(one, scores[one.text], _value(scores[one.text], by)) for one in hypotheses]


def _value(score: Score, by: str) -> float:
    count = 1 if by == TOTAL else max(1, score.chars)
    return round(score.log_prob_nats / count, NUM_DECIMALS)
