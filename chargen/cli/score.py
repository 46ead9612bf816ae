"""`chargen score`: how likely texts are, ranked or in their order; any number of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli import score_explain as score_why
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.errors import ChargenError
    from chargen.lm import LanguageModel
    from chargen.scoring.scorer import Score
    from chargen.ui.tables import RunningTotals

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
@click.option(
    "--file",
    "files",
    multiple=True,
    type=options.NAME,
    metavar="FILE",
    help="Score each line of a file; '-': standard input.",
)
@click.option("--null", is_flag=True, help="A file's texts end with a NUL byte.")
@click.option("--json-lines", is_flag=True, help="A file's lines are JSON objects; see --field.")
@click.option("--whole", is_flag=True, help="A file is one text, without the newline at its end.")
@click.option(
    "--field",
    type=options.NAME,
    default="text",
    show_default=True,
    metavar="NAME",
    help="Of a JSON object: what is its text.",
)
@options.encoding
@click.option(
    "--errors", type=click.Choice(["strict", "replace", "skip"]), default="strict", show_default=True,
    help="Of a line that cannot be read: stop and name it, read U+FFFD for its bytes, or go on without it.",
)  # fmt: skip
@click.option("--context", help="A text that the sentences stand after: read, not scored.")
@options.end
@click.option(
    "--by", type=click.Choice(["per-char", "per-byte", "total"]), default="per-char", show_default=True,
    help="What texts are ranked by.",
)  # fmt: skip
@click.option(
    "--sort/--no-sort", default=None,
    help="Ranked, or in the input's order, as it is read.  [default: ranked; as it came with --chars, --suggest]",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N likeliest; no more are kept.")
@click.option("--words", is_flag=True, help="Bits per word too; a word is what stands between white space.")
@click.option("--tsv", is_flag=True, help="Print tab-separated values with a header.")
@score_why.options
@options.raw
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
    line for files, --chars or --suggest; --tsv a row a text, with --chars a row a character.

    On a terminal, characters that would act on it are escaped in --json and shown as symbols in --tsv (--raw: as they
    are); a pipe or a file gets them as they are. Tables show them as symbols everywhere.
    """
    from chargen.lm import load
    from chargen.text.cleaning import check_unicode
    from chargen.ui.tables import RunningTotals

    files = chosen["files"] or (() if sentences or sys.stdin.isatty() else ("-",))
    _check(chosen, bool(files))
    check_unicode(chosen["context"] or "", "the context")
    tally = RunningTotals()
    texts = _texts(sentences, files, chosen, tally)
    first = next(texts, None)
    if first is None:
        raise _nothing("no sentence was given", tally)
    lm = load(model, chosen["device"])
    chosen["end"] = lm.scores_end if chosen["end"] is None else chosen["end"]
    if not (files or chosen["end"] or any(sentences)):
        raise _nothing("every sentence is empty", tally)
    texts = score_why.checked(chain([first], texts), chosen["html"], chosen["suggest"])
    pieces = bool(chosen["chars"] or chosen["html"])
    scores = lm.score_stream(texts, context=chosen["context"], end=chosen["end"], pieces=pieces)
    _print(lm, scores, bool(files), chosen, tally)


def _nothing(why: str, tally: RunningTotals) -> ChargenError:
    from chargen.errors import CorpusError

    for note in tally.notes(words=False):
        say(note)
    return CorpusError(f"{why}: there is nothing to score", 'Say chargen score "a sentence", or --file FILE.')


