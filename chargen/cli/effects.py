"""Options that would have no effect: each command states them in a table, and they are refused by name.

A command gives the table to `options.GroupedCommand`, beside its options:

    @click.command(cls=options.GroupedCommand, effects=[
        needs("--dry-base --dry-allowed", "--dry"),
        only_one("--tsv --json"),
        no_effect("--temp --top-k", beside="--beam", why="a beam search draws nothing"),
    ])

Only what stands on the command line is refused; an environment variable sets a default. In a table an option is named
as it is spelled there ("--no-sort" is the negative form of a switch), an argument by the name of its parameter, and
"--temp=0" is an option with this value. An option that is given with its default value, as in `--beam 0`, switches
nothing on: it does not satisfy `needs`, and refuses nothing beside it.

`tests/cli/test_effects.py` runs all pairs of options of every command. A pair that is neither refused nor changes the
result is an error there, so a new option that has no effect beside another one is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from chargen.ui.terminal_text import say


class Effect(NamedTuple):
    """A line of the table: options that have no effect beside others, or without them.

    Attributes:
        options: the options that would have no effect.
        beside: refuse them if one of these is given.
        without: refuse them if none of these is given; empty: this is not a condition.
        unless: do not refuse them if one of these is given.
        message: what the error says; {option} and {other} are the spelled names.
        is_note: whether the option is only reported, because what it promises stays true.
    """

    options: tuple[str, ...]
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    message: str = ""
    is_note: bool = False

    def find(self, line: CommandLine) -> str | None:
        """Return the message for a command line, or None if each of these options has an effect."""
        if any(line.is_active(name) for name in self.unless):
            return None
        others = [name for name in self.beside if line.is_active(name)]
        if self.without and not any(line.is_active(name) for name in self.without):
            others = list(self.without[:1])
        for option in self.options:
            if others and line.is_given(option):
                return self.message.format(option=line.spelled(option), other=line.spelled(others[0]))
        return None


def needs(options: str, others: str, unless: str = "") -> Effect:
    """State that options have an effect only together with one of the others.

    Args:
        options, others: names, separated by spaces.
        unless: names of which one is sufficient, too, although the error does not propose it.
    """
    proposed = " or ".join(others.split())
    return Effect(
        tuple(options.split()), without=tuple(others.split()), unless=tuple(unless.split()),
        message=f"{{option}} needs {proposed}.",
    )  # fmt: skip


def no_effect(options: str, beside: str, why: str, unless: str = "") -> Effect:
    """State that options have no effect beside each of the others.

    Args:
        options, beside: names, separated by spaces.
        why: the reason, and what to do, as the second part of a sentence.
        unless: names of which one gives the options an effect again.
    """
    message = f"{{option}} cannot be combined with {{other}}: {why}."
    return Effect(tuple(options.split()), tuple(beside.split()), unless=tuple(unless.split()), message=message)


def keeps_promise(options: str, beside: str, why: str) -> Effect:
    """State that options have no effect beside the others, but that a note is sufficient.

    This is for an option whose promise stays true: the same --seed gives the same text, also where nothing is random.
    """
    message = f"{{option}} has no effect beside {{other}}: {why}"
    return Effect(tuple(options.split()), tuple(beside.split()), message=message, is_note=True)


def only_one(options: str, why: str = "") -> list[Effect]:
    """State that of these options at most one can be given; the reason need not be stated."""
    *most, last = options.split()
    why = why or f"give only one of {', '.join(most)} and {last}"
    message = f"{{other}} and {{option}} cannot be combined: {why}."
    return [Effect((second,), (first,), message=message) for first, second in combinations(options.split(), 2)]


class CommandLine:
    """The options and arguments of a command as they were given."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx

    def is_given(self, name: str) -> bool:
        """Return whether this option stands on the command line."""
        param, value = self._find(name)
        if self._ctx.get_parameter_source(str(param.name)) is not ParameterSource.COMMANDLINE:
            return False
        given = self._ctx.params.get(str(param.name))
        return given not in ((), None) if isinstance(param, click.Argument) else value is None or given == value

    def is_active(self, name: str) -> bool:
        """Return whether this option stands on the command line with a value that is not its default."""
        param, value = self._find(name)
        if not self.is_given(name) or value is not None or isinstance(param, click.Argument):
            return self.is_given(name)
        return not param.expose_value or self._ctx.params.get(str(param.name)) != param.get_default(self._ctx)

    def spelled(self, name: str) -> str:
        """Return the name of an option, or that of an argument as in the help ("TEXT")."""
        param, _ = self._find(name)
        if isinstance(param, click.Argument):
            return param.human_readable_name.strip("[].")
        return name.replace("=", " ")

    def _find(self, name: str) -> tuple[click.Parameter, Any]:
        """Return a parameter, and the value that it must have to be meant, or None for any value."""
        spelled, _, value = name.partition("=")
        for param in self._ctx.command.params:
            if spelled in param.opts:
                switch = True if param.secondary_opts else None
                return param, param.type.convert(value, param, self._ctx) if value else switch
            if spelled in param.secondary_opts:
                return param, False
        raise LookupError(f"{self._ctx.command.name} has no option {spelled}")


def flatten(table: Iterable[Effect | list[Effect]]) -> list[Effect]:
    """Return the lines of a table one by one."""
    return [effect for entry in table for effect in (entry if isinstance(entry, list) else [entry])]


def check(ctx: click.Context, table: Iterable[Effect]) -> None:
    """Refuse the options of a command line that have no effect.

    Args:
        ctx: the context of the command, after its options were read.
        table: what the command states.

    Raises:
        UsageError: If there is such an option. The message names it, and the option that is the cause.
    """
    line = CommandLine(ctx)
    for effect in table:
        message = effect.find(line)
        if message is None:
            continue
        if not effect.is_note:
            raise click.UsageError(message, ctx)
        say(f"note: {message}")


def check_repetitions(ctx: click.Context, order: Iterable[click.Parameter]) -> None:
    """Refuse an option that is given twice although only the last value has an effect.

    Args:
        ctx: the context of the command.
        order: the parameters in the order of the command line, as the parser returns it.

    Raises:
        UsageError: If there is such an option. A flag may be repeated, because it has no other value.
    """
    for param, count in Counter(order).items():
        if not isinstance(param, click.Option) or param.multiple or param.count or count == 1:
            continue
        if not param.is_flag or param.secondary_opts:
            names = "/".join([param.opts[0], *param.secondary_opts])
            raise click.UsageError(f"{names} is given {count} times, but only one value can have an effect.", ctx)
