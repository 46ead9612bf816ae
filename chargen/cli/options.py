"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from chargen.config import MAX_SECONDS, MAX_TEMPERATURE, MIN_TEMPERATURE, SAMPLING_RULES
from chargen.schema import Integer
from chargen.ui.terminal_text import write_raw

F = TypeVar("F", bound=Callable[..., Any])


class Name(click.types.StringParamType):
    """The type of an option that names something (a file, a run, a setting): any text but the empty one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("it is empty. Give a name, or leave the option out.", param, ctx)
        if "\0" in value:
            self.fail(f"{value!r} holds a NUL character, which no name has.", param, ctx)
        return str(value)


NAME = Name()


def _temperature(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if value != 0 and not MIN_TEMPERATURE <= value <= MAX_TEMPERATURE:  # also of NaN
        about = f"0, which always takes the likeliest character, or from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:,.0f}"
        raise click.BadParameter(f"{value} is not a temperature: {about}.", ctx, param)
    return value


def _raw(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        write_raw()


model = click.option(
    "-m",
    "--model",
    type=NAME,
    metavar="MODEL",
    help="A model's file, a run's folder or its name; the newest run if left out.",
)
temperature = click.option(
    "--temp", "--temperature", "temperature", type=float,
    callback=_temperature, default=1.0, show_default=True,
    help="Below 1 bolder, above 1 wilder; 0 always takes the likeliest character.",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, with units in the names.")
raw = click.option(
    "--raw", is_flag=True, expose_value=False, callback=_raw,
    help="Print text exactly as it is on a terminal too. Without this option, control characters and other characters "
    "that act on a terminal or are invisible are shown as symbols there; pipes and files always get the exact text.",
)  # fmt: skip
end = click.option(
    "--end/--no-end", default=None, help="Score the end too, or not.  [default: of a model of documents]"
)
encoding = click.option("--encoding", type=NAME, default="utf-8", show_default=True, help="Of the files.")
newline = click.option(
    "--newline",
    type=click.Choice(["lf", "keep"]),
    default="lf",
    show_default=True,
    help="Make CR and CRLF one LF, or keep them.",
)
normalize = click.option(
    "--normalize",
    type=click.Choice(["nfc", "none"]),
    default="nfc",
    show_default=True,
    help="Compose characters, or leave them.",
)
documents = click.option(
    "--documents",
    type=NAME,
    default="none",
    show_default=True,
    metavar="KIND",
    help="What begins anew: none (one running text), line, blank (parts between blank lines), file, or the separator "
    "itself.",
)
text_field = click.option(
    "--text-field",
    type=NAME,
    default="text",
    show_default=True,
    help="Of a record (.jsonl, .parquet): what is its text.",
)
device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)


def sampling_rules(command: F) -> F:
    """Add an option for each sampling rule of `SampleConfig` to a command, in the order in which the rules act."""
    for name, rule in reversed(SAMPLING_RULES.items()):
        command = click.option(
            f"--{name.replace('_', '-')}", type=int if isinstance(rule.values, Integer) else float, default=rule.off,
            show_default="off", metavar=rule.metavar, help=rule.help,
        )(command)  # fmt: skip
    return command


_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kMGT])(i?)B?|B)?", re.ASCII | re.IGNORECASE)
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def given(*names: str) -> list[str]:
    """Return those of the names whose options stand on the command line, as they are written there."""
    ctx = click.get_current_context()
    ours = [name for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    return [param.opts[0] for name in ours for param in ctx.command.params if param.name == name]


def refuse(names: Iterable[str], why: str) -> None:
    """Refuse those of the options that stand on the command line, which would be without effect.

    Raises:
        UsageError: one of them does.
    """
    for option in given(*names):
        raise click.UsageError(f"{option} {why}")


def size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read a size (500MB, 20GB, 1.5GiB, or a number of bytes) as bytes; for an option's callback."""
    found = _SIZE.fullmatch(value.strip())
    num_bytes = 0
    if found:
        number, prefix, binary = found.groups()
        power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
        num_bytes = int(float(number) * (1024 if binary else 1000) ** power)
    if not 0 < num_bytes < 1 << 63:
        raise click.BadParameter(f"{value!r} is not a size above zero. Say 500MB, 20GB or 1.5GiB.", ctx, param)
    return num_bytes


def max_corpus_size(default: str) -> Callable[[F], F]:
    """Return the option that bounds how much text is read."""
    return click.option(
        "--max-corpus-size", "max_bytes", callback=size, default=default, show_default=True, metavar="SIZE",
        help="Refuse a corpus with more text than this (500MB, 20GB), counted after unpacking.",
    )  # fmt: skip


def span(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a span of time (90s, 5m, 1h30m, or a number of seconds) as seconds; for an option's callback."""
    if value is None:
        return None
    found = _SPAN.fullmatch(value.strip())
    parts = found.groups() if found else ()
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not 0 < seconds <= MAX_SECONDS:
        about = f"above zero and of at most {MAX_SECONDS:g} seconds"
        raise click.BadParameter(f"{value!r} is not a span of time {about}. Say 90s, 5m or 1h30m.", ctx, param)
    return seconds
