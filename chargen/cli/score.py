"""`chargen score`: how likely texts are, ranked or in their order; any number of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options, score_why

if TYPE_CHECKING:
    from chargen.scoring.scorer import Score

EXAMPLES = """\b
Examples:
  chargen score "To be, or not to be" "To be, or to not be"
  chargen score --file sentences.txt --tsv
  chargen score --chars --suggest "To be, or ont to be"
  cat log | chargen score --top 100 --by total --json
  chargen score --json "Xin chào" < /dev/null"""


@click.command(epilog=EXAMPLES)
@click.argument("sentences", nargs=-1, metavar="[SENTENCE]...")
@options.model
@click.option("--file", "files", multiple=True, metavar="FILE", help="Score each line of a file; '-': standard input.")
@click.option("--null", "form", default=None, flag_value="null", help="A file's texts end with a NUL byte.")
@click.option(
    "--json-lines", "form", default=None, flag_value="json", help="A file's lines are JSON objects; see --field."
)
@click.option(
    "--whole", "form", default=None, flag_value="whole", help="A file is one text, without the newline at its end."
)
@click.option("--field", default="text", show_default=True, metavar="NAME", help="Of a JSON object: what is its text.")
@options.encoding
@click.option(
    "--errors", type=click.Choice(["strict", "replace"]), default="strict", show_default=True,
    help="Of bytes outside the encoding: stop and name the line, or read U+FFFD.",
)  # fmt: skip
@click.option("--context", help="A text that the sentences stand after: read, not scored.")
@click.option("--end/--no-end", default=None, help="Score the end too, or not.  [default: of a model of documents]")
@click.option(
    "--by", type=click.Choice(["per-char", "per-byte", "total"]), default="per-char", show_default=True,
    help="What texts are ranked by.",
)  # fmt: skip
@click.option("--sort/--no-sort", default=True, help="Ranked, or in the input's order and at once.  [default: ranked]")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N likeliest; no more are kept.")
@click.option("--words", is_flag=True, help="Bits per word too; a word is what stands between white space.")
@click.option("--tsv", is_flag=True, help="Print tab-separated values with a header.")
@score_why.options
@options.as_json
@options.device
def score(sentences: tuple[str, ...], model: str | None, **chosen: Any) -> None:
    """Say how likely texts are, the likeliest per character first.

    \b
    bits/char         −log₂ p(text) over its characters: what people compare
    perplexity/char   2 to that power
    log p (nats)      the natural logarithm of p(text), not divided by anything

    A text begins after a newline in a model of running text, after the boundary in a model of documents (or after
    --context), and its first character counts. Its end counts with --end: log p then has that of the boundary, or of a
    newline, after it; the end is no character, so what is divided by stays the same. A character that the model does
    not know costs as much as any one of all that it does not know, and is counted under "unknown". Equals stay in
    their order; an empty text has no value per character and comes last. The total is weighted by character.

    A line ends at LF, CRLF or CR. Any number of texts can be read: --no-sort and --top keep few of them; a ranking of
    all keeps them on disk, and 16 bytes of each in memory. --json prints one document for arguments, and an object a
    line for files.
    """
    if chosen["tsv"] and chosen["as_json"]:
        raise click.UsageError("--tsv and --json do not go together.")
    if chosen["top"] and not chosen["sort"]:
        raise click.UsageError("--top is of a ranking: leave out --no-sort.")
    from chargen.errors import CorpusError
    from chargen.lm import load

    files = chosen["files"] or (() if sentences or sys.stdin.isatty() else ("-",))
    texts = _texts(sentences, files, chosen)
    first = next(texts, None)
    hint = 'Say chargen score "a sentence", or --file FILE.'
    if first is None:
        raise CorpusError("no sentence was given: there is nothing to score", hint)
    lm = load(model)
    lm.device = chosen["device"]
    chosen["end"] = lm.scores_end if chosen["end"] is None else chosen["end"]
    if not (files or chosen["end"] or any(sentences)):
        raise CorpusError("every sentence is empty: there is nothing to score", hint)
    why = {name: chosen[name] for name in ("chars", "html", "suggest")}
    if any(why.values()):
        whole = [first, *texts]
        if score_why.show(lm, whole, chosen["context"], chosen["as_json"], end=chosen["end"], **why):
            return
        first, texts = whole[0], iter(whole[1:])
    scores = lm.score_stream(chain([first], texts), context=chosen["context"], end=chosen["end"])
    _print(scores, bool(files), chosen)


def _texts(sentences: tuple[str, ...], files: Iterable[str], chosen: dict[str, Any]) -> Iterator[str]:
    """Yield the arguments, then the texts of each file.

    Raises:
        CorpusError: an argument is not UTF-8, or a file cannot be read.
    """
    from chargen.errors import CorpusError
    from chargen.text.records import read_records
    from chargen.text.tokenizer import check_unicode

    for place, text in enumerate(sentences, start=1):
        check_unicode(text, f"sentence {place}")
        yield text
    how = (chosen["form"] or "lines", chosen["field"], chosen["encoding"], chosen["errors"])
    for name in files:
        try:
            with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
                yield from read_records(file, "standard input" if name == "-" else name, *how)
        except OSError as error:
            raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from error


def _print(scores: Iterator[Score], many: bool, chosen: dict[str, Any]) -> None:
    from chargen.jsontext import to_line
    from chargen.ui import scores as show
    from chargen.ui.console import print_json, results

    tally, words = show.Tally(), chosen["words"]
    ordered = _ordered(tally.watching(scores, quiet=not chosen["sort"] and sys.stdout.isatty()), chosen)
    if chosen["as_json"] and not many:
        rows = [show.record(rank, place, score, words) for rank, place, score in ordered]
        about = {"unit": "bits per character", "context": chosen["context"], "end": chosen["end"], "by": chosen["by"]}
        print_json({**about, "sentences": rows, "total": tally.total.to_json()})
    elif chosen["as_json"]:
        for rank, place, score in ordered:
            sys.stdout.write(to_line(show.record(rank, place, score, words)) + "\n")
    else:
        line = show.tsv(sys.stdout.write, words) if chosen["tsv"] else show.table(results(), words, chosen["sort"])
        for rank, place, score in ordered:
            line(rank, place, score)
    for text in tally.notes(words):
        click.echo(text, err=True)


def _ordered(scores: Iterator[Score], chosen: dict[str, Any]) -> Iterator[tuple[int | None, int, Score]]:
    """Yield (rank, place among the input, score); the rank is None in the input's order."""
    from chargen.scoring.rank import Top
    from chargen.scoring.shelf import Shelf

    if not chosen["sort"]:
        yield from ((None, place, score) for place, score in enumerate(scores, start=1))
    elif chosen["top"]:
        top = Top(chosen["top"], chosen["by"])
        for place, score in enumerate(scores):
            top.add(place, score)
        yield from ((rank, place + 1, score) for rank, (place, score) in enumerate(top.best(), start=1))
    else:
        with Shelf(chosen["by"]) as shelf:
            for score in scores:
                shelf.add(score)
            for rank, (place, score) in enumerate(shelf.ranked(), start=1):
                yield rank, place + 1, score
