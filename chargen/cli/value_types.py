"""The types of the values of options, and the check that they are text.

A `Name` also tells the shell how to complete a value. A value on the command line is bytes: those that are not UTF-8
arrive as lone surrogates. A file may have such a name; everything else is refused by `check_unicode_values`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from chargen.cells import CELLS
from chargen.config import parse_duration_s
from chargen.errors import ConfigError
from chargen.sampling.settings import MAX_TEMPERATURE, MIN_TEMPERATURE
from chargen.schema import find_surrogate
from chargen.tokenizers import TOKENIZERS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Name(click.types.StringParamType):
    """The type of an option that names something (a file, a run, a setting): any text but the empty one.

    Args:
        candidates: Function that returns the names to complete; None if there are none.
        files: Whether the shell also completes file names.
    """

    def __init__(self, candidates: Callable[[], Iterable[str]] | None = None, files: bool = False) -> None:
        self._candidates = candidates
        self.is_file = files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value as a string; fail if it is empty or contains a NUL character."""
        if not value:
            self.fail("it is empty. Give a name, or leave the option out.", param, ctx)
        if "\0" in value:
            self.fail(f"{value!r} contains a NUL character, which a name cannot contain.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that start with `incomplete`; shells fall back on files if there are none."""
        from click.shell_completion import CompletionItem

        names = self._candidates() if self._candidates else ()
        items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *items] if self.is_file else items


def _run_names() -> Sequence[str]:
    from chargen.runs import list_run_names

    return list_run_names()


def _corpus_names() -> Iterable[str]:
    from chargen.text.builtin_corpora import BUILTIN_CORPORA

    return BUILTIN_CORPORA


class Finite(click.types.FloatParamType):
    """The type of an option whose value is a finite number, at least `low`."""

    def __init__(self, low: float) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value as a number; fail if it is none, is too small, or is not finite."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self._low <= number < math.inf:
            self.fail(f"{value!r} is not a finite number of at least {self._low:g}.", param, ctx)
        return number


NAME = Name()
FILE_NAME = Name(files=True)
RUN_NAME = Name(_run_names)
MODEL_NAME = Name(_run_names, files=True)
CORPUS_NAME = Name(_corpus_names, files=True)
BUILTIN_CORPUS_NAME = Name(_corpus_names)
CELL_NAME = Name(CELLS.names)
TOKENIZER_NAME = Name(TOKENIZERS.names)


# Not compiled here: `re` compiles and caches them at their first use, and help never uses them.
_SIZE = r"(?ai)(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kMGT])(i?)B?|B)?"


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a size (500MB, 20GB, 1.5GiB, or a number of bytes) in bytes; used as an option's callback."""
    match = re.fullmatch(_SIZE, value.strip())
    num_bytes = 0
    if match:
        number, prefix, binary = match.groups()
        power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
        num_bytes = int(float(number) * (1024 if binary else 1000) ** power)
    if not 0 < num_bytes < 1 << 63:
        raise click.BadParameter(f"{value!r} is not a size above zero. Examples: 500MB, 20GB, 1.5GiB.", ctx, param)
    return num_bytes


def parse_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a duration (90s, 5m, 1h30m, or a number of seconds) in seconds; used as an option's callback."""
    if value is None:
        return None
    try:
        return parse_duration_s(value)
    except ConfigError as error:
        raise click.BadParameter(f"{error.message}. {error.hint}", ctx, param) from error


def check_temperature(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Return a sampling temperature that is in its range; used as an option's callback."""
    if value != 0 and not MIN_TEMPERATURE <= value <= MAX_TEMPERATURE:  # NaN is refused, too
        limits = f"0 (always the most likely character), or from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:,.0f}"
        raise click.BadParameter(f"{value} is not a temperature. Give {limits}.", ctx, param)
    return value


def check_unicode_values(ctx: click.Context) -> None:
    """Refuse texts and names on the command line that are not valid UTF-8, but for names of files.

    Raises:
        BadParameter: If there is such a value.
    """
    for param in ctx.command.params:
        if getattr(param.type, "is_file", False) or isinstance(param.type, click.Path):
            continue
        value = ctx.params.get(str(param.name))
        values = value if isinstance(value, tuple) else (value,)
        for number, text in enumerate(values, start=1):
            position = find_surrogate(text) if isinstance(text, str) else None
            if position is not None:
                which = f"text {number:,}" if len(values) > 1 else "the text"
                message = f"{which} is not valid UTF-8 at character {position + 1:,}. Convert it to UTF-8."
                raise click.BadParameter(message, ctx, param)
