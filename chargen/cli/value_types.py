"""The types of the values of options: names, texts and numbers.

A `Name` also tells the shell how to complete a value. A value on the command line is bytes: those that are not UTF-8
arrive as lone surrogates. A file may have such a name; everything else is refused by `check_unicode_values`.

A number that is refused says what was probably meant. Many languages write a decimal comma and a point between
thousands. What can be read as two different numbers is not guessed:

    --temp 0,8       '0,8' is not a number. Write 0.8.
    --top-p 90       90 must be a finite number above 0 and at most 1. Write 0.9 for 90 %.
    --length 1.000   '1.000' is not a whole number. Write 1000.
    --budget 1,5h    '1,5h' is not a duration. Write 1.5h.
    --budget 1,000   '1,000' is not a duration. Write 1000.
    --max-corpus-size 5Mo    '5Mo' is not a size above zero. Write 5MB.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from chargen.cells import CELLS
from chargen.config import Config, parse_duration_s
from chargen.errors import ConfigError
from chargen.registry import did_you_mean_file
from chargen.sampling.settings import MAX_TEMPERATURE, MIN_TEMPERATURE
from chargen.schema import Integer, Nullable, Number, find_surrogate, format_value
from chargen.tokenizers import TOKENIZERS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

DECIMAL_COMMA = r"[-+]?\d*,\d+"
THOUSANDS = r"[-+]?[1-9]\d{0,2}(?:[.,'_’ ]\d{3})+"
THOUSANDS_AND_COMMA = r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+,\d+"
PERCENT = r"([-+]?\d+(?:[.,]\d+)?) ?%"
MULTIPLE = r"(\d+(?:[.,]\d+)?) ?([kKM])"  # 10k
CLOCK = r"(?:(\d+):)?(\d+):(\d\d)"  # 1:30:00
UNITS = {"h": "hours?|hrs?|giờ", "m": "minutes?|mins?|phút", "s": "seconds?|secs?|giây"}  # Vietnamese, too


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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


class ExistingFile(Name):
    """The type of an option that names a file which is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; fail if there is nothing of this name, or a folder."""
        name = super().convert(value, param, ctx)
        if not os.path.exists(name):
            self.fail(f"there is no file {name}. {did_you_mean_file(name)}".strip(), param, ctx)
        if os.path.isdir(name):
            self.fail(f"{name} is a folder. Give the name of a file.", param, ctx)
        return name


class NameList(Name):
    """The type of an option that names one thing or several, separated by commas."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that start with what follows the last comma of `incomplete`, after the names before it."""
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{item.value}") for item in super().shell_complete(ctx, param, last)]


def split_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Return the names of a list "rnn,lstm"; fail if one is empty or given twice. Used as an option's callback."""
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter(f"{value!r} has an empty name. Write names between commas: rnn,lstm.", ctx, param)
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(
                f"{value!r} has a name twice: {name} is given {names.count(name)} times.", ctx, param
            )
    return names


def _run_names() -> Sequence[str]:
    from chargen.runs import list_run_names

    return list_run_names()


def _forecaster_names() -> Sequence[str]:
    from chargen.runs import list_forecaster_files

    return [path.parent.name for path in list_forecaster_files()]


def _corpus_names() -> Iterable[str]:
    from chargen.text.builtin_corpora import BUILTIN_CORPORA

    return BUILTIN_CORPORA


NAME = Name()
FILE_NAME = Name(files=True)
EXISTING_FILE = ExistingFile(files=True)
RUN_NAME = Name(_run_names)
MODEL_NAME = Name(_run_names, files=True)
FORECASTER_NAME = Name(_forecaster_names, files=True)
CORPUS_NAME = Name(_corpus_names, files=True)
BUILTIN_CORPUS_NAME = Name(_corpus_names)
CELL_NAMES = NameList(CELLS.names)
TOKENIZER_NAME = Name(TOKENIZERS.names)


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


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Decimal(click.types.FloatParamType):
    """The type of an option whose value is a finite number.

    Args:
        limits: The allowed values.
    """

    def __init__(self, limits: Number | None = None) -> None:
        self._limits = limits or Number()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value as a number; fail if it is none, or not allowed."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{format_value(value)} is not a number.{_proposal(value, float, self._limits)}", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        if problem := _problem(number, self._limits):
            self.fail(f"{value} {problem}. {self._limits.percent_hint(number)}".rstrip(), param, ctx)
        return number


