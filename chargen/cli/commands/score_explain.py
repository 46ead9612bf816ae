"""The explanations of `chargen score`: --chars, --html and --suggest."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chargen.config import LN2
from chargen.errors import ChargenError
from chargen.schema import format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.cli.commands.score import ScoreArguments
    from chargen.lm import LanguageModel
    from chargen.probe.surprisal import CharSurprisal
    from chargen.scoring.edits import Suggestion
    from chargen.scoring.scorer import Score
    from chargen.ui.score_rows import RowPrinter

MAX_PAGE_CHARS = 100_000  # limit of the texts on a page together; such a page has 20 MB


class ExplanationLimits:
    """Counts the texts that are explained, and refuses what is too long for --suggest or --html."""

    def __init__(self, args: ScoreArguments) -> None:
        self._args = args
        self._num_texts = self._num_chars = 0

    def add(self, number: int, text: str) -> None:
        """Count a text that is explained.

        Args:
            number: Number of the text in the input, from 1.
            text: The text.

        Raises:
            ConfigError: If the text is too long for --suggest, or all of them together are too long for --html.
        """
        from chargen.errors import ConfigError
        from chargen.scoring.edits import MAX_CHARS

        self._num_texts += 1
        self._num_chars += len(text)
        if self._args.html and self._num_chars > MAX_PAGE_CHARS:
            raise ConfigError(
                f"a page may have at most {MAX_PAGE_CHARS:,} characters, and "
                f"{format_count(self._num_texts, 'text has', 'texts have')} {self._num_chars:,}",
                "Put fewer of them on the page, as with --worst 20; --chars has no such limit.",
            )
        if self._args.suggest and len(text) > MAX_CHARS:
            raise ConfigError(
                f"edits are suggested for at most {MAX_CHARS:,} characters, and text {number:,} has {len(text):,}",
                "Split it into parts, one per line.",
            )


def check_lengths(batches: Iterable[list[str]], args: ScoreArguments) -> Iterator[list[str]]:
    """Yield the batches of texts; where all of them are explained, stop at one that is too long, before it is scored.

    Raises:
        ConfigError: See `ExplanationLimits`.
    """
    if args.top or args.worst or args.min_bits is not None:  # `explain` checks those that are printed
        yield from batches
        return
    limits = ExplanationLimits(args)
    number = 0
    for batch in batches:
        for index, text in enumerate(batch):
            number += 1
            try:
                limits.add(number, text)
            except ChargenError:
                yield batch[:index]
                raise
        yield batch


def explain(
    lm: LanguageModel, rows: Iterable[tuple[int | None, int, Score]], args: ScoreArguments, print_row: RowPrinter
) -> None:
    """Print the requested explanations, text by text, and write the page; its texts have the order of the input.

    Args:
        lm: The model.
        rows: Tuples of the rank or None, the number of the input from 1, and the score with pieces.
        args: The arguments of the command.
        print_row: Function that prints a row, used where --html is the only explanation.

    Raises:
        ConfigError: If a text is too long for --suggest, or the page is too long.
        StorageError: If the page cannot be written.
    """
    pages: list[tuple[int, list[CharSurprisal], list[Suggestion]]] = []
    printer = ExplanationPrinter(lm, args) if args.chars or args.suggest else None
    limits = ExplanationLimits(args)
    for rank, number, score in rows:
        limits.add(number, score.text)
        suggestions = lm.suggest(score.text, context=args.context) if args.suggest else None
        if args.html:
            chars = list(lm.char_surprisals(score.text, context=args.context, score=score))
            pages.append((number, chars, suggestions or []))
        if printer:
            printer.show(rank, number, score, suggestions)
        else:
            print_row(rank, number, replace(score, pieces=None))
    if printer and printer.has_digits:  # on stderr, because programs read the two lines of each text
        from chargen.ui.heatmap import DIGITS

        say(f"note: {DIGITS}")
    if args.html:
        name = str(lm.checkpoint.about.get("corpus", "this model"))
        pages.sort(key=lambda page: page[0])
        suggested = [suggestions for _, _, suggestions in pages] if args.suggest else []
        _write_page(Path(args.html), [chars for _, chars, _ in pages], suggested, name)


def _write_page(path: Path, texts: list[list[CharSurprisal]], suggested: list[list[Suggestion]], name: str) -> None:
    from chargen.io import write_atomically
    from chargen.ui.heatmap import heat_page

    write_atomically(path, (piece.encode() for piece in heat_page(texts, f"a model of {name}", suggested)))
    say(f"note: the page is {path}")


class ExplanationPrinter:
    """Prints the characters and the suggestions of texts, one text after the other, in the form of the arguments."""

    def __init__(self, lm: LanguageModel, args: ScoreArguments) -> None:
        from chargen.ui.score_rows import CharRows

        self._lm = lm
        self._args = args
        self._print_chars = CharRows(sys.stdout.write)
        self._is_first = True
        self.has_digits = False  #: whether digits were printed for characters

    def show(self, rank: int | None, number: int, score: Score, suggestions: list[Suggestion] | None) -> None:
        """Print one text: `suggestions` is None without --suggest."""
        chars = list(self._lm.char_surprisals(score.text, num_guesses=0, score=score)) if self._args.chars else []
        if self._args.tsv:
            self._print_chars(rank, number, chars)
        elif self._args.as_json:
            self._print_json(rank, number, score, chars, suggestions)
        else:
            self._print_text(score, chars, suggestions)
        self._is_first = False
        sys.stdout.flush()

    def _print_json(
        self, rank: int | None, number: int, score: Score, chars: list[CharSurprisal],
        suggestions: list[Suggestion] | None,
    ) -> None:  # fmt: skip
        from chargen.ui.output import print_json
        from chargen.ui.score_rows import record

        values = record(rank, number, replace(score, pieces=None), self._args.words)
        if self._args.chars:
            values["characters"] = [char.to_json() for char in chars]
        if suggestions is not None:
            values["suggestions"] = [suggestion.to_json() for suggestion in suggestions]
        print_json(values)

    def _print_text(self, score: Score, chars: list[CharSurprisal], suggestions: list[Suggestion] | None) -> None:
        from rich.text import Text

        from chargen.ui.console import stdout_console
        from chargen.ui.heatmap import print_heat_map, visible
        from chargen.ui.tables import suggestion_table

        console = stdout_console()
        if not self._args.chars:
            console.print(Text(visible(score.text)), soft_wrap=True)
        else:
            self.has_digits |= print_heat_map(console, chars, self._is_first)
        numbers = [f"{format_number(-score.log_prob_nats / LN2, 2)} bits"]
        rates = [("char", score.bits_per_char), ("word", score.bits_per_word if self._args.words else None)]
        numbers += [f"{format_number(value, 3)} bits/{unit}" for unit, value in rates if value is not None]
        if chars or score.text:
            console.print(", ".join(numbers), style="dim")
        if suggestions:
            console.print(suggestion_table(suggestions))
        elif suggestions is not None:
            console.print("no single edit raises its probability")
