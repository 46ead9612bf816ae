"""`chargen score`: print how likely texts are, ranked or in the order of the input.

From Python: `score_texts(ScoreArguments(sentences=("one", "two")))`. Any number of texts can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options, score_explain
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.hints import note_files
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

file_option = options.option_group("Files of texts")
scoring_option = options.option_group("Scoring")
ranking_option = options.option_group("Ranking")
explain_option = options.option_group("Explanations")

EFFECTS = [
    only_one("--null --json-lines --whole"),
    only_one("--tsv --json"),
    needs("--field", "--json-lines"),
    no_effect("--suggest", beside="--tsv", why="there is no column for suggestions; use --json"),
    no_effect("--top --by", beside="--no-sort", why="it needs a ranking"),
    no_effect(
        "--null --json-lines --whole --field --encoding --errors", beside="sentences", unless="--file",
        why="it needs files: use --file FILE, or --file - for standard input",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScoreArguments:
    """The arguments of `chargen score`, named as on the command line."""

    sentences: tuple[str, ...] = ()
    model: str | None = None
    files: tuple[str, ...] = ()
    sort: bool | None = None  #: None: ranked, but not with chars or suggest
    top: int | None = None
    chars: bool = False
    null: bool = False
    json_lines: bool = False
    whole: bool = False
    field: str = "text"
    encoding: str = "utf-8"
    errors: str = "strict"
    context: str | None = None
    end: bool | None = None  #: None: True for a model of documents
    words: bool = False
    by: str = "per-char"
    suggest: bool = False
    html: str | None = None
    device: str = "auto"
    threads: int | None = None
    tsv: bool = False
    as_json: bool = False


@click.command(cls=options.GroupedCommand, effects=EFFECTS, epilog=EXAMPLES)
@click.argument("sentences", nargs=-1, metavar="[SENTENCE]...")
@options.model
@options.basic_option(
    "--file", "files", multiple=True, type=options.FILE_NAME, metavar="FILE",
    help="Score each line of a file; '-' is standard input. May be repeated.",
)  # fmt: skip
@options.basic_option(
    "--sort/--no-sort", default=None, show_default="--sort; with --chars or --suggest --no-sort",
    help="Rank the texts, or print them in the order of the input, while it is read.",
)  # fmt: skip
@options.basic_option(
    "--top", type=click.IntRange(min=1), metavar="N", help="Print only the N most likely texts; only these are kept."
)
@options.basic_option("--context", metavar="TEXT", help="Text before the sentences. It is read, but not scored.")
@options.basic_option("--chars", is_flag=True, help="Show the surprisal of each character, as a colour or as a digit.")
@file_option("--null", is_flag=True, help="The texts of a file end with a NUL byte.")
@file_option("--json-lines", is_flag=True, help="The lines of a file are JSON objects; see --field.")
@file_option("--whole", is_flag=True, help="A file is one text; the newline at its end is removed.")
@file_option(
    "--field", type=options.NAME, default="text", show_default=True, metavar="NAME",
    help="Field of a JSON object that contains its text.",
)  # fmt: skip
@file_option(
    "--encoding", type=options.NAME, default="utf-8", show_default=True, help="Text encoding of the input files."
)
@file_option(
    "--errors", type=click.Choice(["strict", "replace", "skip"]), default="strict", show_default=True,
    help="What to do with a line that cannot be decoded: stop and report it, replace its bytes by U+FFFD, or skip it.",
)  # fmt: skip
@options.score_end(scoring_option)
@scoring_option("--words", is_flag=True, help="Add bits per word; words are separated by white space.")
@ranking_option(
    "--by", type=click.Choice(["per-char", "per-byte", "total"]), default="per-char", show_default=True,
    help="Rank by bits per character, by bits per byte, or by the log probability of the whole text.",
)  # fmt: skip
@explain_option(
    "--suggest", is_flag=True,
    help="Suggest the single edits that raise the log probability most. The end of the text is included.",
)  # fmt: skip
@explain_option(
    "--html", type=click.Path(dir_okay=False), metavar="FILE",
    help="Write an HTML page with a heat map and the model's best guesses.",
)  # fmt: skip
@options.device
@options.threads
@options.checkpoints
@options.output_option("--tsv", is_flag=True, help="Print tab-separated values with a header.")
@options.raw
@options.as_json
def score(**values: Any) -> None:
    """Print how likely texts are, the most likely per character first.

    \b
    bits/char        −log₂ p(text), divided by the number of characters
    perplexity/char  2 to the power of bits/char
    log p (nats)     natural logarithm of p(text), not divided by anything

    Compare texts by bits/char.

    A model of continuous text scores a text as if it followed a newline; a model of documents, as if it started a
    document; with --context, as if it followed that text. The first character counts. With --end, log p also contains
    the end of the text: the document boundary, or a newline. The end is not counted as a character. All characters that
    the model does not know have the same probability; they are counted under "unknown". Texts with equal scores keep
    their order. An empty text has no value per character and comes last. The total is weighted by character.

    Lines end with LF, CRLF or CR. The number of texts is not limited: --no-sort and --top keep only a few of them
    in memory, and a ranking of all keeps them on disk, with 16 bytes of memory for each. --json prints one document
    for sentences of the command line, and one object per line for files, --chars or --suggest. --tsv prints one row
    per text, or with --chars one row per character.

    On a terminal, control characters are escaped in --json and shown as symbols in --tsv (--raw: as they are); a pipe
    or a file gets the exact text. Tables always show them as symbols. On a terminal, a table has one line per text:
    a long text is shortened in the middle, and a narrow terminal shows fewer columns.
    """
    score_texts(ScoreArguments(**values))


def score_texts(args: ScoreArguments) -> None:
    """Score texts and print the result on stdout.

    Args:
        args: The arguments of the command. Without sentences and files, standard input is read.

    Raises:
        CorpusError: If there is nothing to score, or a text cannot be read.
        ModelError: If the model cannot be read.
        UsageError: If options contradict each other or have no effect.
    """
    options.use_threads(args.threads)
    from chargen.api import load
    from chargen.text.cleaning import check_unicode
    from chargen.ui.tables import RunningTotals

    if not (args.files or args.sentences or sys.stdin.isatty()):
        args = replace(args, files=("-",))
    _check(args)
    args = replace(args, sort=_sorts(args))
    check_unicode(args.context or "", "the context")
    note_files(args.sentences)
    totals = RunningTotals()
    texts = _texts(args, totals)
    first = next(texts, None)
    if first is None:
        raise _nothing_to_score("no sentence was given", totals)
    lm = load(args.model, args.device)
    args = replace(args, end=lm.scores_end if args.end is None else args.end)
    if not (args.files or args.end or any(args.sentences)):
        raise _nothing_to_score("every sentence is empty", totals)
    texts = score_explain.check_lengths(chain([first], texts), args)
    has_pieces = bool(args.chars or args.html)
    scores = lm.score_stream(texts, context=args.context, end=args.end, pieces=has_pieces)
    _print(lm, scores, args, totals)


def _nothing_to_score(reason: str, totals: RunningTotals) -> ChargenError:
    from chargen.errors import CorpusError

    for note in totals.notes(words=False):
        say(note)
    return CorpusError(f"{reason}: there is nothing to score", 'Use chargen score "a sentence", or --file FILE.')


def _check(args: ScoreArguments) -> None:
    """Refuse what `EFFECTS` cannot express.

    Raises:
        UsageError: If the columns of three options contradict each other, or the page has no name.
    """
    if args.tsv and args.chars and args.words:
        raise click.UsageError("--tsv with --chars prints a row for each character, and has no columns for --words.")
    if args.html == "":
        raise click.UsageError("--html is empty: give the name of a file.")


def _sorts(args: ScoreArguments) -> bool:
    """Return whether the texts are ranked."""
    if args.sort is not None:
        return args.sort
    return bool(args.top or options.given_options("by") or not (args.chars or args.suggest))


def _texts(args: ScoreArguments, totals: RunningTotals) -> Iterator[str]:
    """Yield the sentences, then the texts of each file.

    Raises:
        CorpusError: If a sentence is not valid UTF-8, or a file cannot be read.
    """
    from chargen.errors import CorpusError
    from chargen.text.cleaning import check_unicode
    from chargen.text.records import JSON, LINES, NULL, WHOLE, RecordFormat, read_records

    for number, text in enumerate(args.sentences, start=1):
        check_unicode(text, f"sentence {number}")
        yield text
    form = NULL if args.null else JSON if args.json_lines else WHOLE if args.whole else LINES
    skips = args.errors == "skip"
    record_format = RecordFormat(form, args.field, args.encoding, "strict" if skips else args.errors)
    on_error = totals.skip if skips else None
    for name in args.files:
        try:
            with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
                source = "standard input" if name == "-" else name
                yield from read_records(file, source, record_format, on_error)
        except OSError as error:
            raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from error


def _print(lm: LanguageModel, scores: Iterator[Score], args: ScoreArguments, totals: RunningTotals) -> None:
    """Print the scores in the form of the arguments, then the notes and totals on stderr."""
    from chargen.ui import tables
    from chargen.ui.console import print_json, stdout_console

    records: list[dict[str, Any]] = []  # content of the JSON document that is printed for sentences
    is_document = args.as_json and not (args.files or args.chars or args.suggest)
    print_row: tables.RowPrinter
    if is_document:
        print_row = tables.RecordList(records, args.words)
    elif args.as_json:
        print_row = tables.JsonLines(sys.stdout.write, args.words)
    elif args.tsv:
        print_row = tables.TsvRows(sys.stdout.write, args.words)
    else:
        print_row = tables.TableRows(stdout_console(), args.words, bool(args.sort))
    counted = totals.count(scores, quiet=not args.sort and sys.stdout.isatty())
    rows = _ordered(counted, args)
    if args.chars or args.html or args.suggest:
        score_explain.explain(lm, rows, args, print_row)
    else:
        for row in rows:
            print_row(*row)
    if is_document:
        about = {"unit": "bits per character", "context": args.context, "end": args.end, "by": args.by}
        print_json({**about, "sentences": records, "total": totals.total.to_json()})
    for note in totals.notes(args.words):
        say(note)


def _ordered(scores: Iterator[Score], args: ScoreArguments) -> Iterator[tuple[int | None, int, Score]]:
    """Yield (rank, number of the input, score), both from 1; the rank is None in the order of the input."""
    from chargen.scoring.ranking import DiskRanking, Top

    if not args.sort:
        for number, score in enumerate(scores, start=1):
            yield None, number, score
    elif args.top:
        top = Top(args.top, args.by)
        for index, score in enumerate(scores):
            top.add(index, score)
        for rank, (index, score) in enumerate(top.best(), start=1):
            yield rank, index + 1, score
    else:
        with DiskRanking(args.by) as ranking:
            for score in scores:
                ranking.add(score)
            for rank, (index, score) in enumerate(ranking.ranked(), start=1):
                yield rank, index + 1, score