class Whole(click.types.IntParamType):
    """The type of an option whose value is a whole number.

    Args:
        limits: The allowed values.
    """

    def __init__(self, limits: Integer) -> None:
        self._limits = limits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the value as a number; fail if it is none, or not allowed."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{format_value(value)} is not a whole number.{_proposal(value, int, self._limits)}", param, ctx)
        if problem := _problem(number, self._limits):
            self.fail(f"{format_value(number)} {problem}.", param, ctx)
        return number


def number(limits: Number | Integer) -> Decimal | Whole:
    """Return the type of an option whose value is within the limits."""
    return Whole(limits) if isinstance(limits, Integer) else Decimal(limits)


def numbers(config: type[Config]) -> dict[str, Decimal | Whole]:
    """Return the types of the options for all settings of a config that are numbers, by their names."""
    specs = {name: spec.spec if isinstance(spec, Nullable) else spec for name, spec in config.FIELDS.items()}
    return {name: number(spec) for name, spec in specs.items() if isinstance(spec, (Integer, Number))}


def whole(low: int, high: int | None = None) -> Decimal | Whole:
    """Return the type of an option whose value is a whole number of at least `low` and at most `high`."""
    return Whole(Integer(low) if high is None else Integer(low, high))


def _problem(value: float, limits: Number | Integer) -> str:
    """Return what a number must be, if it is not: "must be a finite number above 0"."""
    try:
        limits.check(value, "")
    except ConfigError:
        return limits.requirement
    return ""


def _proposal(value: str, convert: Callable[[str], float], limits: Number | Integer) -> str:
    """Return " Write X." with the allowed numbers that were probably meant, or "" if there are none."""
    allowed = []
    for reading in _readings(value.strip()):
        try:
            if not _problem(convert(reading), limits):
                allowed.append(reading)
        except ValueError:
            continue
    return f" Write {' or '.join(dict.fromkeys(allowed))}." if allowed else ""


def _readings(text: str) -> Iterable[str]:
    """Yield the numbers that a text may stand for, as Python writes them, the likeliest first."""
    if re.fullmatch(DECIMAL_COMMA, text):
        yield text.replace(",", ".")
    if re.fullmatch(THOUSANDS, text):
        yield re.sub(r"[.,'_’ ]", "", text)
    if re.fullmatch(THOUSANDS_AND_COMMA, text):
        yield text.replace(".", "").replace(",", ".")
    if match := re.fullmatch(PERCENT, text):
        yield f"{float(match[1].replace(',', '.')) / 100:g}"
    if match := re.fullmatch(MULTIPLE, text):
        yield f"{float(match[1].replace(',', '.')) * (1_000_000 if match[2] == 'M' else 1000):.15g}"
    if re.fullmatch(r"[-+]?[\d.]+(?:[eE]\+?\d+)?", text):  # 1e3 and 3.0 for a whole number
        try:
            if (value := float(text)).is_integer() and abs(value) < 1e15:
                yield str(int(value))
        except ValueError:
            return


def _plain_numbers(text: str) -> str:
    """Return a text whose numbers have a decimal point and no separators of thousands: "1,5h" → "1.5h".

    Three digits after a comma are thousands: a duration or a size has a unit, so three decimals are not needed.

    >>> _plain_numbers("1,000"), _plain_numbers("1.234,5 MB"), _plain_numbers("1h1,5m")
    ('1000', '1234.5 MB', '1h1.5m')
    """

    def plain(match: re.Match[str]) -> str:
        number = match[0]
        if re.fullmatch(THOUSANDS, number):
            return re.sub(r"\D", "", number)
        if re.fullmatch(THOUSANDS_AND_COMMA, number):
            return number.replace(".", "").replace(",", ".")
        return number.replace(",", ".") if re.fullmatch(DECIMAL_COMMA, number) else number

    return re.sub(r"\d+(?:[.,'_’ ]\d+)*", plain, text)


