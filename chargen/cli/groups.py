"""The classes of commands and options: help in groups, and errors for options without effect and wrong command lines.

Each command is a `GroupedCommand`, and each of its options belongs to one group:

    corpus_option = option_group("Corpus")

    @corpus_option("--encoding", default="utf-8", help="Text encoding of the input files.")

Help prints the groups in the order in which the command declares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import click

from chargen.cli.effects import Effect, check, check_repetitions, flatten

F = TypeVar("F", bound=Callable[..., Any])

OLD_NAMES = {"members": "ensemble"}  # names of options that still work, but are not in the help


def _current_name(name: str) -> str:
    return OLD_NAMES.get(name, name)


class GroupedOption(click.Option):
    """An option that help lists under the heading of its group."""

    def __init__(self, *args: Any, group: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group


def option_group(title: str) -> Callable[..., Callable[[F], F]]:
    """Return a function like `click.option` that makes options of the group `title`."""
    return partial(click.option, cls=GroupedOption, group=title)


class GroupedCommand(click.Command):
    """A command whose help lists its options in groups, and which refuses options that have no effect.

    Args:
        name: the name of the command.
        effects: which options have no effect beside others, or without them: see `effects.py`.
        attributes: the other arguments of `click.Command`.
    """

    def __init__(self, name: str | None, *, effects: Iterable[Effect | list[Effect]] = (), **attributes: Any) -> None:
        settings = {"token_normalize_func": _current_name, **attributes.pop("context_settings", {})}
        super().__init__(name, context_settings=settings, **attributes)
        self.effects = flatten(effects)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options and arguments, and refuse those that have no effect."""
        words = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            from chargen.cli.hints import explain  # only a wrong command line needs it

            raise explain(ctx, error, words) from error
        if not ctx.resilient_parsing:
            check_repetitions(ctx, self.make_parser(ctx).parse_args(words)[2])
            check(ctx, self.effects)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group; --help is the last entry of the last one."""
        groups: dict[str, list[tuple[str, str]]] = {}
        title = "Options"
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                title = getattr(param, "group", title)
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
