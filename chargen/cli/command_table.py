"""Groups of commands that are imported when they are called: `chargen` itself, and commands with sub-commands.

probe = click.group(cls=CommandTable, table={"memory": ("package.module:memory", "One line of help.")})(function)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from chargen.cli.help_format import HelpContext
from chargen.registry import import_object

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Table = Mapping[str, tuple[str, str]]  #: by name: the import path "package.module:attribute", and a one-line help


class CommandTable(click.Group):
    """A table of commands as a click group.

    Args:
        table: The commands, in the order in which the help lists them.
        attributes: The other arguments of `click.Group`.
    """

    context_class = HelpContext

    def __init__(self, *, table: Table, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; return None if there is no command of this name."""
        if cmd_name not in self.table:
            return None
        command: click.Command = import_object(self.table[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into the help, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command; `help COMMAND` is the same as `COMMAND --help`."""
        if args[:1] == ["help"]:
            args = args[1:] if ctx.resilient_parsing else [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that is called; for an unknown one, fail with the most similar name."""
        if args and args[0] not in self.table and not args[0].startswith("-") and not ctx.resilient_parsing:
            from chargen.cli.hints import COMMAND_WORDS, GROUP_WORDS, no_such_command  # only a wrong line needs them

            words = GROUP_WORDS.get(str(self.name), COMMAND_WORDS)
            no_such_command(ctx, args[0], list(self.table), words)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that start with `incomplete`, without importing the commands."""
        from click.shell_completion import CompletionItem

        commands = [CompletionItem(name, help=summary) for name, (_, summary) in self.table.items()]
        return [
            *(item for item in commands if item.value.startswith(incomplete)),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]
