"""`chargen score`: print how likely texts are, ranked or in the order of the input.

From Python: `score_texts(ScoreArguments(sentences=("one", "two")))`. Any number of texts can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands import score_explain
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.hints import no_texts_error, note_files, note_repeated_files
from chargen.cli.series_options import read_samples_of_file, refuse_text_options, shared_quantizer, shorten_texts
from chargen.config import FRACTION
from chargen.schema import Number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.scoring.scorer import Score
    from chargen.text.cleaning import CleaningReport
    from chargen.text.series.quantizer import Quantizer
    from chargen.ui.score_rows import RowPrinter, RunningTotals

EXAMPLES = """\b
Examples:
  chargen score "To be, or not to be" "To be, or to not be"
  chargen score --file sentences.txt --tsv
  chargen score --chars --suggest "To be, or ont to be"
  chargen score --file app.log --worst 20
  chargen score --file new.log --fail-above 6 --min-bits 6
  tail -f app.log | chargen score --no-sort --min-bits 4
  chargen score -m forward --backward backward "To be, or not to be"
  chargen score --json "Xin chào" < /dev/null"""

file_option = options.option_group("Files of texts")
scoring_option = options.option_group("Scoring")
ranking_option = options.option_group("Ranking")
explain_option = options.option_group("Explanations")
BITS = options.number(Number(0.0))

BEST, WORST, INPUT = "best", "worst", "input"  # orders of the texts: the first two are those of `scoring/ranking.py`
HOW_TO_GIVE = 'Use chargen score "a sentence", or --file FILE.'
ABOVE_LIMIT = 3  # exit status

EFFECTS = [
    only_one("--null --json-lines --whole"),
    only_one("--tsv --json"),
    only_one("--sort --no-sort --top --worst", why="each of them says which texts come first"),
    needs("--weight", "--backward"),
    no_effect("--context", beside="--backward", why="only the forward model reads a text that stands before"),
    no_effect("--suggest --html", beside="--backward", why="they explain what one model expects"),
    no_effect("--text-field", beside="--null --whole", why="such a file has no fields"),
    no_effect("--suggest", beside="--tsv", why="there is no column for suggestions; use --json"),
    no_effect("--by", beside="--no-sort --sort=input", why="it needs a ranking"),
    no_effect(
        "--null --json-lines --whole --text-field --encoding --errors", beside="sentences", unless="--file",
        why="it needs files: use --file FILE, or --file - for standard input",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScoreArguments:
    """The arguments of `chargen score`, named as on the command line."""

    sentences: tuple[str, ...] = ()
    model: str | None = None
    files: tuple[str, ...] = ()
    sort: str | None = None  #: BEST, WORST or INPUT; None: BEST, but WORST with worst, and INPUT with chars or suggest
    no_sort: bool = False  #: the same as INPUT
    top: int | None = None
    worst: int | None = None
    min_bits: float | None = None
    fail_above: float | None = None
    chars: bool = False
    null: bool = False
    json_lines: bool = False
    whole: bool = False
    text_field: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    context: str | None = None
    end: bool | None = None  #: None: True for a model of documents
    backward: str | None = None
    weight: float = 0.5
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
    "--worst", type=options.whole(1), metavar="N",
    help="Print only the N least likely texts, the least likely first; only these are kept.",
)  # fmt: skip
@options.basic_option(
    "--top", type=options.whole(1), metavar="N", help="Print only the N most likely texts; only these are kept."
)
@options.basic_option("--context", metavar="TEXT", help="Text before the sentences. It is read, but not scored.")
@options.basic_option(
    "--chars", is_flag=True, help="Show the surprisal of each character in bits, as a colour or as a digit."
)
@file_option("--null", is_flag=True, help="The texts of a file end with a NUL byte.")
@file_option(
    "--json-lines",
    is_flag=True,
    help="The lines of a file are JSON objects, also where its name does not end in .jsonl.",
)
@file_option("--whole", is_flag=True, help="A file is one text; the newline at its end is removed.")
@options.text_field
@options.encoding
@options.errors
@options.score_end(scoring_option)
@scoring_option(
    "--backward", type=options.MODEL_NAME, metavar="MODEL",
    help="Also score the texts by this model, which was trained with --direction backward, and combine both scores: "
    "the mean of the two log probabilities.",
)  # fmt: skip
@scoring_option(
    "--weight", type=options.number(FRACTION), default=0.5, show_default=True, metavar="W",
    help="Weight of the --backward model in the mean, from 0 to 1.",
)  # fmt: skip
@scoring_option("--words", is_flag=True, help="Add bits per word; words are separated by white space.")
@ranking_option(
    "--sort", type=click.Choice([BEST, WORST, INPUT]),
    show_default="best; worst with --worst; input with --chars or --suggest",
    help="Print the most likely or the least likely texts first; or in the order of the input, each as soon as it is "
    "read.",
)  # fmt: skip
@ranking_option("--no-sort", is_flag=True, help="The same as --sort input.")
@ranking_option(
    "--by", type=click.Choice(["per-char", "per-byte", "total"]), default="per-char", show_default=True,
    help="Rank by bits per character, by bits per byte, or by the log probability of the whole text.",
)  # fmt: skip
@ranking_option("--min-bits", type=BITS, metavar="X", help="Print only texts with at least X bits per character.")
@ranking_option(
    "--fail-above", type=BITS, metavar="X",
    help="Exit with status 3 if a text has more than X bits per character, printed or not.",
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
def score(**values: Any) -> int:
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

    Lines end with LF, CRLF or CR. The number of texts is not limited: --no-sort, --top and --worst keep only a few of
    them in memory, and a ranking of all keeps them on disk, with 16 bytes of memory for each. With --no-sort each line
    of a pipe is answered at once. --json prints one document for sentences of the command line, and one object per line
    for files, --chars or --suggest. --tsv prints one row per text, or with --chars one row per character.

    On a terminal, control characters are escaped in --json and shown as symbols in --tsv (--raw: as they are); a pipe
    or a file gets the exact text. Tables always show them as symbols. On a terminal, a table has one line per text:
    a long text is shortened in the middle, and a narrow terminal shows fewer columns.

    --backward MODEL ranks by the mean of log p of a forward and a backward model, weighted by --weight; of each
    character with --chars. It is a score, not a probability: it adds up to less than 1 over all texts. --json has log p
    of each model, too: "forward_log_prob_nats" and "backward_log_prob_nats". A --context stands before the texts; a
    backward model that is given as -m reads it as the text after them.

    "input" in --json and --tsv is the number of the text among all that were scored, from 1 and across files; records
    that are null or skipped have no number. The totals on stderr are those of all texts, also of texts that --top,
    --worst or --min-bits leave out.

    If the reader of the output closes the pipe (`| head`), --fail-above judges the texts that were scored until then.
    """
    return score_texts(ScoreArguments(**values))


