"""`chargen rescore`: add a model's score to N-best lists.

From Python: `rescore_lists(RescoreArguments(file="nbest.txt", weight=0.4))`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import needs, no_effect, only_one
from chargen.schema import Number, format_count, format_number
from chargen.ui.terminal_text import is_shown, say, visible_json

if TYPE_CHECKING:
    from chargen.tasks.rescoring import Hypothesis, ScoredHypothesis
    from chargen.tasks.tuning import TunedWeight
    from chargen.text.cleaning import CleaningReport

MAX_WEIGHT = 1e9  # no total overflows with it
Formatter = Callable[["ScoredHypothesis", float], str]  # (hypothesis, weight) → the line to print

list_option = options.option_group("N-best lists")
score_option = options.option_group("Combining scores")

EFFECTS = [
    only_one("--tune --weight", why="--tune finds the weight; give either --tune or --weight"),
    only_one("--as-costs --json"),
    needs("--error", "--tune"),
    no_effect("--sort --no-sort", beside="--best", why="only one hypothesis of each list is printed"),
    no_effect("--feature", beside="--as-costs --json --format=kaldi", why="only lines of Moses contain features"),
    no_effect("--costs --as-costs", beside="--format=moses", why="lines of Moses contain their total"),
]


@dataclass(frozen=True, kw_only=True)
class RescoreArguments:
    """The arguments of `chargen rescore`, named as on the command line."""

    model: str | None = None
    file: str = "-"
    weight: float | None = None
    references: str | None = None
    only_best: bool = False
    sort: bool = False
    form: str = "auto"
    costs: tuple[str, ...] = ()
    feature: str = "chargen"
    error: str | None = None
    by: str = "total"
    context: str | None = None
    end: bool | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    device: str = "auto"
    as_costs: bool = False
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen rescore -m news --weight 0.4 --file nbest.txt > rescored.txt\n"
    "  chargen rescore -m news --tune references.txt --file dev.nbest --best\n"
    "  chargen rescore -m speech --costs lm_cost --costs ac_cost --file text --best\n"
    "  moses … -n-best-list - 100 | chargen rescore --weight 0.4 --sort",
)
@options.model
@options.basic_option(
    "--file", type=options.FILE_NAME, default="-", show_default="-, standard input", metavar="FILE",
    help="File with the N-best lists.",
)  # fmt: skip
@options.basic_option(
    "--weight",
    type=options.number(Number(-MAX_WEIGHT, MAX_WEIGHT)),
    show_default="1",
    metavar="WEIGHT",
    help="Weight of the model's score in the total.",
)
@options.basic_option(
    "--tune", "references", type=options.FILE_NAME, metavar="REFS",
    help="Find the weight with the fewest errors on these references.",
)  # fmt: skip
@options.basic_option("--best", "only_best", is_flag=True, help="Print only the best hypothesis of each list.")
@options.basic_option(
    "--sort/--no-sort", default=False, show_default=True, help="Print the best hypothesis of each list first."
)
@list_option(
    "--format", "form", type=click.Choice(["auto", "moses", "kaldi"]), default="auto", show_default=True,
    help="Format of the lists; auto detects it.",
)  # fmt: skip
@list_option(
    "--costs", multiple=True, type=options.FILE_NAME, metavar="FILE",
    help="File with Kaldi's `utt-id-n cost`, line by line like the list. May be repeated.",
)  # fmt: skip
@list_option(
    "--feature", type=options.NAME, default="chargen", show_default=True, metavar="NAME",
    help="Name of the score among the features of Moses.",
)  # fmt: skip
@score_option(
    "--error", type=click.Choice(["wer", "cer"]), show_default="wer",
    help="Errors that --tune counts: word error rate or character error rate.",
)  # fmt: skip
@score_option(
    "--by", type=click.Choice(["total", "per-char"]), default="total", show_default=True,
    help="Use the log probability of the whole text, or divide it by the number of characters.",
)  # fmt: skip
@score_option("--context", metavar="TEXT", help="Text before every hypothesis. It is read, but not scored.")
@options.score_end(score_option)
@options.encoding
@options.errors
@options.device
@options.checkpoints
@options.output_option("--as-costs", is_flag=True, help="Print Kaldi's `id cost`, where the cost is minus the total.")
@options.raw
@options.as_json
def rescore(**values: Any) -> None:
    """Score N-best lists with a model, and combine its score with their existing scores.

    \b
    moses  id ||| text ||| features ||| total
           gets a feature `chargen= -12.3` and the new total
    kaldi  utt-id[-n] text
           cannot hold a score; use --best, --sort, --as-costs or --json

    new total = given total + WEIGHT × log p(text) in nats, the same as `chargen score` prints: of the whole text, from
    its start (or after --context), and with --end including its end. Unknown characters count. An empty text has
    log p = 0, or that of its end. --by per-char divides by the number of characters; the score of an empty text is not
    divided. For Kaldi the given total is minus the sum of --costs, or 0 without any.

    Ids, order, features and white space do not change; hypotheses with equal totals keep their order. The lines of a
    list must be consecutive: an id that comes again after its list has ended is an error. Lines end with LF, CRLF or
    CR; a CRLF stays one. The output is UTF-8. --errors skip leaves out lines of the list; costs and references belong
    to lines by their number, so an invalid one is an error.

    On a terminal, control characters are shown as symbols, and escaped in --json (--raw: as they are); a pipe or a file
    gets the exact text.

    --tune searches all weights from 0 up, exactly (Och 2003), for the fewest word (or character) errors in total.
    References for Moses are one text per line, the first one for the id 0; for Kaldi they are `utt-id text`. Each list
    needs a reference, and each reference a list. The lists are held in memory. The errors after tuning are those on the
    lists that the weight was tuned on; use the weight on other lists with --weight.
    """
    rescore_lists(RescoreArguments(**values))


def rescore_lists(args: RescoreArguments) -> None:
    """Rescore N-best lists and print them on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model, the lists, the costs or the references cannot be read.
        UsageError: If options contradict each other or a value is out of range.
    """
    _check(args)
    from chargen.api import load
    from chargen.tasks.rescoring import KALDI, MOSES, detect_format, read_lists, read_references, score_lists
    from chargen.text.cleaning import CleaningReport

    source = "standard input" if args.file == "-" else args.file
    report = CleaningReport()
    lines = _lines(args.file, args, report)
    detected, lines = detect_format(lines, source)
    form = detected if args.form == "auto" else args.form
    if form == MOSES and (args.costs or args.as_costs):
        option = "--costs" if args.costs else "--as-costs"
        raise click.UsageError(f"{option} needs the format of Kaldi; lines of Moses contain their total.")
    if form == KALDI and options.given_options("feature"):
        raise click.UsageError("--feature needs the format of Moses; lines of Kaldi have no features.")
    if form == KALDI and not (args.only_best or args.sort or args.as_costs or args.as_json):
        say("note: the format of Kaldi cannot hold a score; --as-costs, --best or --json use it")
    numbered = replace(args, errors="strict") if args.errors == "skip" else args
    lists = read_lists(lines, source, form, [(name, _lines(name, numbered, report)) for name in args.costs])
    lm = load(args.model, args.device)
    scored = score_lists(lists, lambda texts: lm.score(texts, context=args.context, end=args.end), args.by)
    weight = 1.0 if args.weight is None else args.weight
    if args.references:
        in_memory = list(scored)
        references = read_references(_lines(args.references, numbered, report), args.references, form)
        weight = _tune(in_memory, references, args)
        scored = iter(in_memory)
    _print(scored, weight, _formatter(form, args), args)
    for note in report.notes():
        say(f"note: {note}")


def _check(args: RescoreArguments) -> None:
    """Refuse values out of range, and two inputs from the same stream.

    Raises:
        UsageError: If there are such values.
    """
    inputs = [("--file", args.file), ("--tune", args.references), *(("--costs", name) for name in args.costs)]
    from_stdin = [option for option, name in inputs if name == "-"]
    if len(from_stdin) > 1:
        raise click.UsageError(
            f"{' and '.join(from_stdin)} cannot both come from standard input, which can be read only once."
        )
    if re.search(r"[\s|=]", args.feature) or not args.feature:
        raise click.UsageError(
            f"--feature {args.feature!r} cannot be a feature name: it must not contain spaces, = or |."
        )
    if args.weight is not None and not abs(args.weight) <= MAX_WEIGHT:
        raise click.UsageError(f"--weight {args.weight} is not a finite number within ±{MAX_WEIGHT:,.0f}.")
    if args.file == "-" and sys.stdin.isatty():
        raise click.UsageError("Give an N-best list: --file FILE, or on standard input.")


def _lines(name: str, args: RescoreArguments, report: CleaningReport) -> Iterator[str]:
    """Yield the lines of a file, or of standard input for "-".

    Raises:
        CorpusError: If it cannot be read.
    """
    from chargen.text.readers import open_lines
    from chargen.text.records import LINES, RecordFormat

    record_format = RecordFormat(LINES, encoding=args.encoding, errors=args.errors, keeps_cr=True)
    return open_lines(name, record_format, report)


def _tune(lists: list[list[ScoredHypothesis]], references: Mapping[str, str], args: RescoreArguments) -> float:
    """Find the weight for references by the id of their list, print the error rates, and return the weight."""
    from chargen.tasks.rescoring import prepare_tuning
    from chargen.tasks.tuning import tune_weight

    error = args.error or "wer"
    numbers, num_units = prepare_tuning(lists, references, args.references or "", error)
    tuned = tune_weight(numbers)
    _print_tuned(tuned, num_units, len(lists), error, args.as_json)
    return tuned.weight


def _print_tuned(tuned: TunedWeight, num_units: int, num_lists: int, error: str, as_json: bool) -> None:
    """Print the weight and the error rates: as JSON on stdout, or as a line on stderr."""
    from chargen.ui.output import print_json

    given, oracle = tuned.errors_before / num_units, tuned.errors_at_best / num_units
    after = tuned.errors / num_units
    if as_json:
        rates = {f"given_{error}": given, f"tuned_{error}": after, f"oracle_{error}": oracle}
        interval = {"weight_low": tuned.low, "weight_high": tuned.high}
        totals = {"units": num_units, "lists": num_lists}
        print_json({"event": "tuned", "weight": tuned.weight, **interval, **rates, **totals})
    else:
        say(
            f"weight {tuned.weight:.6g} (the same from {tuned.low:.6g} to {tuned.high:.6g}): {error.upper()} "
            f"{100 * after:.2f} % on {format_count(num_lists, 'list')}; {100 * given:.2f} % by the given totals, "
            f"{100 * oracle:.2f} % by the best possible choice"
        )


def _formatter(form: str, args: RescoreArguments) -> Formatter:
    """Return the function that formats a hypothesis for the output."""
    from chargen.tasks.rescoring import MOSES, add_feature

    def costs_line(scored: ScoredHypothesis, weight: float) -> str:
        return f"{_id(scored.hypothesis, form)} {0.0 - scored.total(weight):.9g}"

    def moses_line(scored: ScoredHypothesis, weight: float) -> str:
        value, total = (
            format_number(scored.value, 4, separator=""),
            f"{scored.total(weight) + 0.0:.9g}",
        )  # + 0.0: no "-0"
        return add_feature(scored.hypothesis, args.feature, value, total)

    def given_line(scored: ScoredHypothesis, weight: float) -> str:
        return scored.hypothesis.line

    if args.as_json:
        return _json_line
    if args.as_costs:
        return costs_line
    return moses_line if form == MOSES else given_line


def _json_line(scored: ScoredHypothesis, weight: float) -> str:
    from chargen.io import to_json_line

    score, hypothesis = scored.score, scored.hypothesis
    line = to_json_line(
        {
            "event": "hypothesis",
            "line": hypothesis.number,
            "list": hypothesis.list_id,
            "text": hypothesis.text,
            "total": scored.total(weight),
            "given_total": hypothesis.given,
            "weight": weight,
            "log_prob_nats": score.log_prob_nats,
            "end_log_prob_nats": score.end_log_prob_nats,
            "log_prob_nats_per_char": score.log_prob_nats / score.chars if score.chars else None,
            "chars": score.chars,
            "unknown_chars": score.unknown_chars,
        }
    )
    return visible_json(line) if is_shown() else line


def _id(hypothesis: Hypothesis, form: str) -> str:
    """Return the id as it was given; that of Kaldi includes n."""
    return hypothesis.line.split()[0] if form == "kaldi" else hypothesis.list_id


def _print(
    lists: Iterator[list[ScoredHypothesis]], weight: float, formatter: Formatter, args: RescoreArguments
) -> None:
    """Print the hypotheses of each list, and a note about empty texts."""
    from chargen.tasks.rescoring import best_hypothesis, rank_hypotheses

    num_empty = 0
    for scored in lists:
        num_empty += sum(not each.score.text and each.score.end_log_prob_nats is None for each in scored)
        chosen = rank_hypotheses(scored, weight) if args.sort else scored
        for each in [best_hypothesis(scored, weight)] if args.only_best else chosen:
            sys.stdout.write(formatter(each, weight) + "\n")
    if num_empty:
        texts_are = format_count(num_empty, "text is", "texts are")
        say(f"note: {texts_are} empty: the model's part of the total is 0 (see --end)")
