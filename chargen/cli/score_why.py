"""Why a text scores as it does: what `chargen score` does with --chars, --html and --suggest."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.probe.surprisal import Place
    from chargen.scoring.suggest import Suggestion

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_PAGE_CHARS = 100_000  #: of all texts of a page, which then has 20 MB


def options(command: Command) -> Command:
    """Add the options to a command, which passes them on to `show`."""
    for option in (
        click.option(
            "--suggest", is_flag=True, help="Propose the single edits that raise log p most, the end counted."
        ),
        click.option("--html", type=click.Path(), metavar="FILE", help="Write a page: a heat-map, and best guesses."),
        click.option("--chars", is_flag=True, help="Show each character's surprisal: as a colour, or as a digit."),
    ):
        command = option(command)
    return command


def show(
    lm: LanguageModel,
    texts: Sequence[str],
    context: str | None,
    as_json: bool,
    chars: bool,
    html: str | None,
    suggest: bool,
    end: bool = False,
) -> bool:
    """Do what the three options ask for, text by text in the order given.

    Args:
        end: whether the end of a text counts in its surprisal.

    Returns:
        Whether stdout has its result: not so after --html alone.

    Raises:
        ConfigError: too much for one page, or a text too long for suggestions.
        StorageError: the page cannot be written.
    """
    from chargen.errors import ConfigError

    if html and sum(map(len, texts)) > MOST_PAGE_CHARS:
        raise ConfigError(
            f"a page holds at most {MOST_PAGE_CHARS:,} characters, and the texts have {sum(map(len, texts)):,}",
            "Give fewer of them; --chars has no such limit.",
        )
    pages: list[list[Place]] = []
    proposed: list[list[Suggestion]] = []
    for number, text in enumerate(texts, start=1):
        places = list(lm.places(text, context=context, most=5 if html else 0, end=end))
        found = lm.suggest(text, context=context) if suggest else []
        if as_json and (chars or suggest):
            _print_json(number, text, places if chars else None, found if suggest else None)
        elif chars or suggest:
            _print(text, places, chars, found if suggest else None)
        if html:
            pages.append(places)
            proposed.append(found)
    if html:
        _write(Path(html), pages, proposed if suggest else [], str(lm.checkpoint.about.get("corpus", "this model")))
    return chars or suggest


def _write(path: Path, pages: list[list[Place]], proposed: list[list[Suggestion]], name: str) -> None:
    from chargen.files import write_atomically
    from chargen.ui.console import chatter
    from chargen.ui.heat_page import heat_page

    write_atomically(path, (piece.encode() for piece in heat_page(pages, f"a model of {name}", proposed)))
    chatter().print(f"note: the page is {path}", soft_wrap=True, markup=False)


def _print_json(number: int, text: str, places: list[Place] | None, found: list[Suggestion] | None) -> None:
    from chargen.ui.console import LN2, print_json

    line: dict[str, Any] = {"input": number, "text": text}
    if places is not None:
        line["log_prob_nats"] = -LN2 * math.fsum(place.surprisal_bits for place in places)
        line["characters"] = [place.to_json() for place in places]
        for character in line["characters"]:
            character.pop("guesses", None)
    if found is not None:
        line["suggestions"] = [suggestion.to_json() for suggestion in found]
    print_json(line)


def _print(text: str, places: list[Place], chars: bool, found: list[Suggestion] | None) -> None:
    from rich.text import Text

    from chargen.ui.console import results
    from chargen.ui.heat import ENOUGH_COLOURS, digit_lines, heat_text, legend
    from chargen.ui.tables import suggestion_table

    console = results()
    bits, size = math.fsum(place.surprisal_bits for place in places), sum(len(place.text) for place in places)
    if chars and console.is_terminal and console.color_system in ENOUGH_COLOURS:
        console.print(heat_text(places), legend(), sep="\n")
    elif chars:
        sys.stdout.write("\n".join(digit_lines(places)) + "\n")
    else:
        console.print(Text(digit_lines(places)[0]), soft_wrap=True)
    if size:
        console.print(f"{bits:.2f} bits, {bits / size:.3f} bits/char", style="dim")
    if found:
        console.print(suggestion_table(found))
    elif found is not None:
        console.print("no single edit raises its probability")
    sys.stdout.flush()