def score_texts(args: ScoreArguments) -> int:
    """Score texts and print the result on stdout.

    Args:
        args: The arguments of the command. Without sentences and files, standard input is read.

    Returns:
        The exit status: 0, or 3 if a text is above `args.fail_above`.

    Raises:
        CorpusError: If there is nothing to score, or a text cannot be read.
        ModelError: If the model cannot be read.
        UsageError: If options contradict each other or have no effect.
    """
    options.start_with_one_thread(args.threads)
    from chargen.api import load
    from chargen.errors import CorpusError
    from chargen.scoring.scorer import split_chunks
    from chargen.text.cleaning import CleaningReport

    if not (args.files or args.sentences or sys.stdin.isatty()):
        args = replace(args, files=("-",))
    _check(args)
    args = replace(args, sort=_order(args))
    note_files(args.sentences)
    note_repeated_files(args.files)
    report = CleaningReport()
    if not (args.files or args.sentences):
        raise no_texts_error((), "score", report, HOW_TO_GIVE)
    lm = load(args.model, args.device)  # before the first line: it may come late, and is then answered at once
    options.note_newest_model(args.model, lm.path)
    both = None
    if args.backward is not None:
        from chargen.tasks.two_directions import TwoDirections

        backward = load(args.backward, args.device)
        shared_quantizer({"-m": lm, "--backward": backward})
        both = TwoDirections(lm, backward, args.weight)
    args = replace(args, end=lm.scores_end if args.end is None else args.end)
    refuse_text_options(lm.tokenizer.quantizer, args.files)
    batches = _batches(args, report, lm.tokenizer.quantizer)
    if args.html or args.suggest:
        batches = score_explain.check_lengths(batches, args)
    if args.sort != INPUT:  # nothing is printed before the last text, and large batches are faster
        batches = split_chunks(chain.from_iterable(batches))
    first = next(batches, None)
    if first is None:
        raise no_texts_error(args.files, "score", report, HOW_TO_GIVE)
    if not (args.files or args.end or any(args.sentences)):
        raise CorpusError("every sentence is empty: there is nothing to score", HOW_TO_GIVE)
    answered = _flush_answers(chain([first], batches))
    pieces = bool(args.chars or args.html)
    if both is None:
        scores = lm.score_batches(answered, context=args.context, end=args.end, pieces=pieces)
    else:
        scores = both.score_batches(answered, args.end, pieces)
    if lm.tokenizer.quantizer and not (args.as_json or args.tsv or args.chars or args.html or args.suggest):
        scores = shorten_texts(scores)
    return _print(lm, scores, args, report)


