"""`chargen corpora`: texts that have a name, and a look at one's own."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from chargen.cli import options
from chargen.ui.terminal_text import visible


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  chargen corpora\n  chargen corpora get markov --output markov.txt\n"
    "  chargen corpora check my.txt",
)
@click.pass_context
def corpora(ctx: click.Context) -> None:
    """List the corpora that have a name; make one into a file; check a text."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_corpora)


@corpora.command(name="list", epilog="\b\nExample:\n  chargen corpora list --json")
@options.as_json
def list_corpora(as_json: bool = False) -> None:
    """List the corpora that `chargen train` knows by name."""
    from chargen.text.builtin_corpora import BUILTIN_CORPORA
    from chargen.ui.console import print_json, stdout_console
    from chargen.ui.tables import plain_table

    if as_json:
        print_json([{"name": n, "about": s.about, "needs_network": not s.offline} for n, s in BUILTIN_CORPORA.items()])
    else:
        stdout_console().print(
            plain_table(("name", "what it is"), [(name, source.about) for name, source in BUILTIN_CORPORA.items()])
        )


@corpora.command(
    epilog="\b\nExamples:\n  chargen corpora get shakespeare\n  chargen corpora get markov:2 --output - | head -c 100"
)
@click.argument("name", type=options.NAME)
@click.option(
    "--output",
    type=options.NAME,
    metavar="FILE",
    help="Where to write it; '-' is stdout. corpora/NAME.txt if left out.",
)
@options.as_json
def get(name: str, output: str | None, as_json: bool) -> None:
    """Make the corpus NAME into a file."""
    from chargen.io import write_atomically
    from chargen.text.builtin_corpora import read_builtin
    from chargen.ui.console import print_json

    made = read_builtin(name)
    data = made.text.encode("utf-8")
    if output == "-":
        if sys.stdout.isatty():  # which is to be shown the text, not to obey it
            sys.stdout.write(made.text)
        else:
            sys.stdout.buffer.write(data)
        return
    path = Path(output) if output else Path("corpora") / f"{name.replace(':', '-')}.txt"
    write_atomically(path, [data])
    if as_json:
        print_json({"path": str(path), "chars": len(made.text), "entropy_nats_per_char": made.entropy_nats_per_char})
    else:
        click.echo(str(path))


@corpora.command(epilog="\b\nExample:\n  chargen corpora check my.txt --json")
@click.argument("corpus", nargs=-1, required=True, type=options.NAME)
@options.encoding
@options.newline
@options.normalize
@options.documents
@options.text_field
@options.max_corpus_size("100GB")
@options.as_json
def check(corpus: tuple[str, ...], max_bytes: int, as_json: bool, **choices: Any) -> None:
    """Read CORPUS as `chargen train` would, and say what is odd about it and what to do."""
    from chargen.config import DataConfig
    from chargen.text.corpus import read_corpus
    from chargen.text.quality import check_quality
    from chargen.ui.console import print_json, stdout_console
    from chargen.ui.tables import key_value_table

    config = DataConfig(**choices)
    facts, findings = check_quality(read_corpus(corpus, config, max_bytes=max_bytes), config.val_fraction)
    if as_json:
        print_json({**asdict(facts), "findings": [asdict(finding) for finding in findings]})
        return
    numbers = [(k.replace("_", " "), f"{v:,}" if isinstance(v, int) else str(v)) for k, v in asdict(facts).items()]
    stdout_console().print(key_value_table(numbers))
    for finding in findings:
        stdout_console().print(f"\n{visible(finding.kind)}: {visible(finding.what)}\n  {visible(finding.advice)}")
        for place in finding.places:
            stdout_console().print(f"    {visible(place)}")
    if not findings:
        stdout_console().print("\nNothing odd was found.")


@corpora.command(epilog="\b\nExample:\n  chargen corpora clean")
@options.as_json
def clean(as_json: bool) -> None:
    """Delete the encoded texts that runs keep for the next one; they are made again when they are needed."""
    from chargen.data.token_store import CACHE, clean_cache
    from chargen.ui.console import print_json

    files, size = clean_cache()
    if as_json:
        print_json({"folder": str(CACHE), "files": files, "bytes": size})
    else:
        click.echo(f"{CACHE}: {files:,} files deleted, {size:,} bytes")
