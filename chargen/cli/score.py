"""`chargen score`: how likely sentences are, ranked."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import click

from chargen.cli import options, score_why


@click.command(
    epilog='\b\nExamples:\n  chargen score "To be, or not to be" "To be, or to not be"\n'
    '  chargen score --file sentences.txt --tsv\n  chargen score --chars --suggest "To be, or ont to be"\n'
    '  chargen score --json "Xin chào" < /dev/null'
)
@click.argument("sentences", nargs=-1, metavar="[SENTENCE]...")
@options.model
@click.option(
    "--file", "files", multiple=True, metavar="FILE", help="Score each line of a file; '-' is standard input."
)
@click.option("--context", help="A text that the sentences stand after: read, not scored.")
@click.option("--tsv", is_flag=True, help="Print tab-separated values with a header.")
@score_why.options
@options.as_json
def score(
    sentences: tuple[str, ...],
    model: str | None,
    files: tuple[str, ...],
    context: str | None,
    tsv: bool,
    as_json: bool,
    **why: Any,
) -> None:
    """Say how likely sentences are, the likeliest per character first.

    \b
    bits/char         −log₂ p(sentence) over its characters: what people compare
    perplexity/char   2 to that power
    log p (nats)      the natural logarithm of p(sentence), not divided by anything

    A sentence begins after a newline (or after --context), and its first character counts; what follows its last one
    does not. A character that the model does not know costs as much as any one of all that it does not know, and is
    counted under "unknown".
    """
    if tsv and as_json:
        raise click.UsageError("--tsv and --json do not go together.")
    from chargen.errors import CorpusError
    from chargen.lm import load
    from chargen.scoring.rank import rank
    from chargen.text.tokenizer import check_unicode

    texts = list(sentences)
    for name in files or (() if sentences or sys.stdin.isatty() else ("-",)):
        texts.extend(_lines(name, sys.stdin.buffer))
    for place, text in enumerate(texts, start=1):
        check_unicode(text, f"sentence {place}")
    if not any(texts):
        what = "every sentence is empty" if texts else "no sentence was given"
        raise CorpusError(f"{what}: there is nothing to score", 'Say chargen score "a sentence", or --file FILE.')
    empty = sum(not text for text in texts)
    if empty:
        click.echo(f"note: {empty} of {len(texts)} sentences are empty; they have no value per character", err=True)
    lm = load(model)
    if any(why.values()) and score_why.show(lm, texts, context, as_json, **why):
        return
    scores = lm.score(texts, context=context)
    _print(rank(scores), scores, context, tsv, as_json)


def _lines(name: str, stdin: BinaryIO) -> list[str]:
    """Return a file's lines as texts, without their newlines.

    Raises:
        CorpusError: the file cannot be read, or a line is not UTF-8.
    """
    from chargen.errors import CorpusError

    try:
        if name == "-":
            data = stdin.read()
        else:
            with open(name, "rb") as file:
                data = file.read()
    except OSError as error:
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from error
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{name}, line {number:,} is not UTF-8 (byte {error.start + 1} of the line)",
                "Convert the file to UTF-8.",
            ) from error
    return texts


def _print(ranked: list[Any], scores: list[Any], context: str | None, tsv: bool, as_json: bool) -> None:
    from chargen.ui.console import print_json, results

    place_of = {id(score): place for place, score in enumerate(scores, start=1)}
    if as_json:
        rows = [{"rank": r, "input": place_of[id(s)], **s.to_json()} for r, s in enumerate(ranked, start=1)]
        print_json({"unit": "bits per character", "context": context, "sentences": rows})
    elif tsv:
        keys = [key for key in ranked[0].to_json() if key != "text"]
        sys.stdout.write("\t".join(["rank", *keys, "text"]) + "\n")
        for r, s in enumerate(ranked, start=1):
            values = s.to_json()
            cells = ["" if values[key] is None else str(values[key]) for key in keys]
            sys.stdout.write("\t".join([str(r), *cells, s.text.replace("\t", " ").replace("\n", " ")]) + "\n")
    else:
        from chargen.ui.tables import score_table

        results().print(score_table(ranked))
