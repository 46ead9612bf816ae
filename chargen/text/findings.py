"""What the clean-up of texts changed, gathered so that ten thousand files give a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_NAMED = 3  #: texts that a kind of change names; of more it says how many there were


@dataclass
class Findings:
    """Changes by kind, in the order of the texts."""

    _line_ends: list[tuple[str, int]] = field(default_factory=list)
    _composed: list[tuple[str, int, int]] = field(default_factory=list)
    _left_out: list[str] = field(default_factory=list)

    def line_ends(self, where: str, count: int) -> None:
        """Count line ends that became LF."""
        self._line_ends.append((where, count))

    def composed(self, where: str, before: int, after: int) -> None:
        """Count the characters of a text before and after it was composed to NFC."""
        self._composed.append((where, before, after))

    def left_out(self, note: str) -> None:
        """Say what was passed over."""
        self._left_out.append(note)

    def add(self, others: Findings) -> None:
        """Add what was found of another text."""
        self._line_ends += others._line_ends
        self._composed += others._composed
        self._left_out += others._left_out

    def notes(self) -> tuple[str, ...]:
        """Return them as sentences."""
        ends = [(where, (count,)) for where, count in self._line_ends]
        composed = [(where, (before, after)) for where, before, after in self._composed]
        return (
            *_sentences(ends, "{:,} CR or CRLF line ends became LF (--newline keep leaves them)"),
            *_sentences(composed, "composed to NFC, {:,} → {:,} characters (--normalize none leaves them)"),
            *self._left_out,
        )


def _sentences(changes: Sequence[tuple[str, tuple[int, ...]]], form: str) -> list[str]:
    if len(changes) <= MOST_NAMED:
        return [f"{where}: {form.format(*numbers)}" for where, numbers in changes]
    totals = (sum(column) for column in zip(*(numbers for _, numbers in changes), strict=True))
    return [f"{len(changes):,} texts: {form.format(*totals)}"]
