"""Why a text scores as it does: what `chargen score` does with --chars, --html and --suggest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chargen.config import LN2
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.probe.surprisal import CharSurprisal
    from chargen.scoring.edits import Suggestion
    from chargen.scoring.scorer import Score
    from chargen.ui.tables import Line

    Why = Callable[[int | None, int, Score, list[Suggestion] | None], None]

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_PAGE_CHARS = 100_000  #: of all texts of a page, which then has 20 MB


def options(command: Command) -> Command:
    """Add the options to a command, which passes them on to `show`."""
    for option in (
        click.option(
            "--suggest", is_flag=True, help="Propose the single edits that raise log p most, the end counted."
        ),
        click.option(
            "--html",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="Write a page: a heat-map, and best guesses.",
        ),
        click.option("--chars", is_flag=True, help="Show each character's surprisal: as a colour, or as a digit."),
    ):
        command = option(command)
    return command


def asked(chosen: dict[str, Any]) -> bool:
    """Tell whether any of the three options was given."""
    return bool(chosen["chars"] or chosen["html"] or chosen["suggest"])


def checked(texts: Iterable[str], html: str | None, suggest: bool) -> Iterator[str]:
    """Yield texts, none of which is too long for what is asked.

    Raises:
        ConfigError: one is too long for suggestions, or all together are for a page.
    """
    from chargen.errors import ConfigError
    from chargen.scoring.edits import MAX_CHARS

    total = 0
    for number, text in enumerate(texts, start=1):
        total += len(text)
        if html and total > MAX_PAGE_CHARS:
            raise ConfigError(
                f"a page holds at most {MAX_PAGE_CHARS:,} characters, and the first {number:,} texts have {total:,}",
                "Give fewer of them; --chars has no such limit.",
            )
        if suggest and len(text) > MAX_CHARS:
            raise ConfigError(
                f"edits are suggested for at most {MAX_CHARS:,} characters, and text {number:,} has {len(text):,}",
                "Give it in parts, a line each.",
            )
        yield text


def show(lm: LanguageModel, rows: Iterable[tuple[int | None, int, Score]], chosen: dict[str, Any], plain: Line) -> None:
    """Do what the three options ask for, text by text as they come; `plain` prints them where --html is alone.

    The page has them in the input's order.

    Raises:
        StorageError: the page cannot be written.
    """
    pages: list[tuple[int, list[CharSurprisal], list[Suggestion]]] = []
    line = _line(lm, chosen) if chosen["chars"] or chosen["suggest"] else None
    for rank, place, score in rows:
        found = lm.suggest(score.text, context=chosen["context"]) if chosen["suggest"] else None
        if chosen["html"]:
            pages.append(
                (place, list(lm.char_surprisals(score.text, context=chosen["context"], score=score)), found or [])
            )
        if line:
            line(rank, place, score, found)
        else:
            plain(rank, place, replace(score, pieces=None))
    if chosen["html"]:
        name = str(lm.checkpoint.about.get("corpus", "this model"))
        in_order = sorted(pages, key=lambda page: page[0])
        proposed = [found for _, _, found in in_order] if chosen["suggest"] else []
        _write(Path(chosen["html"]), [places for _, places, _ in in_order], proposed, name)


def _write(path: Path, pages: list[list[CharSurprisal]], proposed: list[list[Suggestion]], name: str) -> None:
    from chargen.io import write_atomically
    from chargen.ui.heatmap import heat_page

    write_atomically(path, (piece.encode() for piece in heat_page(pages, f"a model of {name}", proposed)))
    say(f"note: the page is {path}")


def _line(lm: LanguageModel, chosen: dict[str, Any]) -> Why:
    """Return what prints one text."""
    from chargen.ui.console import print_json
    from chargen.ui.tables import chars_tsv, record

    row, first = chars_tsv(sys.stdout.write), True

    def line(rank: int | None, place: int, score: Score, found: list[Suggestion] | None) -> None:
        nonlocal first
        places = list(lm.char_surprisals(score.text, num_guesses=0, score=score)) if chosen["chars"] else []
        if chosen["tsv"]:
            row(rank, place, places)
        elif chosen["as_json"]:
            values = record(rank, place, replace(score, pieces=None), chosen["words"])
            if chosen["chars"]:
                values["characters"] = [place.to_json() for place in places]
            if found is not None:
                values["suggestions"] = [suggestion.to_json() for suggestion in found]
            print_json(values)
        else:
            _print(score, places, chosen, found, first)
        first = False
        sys.stdout.flush()

    return line


def _print(
    score: Score, places: list[CharSurprisal], chosen: dict[str, Any], found: list[Suggestion] | None, first: bool
) -> None:
    from rich.text import Text

    from chargen.ui.console import stdout_console
    from chargen.ui.heatmap import ENOUGH_COLOURS, digit_lines, heat_text, legend, visible
    from chargen.ui.tables import suggestion_table

    console = stdout_console()
    if not chosen["chars"]:
        console.print(Text(visible(score.text)), soft_wrap=True)
    elif console.is_terminal and console.color_system in ENOUGH_COLOURS:
        console.print(*([legend()] if first else []), heat_text(places), sep="\n")
    else:
        sys.stdout.write("\n".join(digit_lines(places)) + "\n")
    numbers = [f"{-score.log_prob_nats / LN2:.2f} bits"]
    per = [("char", score.bits_per_char), ("word", score.bits_per_word if chosen["words"] else None)]
    numbers += [f"{value:.3f} bits/{unit}" for unit, value in per if value is not None]
    if places or score.text:
        console.print(", ".join(numbers), style="dim")
    if found:
        console.print(suggestion_table(found))
    elif found is not None:
        console.print("no single edit raises its probability")