def _check(chosen: dict[str, Any], files: bool) -> None:
    """Decide on the order, and refuse options that contradict each other or would do nothing."""
    forms = options.given("null", "json_lines", "whole")
    if len(forms) > 1:
        raise click.UsageError(f"{forms[0]} and {forms[1]} do not go together.")
    if chosen["tsv"] and chosen["as_json"]:
        raise click.UsageError("--tsv and --json do not go together.")
    if chosen["tsv"] and chosen["suggest"]:
        raise click.UsageError("--tsv has no room for suggestions; --json has.")
    if chosen["tsv"] and chosen["chars"] and chosen["words"]:
        raise click.UsageError("--tsv with --chars has rows of characters, and none of --words.")
    if chosen["html"] == "":
        raise click.UsageError("--html is empty: give the name of a file.")
    if chosen["field"] != "text" and not chosen["json_lines"]:
        raise click.UsageError("--field is of --json-lines.")
    of_files = [*forms, *options.given("encoding", "errors")]
    if of_files and not files:
        raise click.UsageError(f"{of_files[0]} is of files: say --file FILE, or --file - for standard input.")
    of_rankings = options.given("top", "by")
    if chosen["sort"] is None:
        chosen["sort"] = bool(of_rankings or not (chosen["chars"] or chosen["suggest"]))
    if of_rankings and not chosen["sort"]:
        raise click.UsageError(f"{of_rankings[0]} is of a ranking: leave out --no-sort.")


def _texts(
    sentences: tuple[str, ...], files: Iterable[str], chosen: dict[str, Any], tally: RunningTotals
) -> Iterator[str]:
    """Yield the arguments, then the texts of each file.

    Raises:
        CorpusError: an argument is not UTF-8, or a file cannot be read.
    """
    from chargen.errors import CorpusError
    from chargen.text.cleaning import check_unicode
    from chargen.text.records import JSON, LINES, NULL, WHOLE, RecordFormat, read_records

    for place, text in enumerate(sentences, start=1):
        check_unicode(text, f"sentence {place}")
        yield text
    form = NULL if chosen["null"] else JSON if chosen["json_lines"] else WHOLE if chosen["whole"] else LINES
    skip = chosen["errors"] == "skip"
    record_format = RecordFormat(form, chosen["field"], chosen["encoding"], "strict" if skip else chosen["errors"])
    for name in files:
        try:
            with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
                where = "standard input" if name == "-" else name
                yield from read_records(file, where, record_format, tally.pass_over if skip else None)
        except OSError as error:
            raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from error


def _print(
    lm: LanguageModel, scores: Iterator[Score], files: bool, chosen: dict[str, Any], tally: RunningTotals
) -> None:
    from chargen.ui import tables as show
    from chargen.ui.console import print_json, stdout_console

    rows: list[dict[str, Any]] = []  # of the one document that is printed for arguments
    words, document = chosen["words"], chosen["as_json"] and not (files or chosen["chars"] or chosen["suggest"])
    if document:
        line = show.collect(rows, words)
    elif chosen["as_json"]:
        line = show.json_lines(sys.stdout.write, words)
    elif chosen["tsv"]:
        line = show.tsv(sys.stdout.write, words)
    else:
        line = show.table(stdout_console(), words, chosen["sort"])
    watched = tally.watching(scores, quiet=not chosen["sort"] and sys.stdout.isatty())
    ordered = _ordered(watched, chosen)
    if score_why.asked(chosen):
        score_why.show(lm, ordered, chosen, line)
    else:
        for row in ordered:
            line(*row)
    if document:
        about = {"unit": "bits per character", "context": chosen["context"], "end": chosen["end"], "by": chosen["by"]}
        print_json({**about, "sentences": rows, "total": tally.total.to_json()})
    for text in tally.notes(words):
        say(text)


def _ordered(scores: Iterator[Score], chosen: dict[str, Any]) -> Iterator[tuple[int | None, int, Score]]:
    """Yield (rank, place among the input, score); the rank is None in the input's order."""
    from chargen.scoring.ranking import DiskRanking, Top

    if not chosen["sort"]:
        yield from ((None, place, score) for place, score in enumerate(scores, start=1))
    elif chosen["top"]:
        top = Top(chosen["top"], chosen["by"])
        for place, score in enumerate(scores):
            top.add(place, score)
        yield from ((rank, place + 1, score) for rank, (place, score) in enumerate(top.best(), start=1))
    else:
        with DiskRanking(chosen["by"]) as shelf:
            for score in scores:
                shelf.add(score)
            for rank, (place, score) in enumerate(shelf.ranked(), start=1):
                yield rank, place + 1, score