def _check(args: ScoreArguments) -> None:
    """Refuse what `EFFECTS` cannot express.

    Raises:
        UsageError: If the columns of three options contradict each other, or the page cannot be written without loss.
    """
    if args.tsv and args.chars and args.words:
        raise click.UsageError("--tsv with --chars prints a row for each character, and has no columns for --words.")
    if args.html is not None:
        from chargen.runs import find_model

        options.check_output_file("--html", args.html, (*args.files, find_model(args.model)))


def _order(args: ScoreArguments) -> str:
    """Return the order in which the texts are printed: BEST, WORST or INPUT."""
    if args.sort is not None:
        return args.sort
    if args.no_sort:
        return INPUT
    if args.worst:
        return WORST
    is_ranked = args.top or options.given_options("by") or not (args.chars or args.suggest)
    return BEST if is_ranked else INPUT


def _batches(args: ScoreArguments, report: CleaningReport, quantizer: Quantizer | None) -> Iterator[list[str]]:
    """Yield the sentences, then the texts of each file, in batches that are available without waiting.

    With the quantizer of a model of a series, a file is one series.

    Raises:
        CorpusError: If a file cannot be read.
    """
    if args.sentences:
        yield list(args.sentences)
    if not args.files:
        return
    if quantizer:
        yield from ([read_samples_of_file(name, args.text_field, args.encoding, quantizer)] for name in args.files)
        return
    from chargen.text.readers import open_batches
    from chargen.text.records import AUTO, JSON, NULL, WHOLE, RecordFormat

    form = NULL if args.null else JSON if args.json_lines else WHOLE if args.whole else AUTO
    record_format = RecordFormat(form, args.text_field or "", args.encoding, args.errors)
    for name in args.files:
        yield from open_batches(name, record_format, report)


def _flush_answers(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """Yield the batches, and flush stdout when the next one is asked for: all answers to the last one are printed."""
    for batch in batches:
        yield batch
        sys.stdout.flush()


def _print(lm: LanguageModel, scores: Iterator[Score], args: ScoreArguments, report: CleaningReport) -> int:
    """Print the scores in the form of the arguments, then the notes and totals on stderr; return the exit status."""
    from chargen.ui import score_rows
    from chargen.ui.output import abandon_output, print_json

    records: list[dict[str, Any]] = []  # content of the JSON document that is printed for sentences
    is_document = args.as_json and not (args.files or args.chars or args.suggest)
    print_row: RowPrinter
    if is_document:
        print_row = score_rows.RecordList(records, args.words)
    elif args.as_json:
        print_row = score_rows.JsonLines(sys.stdout.write, args.words)
    elif args.tsv:
        print_row = score_rows.TsvRows(sys.stdout.write, args.words)
    else:
        print_row = score_rows.TableRows(args.words, args.sort != INPUT)
    totals = score_rows.RunningTotals(args.min_bits, args.fail_above)
    try:
        _print_rows(lm, scores, args, print_row, totals)
        if is_document:
            about: dict[str, Any] = {
                "unit": "bits per character",
                "context": args.context,
                "end": args.end,
                "by": args.by,
            }
            if args.backward is not None:
                about |= {"backward": args.backward, "weight": args.weight}
            print_json({**about, "sentences": records, "total": totals.total.to_json()})
        sys.stdout.flush()
        for line in (*(f"note: {note}" for note in report.notes()), *totals.notes(args.words)):
            say(line)
    except BrokenPipeError:  # the reader of the output has closed the pipe (`chargen score --fail-above X | head`)
        if not totals.num_above:
            raise
        abandon_output()
    return ABOVE_LIMIT if totals.num_above else 0


def _print_rows(
    lm: LanguageModel, scores: Iterator[Score], args: ScoreArguments, print_row: RowPrinter, totals: RunningTotals
) -> None:
    """Print a row or an explanation of each text that is printed, in the order of the arguments."""
    counted = totals.count(scores, quiet=args.sort == INPUT and sys.stdout.isatty())
    rows = _ordered(((number, score) for number, score in enumerate(counted, 1) if totals.is_printed(score)), args)
    if args.chars or args.html or args.suggest:
        score_explain.explain(lm, rows, args, print_row)
    else:
        for row in rows:
            print_row(*row)


def _ordered(numbered: Iterator[tuple[int, Score]], args: ScoreArguments) -> Iterator[tuple[int | None, int, Score]]:
    """Yield (rank, number of the input, score), both from 1; the rank is None in the order of the input."""
    from chargen.scoring.ranking import DiskRanking, Top

    if args.sort == INPUT:
        for number, score in numbered:
            yield None, number, score
        return
    order = args.sort or BEST
    size = args.worst if order == WORST else args.top
    with nullcontext(Top(size, args.by, order)) if size else DiskRanking(args.by, order) as ranking:
        for number, score in numbered:
            ranking.add(number, score)
        for rank, (number, score) in enumerate(ranking.ranked(), start=1):
            yield rank, number, score