# Not compiled here: `re` compiles and caches them at their first use, and help never uses them.
_SIZE_UNIT = r"(?i)(k|kilo|m|mega|g|giga|t|tera|)(i)?(?:o|octets?|b|bytes?|)"  # French octets are bytes
_SIZE = r"(?ai)(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kMGT])(i?)B?|B)?"


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a size (500MB, 20GB, 1.5GiB, or a number of bytes) in bytes; used as an option's callback."""
    num_bytes = _size_bytes(value)
    if not num_bytes:
        meant = _size_meant(value.strip())
        proposal = f" Write {meant}." if meant else " Examples: 500MB, 20GB, 1.5GiB."
        raise click.BadParameter(f"{format_value(value)} is not a size above zero.{proposal}", ctx, param)
    return num_bytes


def _size_meant(text: str) -> str:
    """Return the size that "5 Mo", "1,5GB", "1,000 MB", "2 gigabytes" or "1e6" stands for, or "" if there is none."""
    match = re.fullmatch(r"(?a)([\d.,'_’ ]*\d(?:[eE]\+?\d{1,2})?)\s*([a-zA-Z]*)", text)
    unit = re.fullmatch(_SIZE_UNIT, match[2]) if match else None
    if not match or not unit:
        return ""
    number = match[1]
    if re.fullmatch(THOUSANDS, number):
        number = re.sub(r"[.,'_’ ]", "", number)
    elif re.fullmatch(DECIMAL_COMMA, number):
        number = number.replace(",", ".")
    prefix = f"{unit[1][:1]}{unit[2] or ''}"
    if "e" in number.casefold():
        try:
            value, power = float(number), 0
        except ValueError:
            return ""
        while not prefix and value >= 1000 and power < 4:  # 1e6 is 1MB
            value, power = value / 1000, power + 1
        number, prefix = f"{value:.12g}", prefix or " kMGT"[power].strip()
    unit_of_bytes = "B" if match[2] or prefix else ""
    meant = f"{number}{prefix[:1].upper().replace('K', 'k')}{prefix[1:].lower()}{unit_of_bytes}"
    return meant if _size_bytes(meant) else ""


def _size_bytes(value: str) -> int:
    """Return a size in bytes; 0 if it is none, or too large."""
    match = re.fullmatch(_SIZE, value.strip())
    if not match:
        return 0
    number, prefix, binary = match.groups()
    power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
    num_bytes = int(float(number) * (1024 if binary else 1000) ** power)
    return num_bytes if num_bytes < 1 << 63 else 0


def parse_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a duration (90s, 5m, 1h30m, or a number of seconds) in seconds; used as an option's callback."""
    if value is None:
        return None
    try:
        return parse_duration_s(value)
    except ConfigError as error:
        meant = _duration_meant(value)
        hint = f"Write {meant}." if meant else error.hint
        raise click.BadParameter(f"{error.message}. {hint}", ctx, param) from error


def _duration_meant(value: str) -> str:
    """Return the duration that "5 min", "1,5h", "1,000" or "1:30" stands for, or "" if there is none."""
    text = "".join(_plain_numbers(value.casefold()).split())
    if match := re.fullmatch(CLOCK, text):
        text = "".join(f"{int(number)}{unit}" for number, unit in zip(match.groups(), "hms", strict=True) if number)
    if match := re.fullmatch(r"(\d{1,4})(?:d|days?|ngày)", text):
        text = f"{24 * int(match[1])}h"
    for unit, words in UNITS.items():
        text = re.sub(rf"(?<=\d)(?:{words})(?=\d|$)", unit, text)
    try:
        parse_duration_s(text)
    except ConfigError:
        return ""
    return text


def check_temperature(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Return a sampling temperature that is in its range; used as an option's callback."""
    if value != 0 and not MIN_TEMPERATURE <= value <= MAX_TEMPERATURE:
        limits = f"0 (always the most likely character), or from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:,.0f}"
        raise click.BadParameter(f"{value:g} is not a temperature. Give {limits}.", ctx, param)
    return value
