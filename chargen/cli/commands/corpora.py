"""`chargen corpora`: list and create built-in corpora and series, check a text, and clear the cache."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from chargen.cli import options
from chargen.cli.effects import no_effect
from chargen.cli.help_format import HelpContext
from chargen.schema import format_count
from chargen.ui.terminal_text import visible

MAX_BALLS, MAX_FRAMES = 100_000, 10_000


@dataclass(frozen=True, kw_only=True)
class CheckArguments:
    """The arguments of `chargen corpora check`, named as on the command line; sizes in bytes."""

    corpus: tuple[str, ...]
    encoding: str = "utf-8"
    errors: str = "strict"
    newline: str = "lf"
    normalize: str = "nfc"
    documents: str = "none"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 100 * 10**9
    as_json: bool = False


class CorporaGroup(click.Group):
    """A group of commands that suggests one for a command that does not exist."""

    context_class = HelpContext

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that is called; for an unknown one, fail with the one that was probably meant."""
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            from chargen.cli.hints import GROUP_WORDS, no_such_command  # only a wrong command line needs it

            no_such_command(ctx, args[0], list(self.commands), GROUP_WORDS["corpora"])
        return super().resolve_command(ctx, args)


@click.group(
    cls=CorporaGroup,
    invoke_without_command=True,
    epilog="\b\nExamples:\n  chargen corpora\n  chargen corpora get markov --output markov.txt\n"
    "  chargen corpora check my.txt\n  chargen corpora ball --output balls.csv",
)
@click.pass_context
def corpora(ctx: click.Context) -> None:
    """List the built-in corpora, write one to a file, check a text, or make a series of moving balls."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_corpora)


@corpora.command(name="list", cls=options.GroupedCommand, epilog="\b\nExample:\n  chargen corpora list --json")
@options.as_json
def list_corpora(as_json: bool = False) -> None:
    """List the built-in corpora, which `chargen train` knows by name."""
    from chargen.text.builtin_corpora import BUILTIN_CORPORA
    from chargen.ui.console import stdout_console
    from chargen.ui.output import print_json
    from chargen.ui.tables import key_value_table

    if as_json:
        print_json([{"name": n, "about": s.about, "needs_network": not s.offline} for n, s in BUILTIN_CORPORA.items()])
    else:
        rows = [(name, source.about) for name, source in BUILTIN_CORPORA.items()]
        stdout_console().print(key_value_table(rows))


@corpora.command(
    cls=options.GroupedCommand,
    effects=[no_effect("--json", beside="--output=-", why="it prints the corpus itself")],
    epilog="\b\nExamples:\n  chargen corpora get shakespeare\n  chargen corpora get markov:2 --output - | head -c 100",
)
@click.argument("name", type=options.BUILTIN_CORPUS_NAME)
@options.output_option(
    "--output", type=options.FILE_NAME, metavar="FILE", show_default="corpora/NAME.txt",
    help="File to write; '-' is standard output.",
)  # fmt: skip
@options.as_json
def get(name: str, output: str | None = None, as_json: bool = False) -> None:
    """Write the built-in corpus NAME to a file."""
    from chargen.io import write_atomically
    from chargen.text.builtin_corpora import read_builtin
    from chargen.ui.output import print_json

    if output is not None and output != "-":
        options.check_output_file("--output", output)
    corpus = read_builtin(name)
    data = corpus.text.encode("utf-8")
    if output == "-":
        if sys.stdout.isatty():  # the terminal must show the text, not execute it: sys.stdout makes it visible
            sys.stdout.write(corpus.text)
        else:
            sys.stdout.buffer.write(data)
        return
    path = Path(output) if output else Path("corpora") / f"{name.replace(':', '-')}.txt"
    write_atomically(path, [data])
    if as_json:
        entropy = corpus.entropy_nats_per_char
        print_json({"path": str(path), "chars": len(corpus.text), "entropy_nats_per_char": entropy})
    else:
        click.echo(str(path))


@corpora.command(
    cls=options.GroupedCommand,
    effects=[no_effect("--json", beside="--output=-", why="it prints the table itself")],
    epilog="\b\nExamples:\n  chargen corpora ball --output balls.csv\n"
    "  chargen corpora ball --balls 500 --frames 30 --seed 1 --output - | head -n 3",
)
@options.basic_option(
    "--balls", type=options.whole(1, MAX_BALLS), default=500, show_default=True, metavar="N", help="Number of balls."
)
@options.basic_option(
    "--frames", type=options.whole(1, MAX_FRAMES), default=30, show_default=True, metavar="N",
    help="Number of frames, which are the positions of a ball one after another.",
)  # fmt: skip
@options.basic_option(
    "--seed", type=options.whole(0), default=0, show_default=True, metavar="N",
    help="Random seed of the starts, directions and speeds.",
)  # fmt: skip
@options.output_option(
    "-o", "--output", type=options.FILE_NAME, metavar="FILE", show_default="corpora/balls.csv",
    help="File to write; '-' is standard output.",
)  # fmt: skip
@options.as_json
def ball(balls: int, frames: int, seed: int, output: str | None = None, as_json: bool = False) -> None:
    """Make a series for `chargen forecast`: balls that move in a box and are reflected by its walls.

    The file is CSV with the columns ball, frame, x and y. The box is from 0 to 1; a ball moves by 0.02 to 0.08 of it
    per frame.
    """
    import numpy as np

    from chargen.io import write_atomically
    from chargen.tasks.forecasting.ball import ball_paths, ball_table, check_num_positions
    from chargen.ui.output import print_json

    if output is not None and output != "-":
        options.check_output_file("--output", output)
    check_num_positions(balls, frames)
    parts = ball_table(ball_paths(balls, frames, np.random.default_rng(seed)))
    if output == "-":
        for part in parts:
            sys.stdout.write(part)
        return
    path = Path(output or "corpora/balls.csv")
    write_atomically(path, (part.encode("ascii") for part in parts))
    if as_json:
        print_json({"path": str(path), "balls": balls, "frames": frames, "rows": balls * frames})
    else:
        click.echo(str(path))


@corpora.command(cls=options.GroupedCommand, epilog="\b\nExample:\n  chargen corpora check my.txt --json")
@click.argument("corpus", nargs=-1, required=True, type=options.CORPUS_NAME)
@options.encoding
@options.errors
@options.newline
@options.normalize
@options.documents(options.corpus_option)
@options.text_field
@options.json_lines
@options.max_corpus_size("100GB")
@options.as_json
def check(**values: Any) -> None:
    """Read CORPUS as `chargen train` does, and report unusual properties and what to do about them."""
    check_corpus(CheckArguments(**values))


def check_corpus(args: CheckArguments) -> None:
    """Examine a corpus, and print its properties and findings on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the corpus cannot be read, or a setting is out of range.
    """
    from chargen.config import DataConfig
    from chargen.data.quality import check_quality
    from chargen.text.corpus import check_text_field, read_corpus
    from chargen.ui.console import stdout_console
    from chargen.ui.output import print_json
    from chargen.ui.tables import key_value_table

    config = DataConfig(
        encoding=args.encoding,
        errors=args.errors,
        newline=args.newline,
        normalize=args.normalize,
        documents=args.documents,
        text_field=args.text_field or "",
        json_lines=args.json_lines,
    )
    options.check_reading(args.corpus)
    corpus = read_corpus(args.corpus, config, max_bytes=args.max_bytes, keep_original=True)
    check_text_field(args.text_field, corpus)
    facts, findings = check_quality(corpus, config)
    if args.as_json:
        print_json({**asdict(facts), "findings": [asdict(finding) for finding in findings]})
        return
    values = {key.replace("_", " "): value for key, value in asdict(facts).items() if value is not None}
    rows = [(key, f"{value:,}" if isinstance(value, int) else str(value)) for key, value in values.items()]
    console = stdout_console()
    console.print(key_value_table(rows))
    for finding in findings:
        console.print(f"\n{visible(finding.kind)}: {visible(finding.what)}\n  {visible(finding.advice)}")
        for example in finding.examples:
            console.print(f"    {visible(example)}")
    if not findings:
        console.print("\nNo problems were found.")


@corpora.command(cls=options.GroupedCommand, epilog="\b\nExample:\n  chargen corpora clean")
@options.as_json
def clean(as_json: bool = False) -> None:
    """Delete the cache of encoded texts, which runs share; they are encoded again when needed."""
    from chargen.data.token_store import clean_cache, encoded_texts_folder
    from chargen.ui.output import print_json

    num_files, size_bytes = clean_cache()
    if as_json:
        print_json({"folder": str(encoded_texts_folder()), "files": num_files, "bytes": size_bytes})
    else:
        click.echo(
            f"{encoded_texts_folder()}: {format_count(num_files, 'file')} deleted, {format_count(size_bytes, 'byte')}"
        )
