"""`chargen rescore`: N-best lists with a model's score in them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chargen.cli import options
from chargen.ui.terminal_text import is_shown, visible_json

if TYPE_CHECKING:
    from chargen.tasks.rescoring import Hypothesis, ScoredHypothesis
    from chargen.tasks.tuning import TunedWeight

MAX_WEIGHT = 1e9  #: with it no total overflows
Form = Callable[["ScoredHypothesis", float], str]


@click.command(
    epilog="\b\nExamples:\n  chargen rescore -m news --weight 0.4 --file nbest.txt > rescored.txt\n"
    "  chargen rescore -m news --tune references.txt --file dev.nbest --best\n"
    "  chargen rescore -m speech --costs lm_cost --costs ac_cost --file text --best\n"
    "  moses … -n-best-list - 100 | chargen rescore --weight 0.4 --sort"
)
@options.model
@click.option(
    "--file", type=options.NAME, default="-", metavar="FILE", help="The N-best list; standard input if left out."
)
@click.option("--format", "form", type=click.Choice(["auto", "moses", "kaldi"]), default="auto", show_default=True)
@click.option(
    "--costs",
    multiple=True,
    type=options.NAME,
    metavar="FILE",
    help="Kaldi's `utt-id-n cost`, line by line beside the list.",
)
@click.option("--weight", type=float, help="Of the model's score. [default: 1]")
@click.option(
    "--tune",
    "references",
    type=options.NAME,
    metavar="REFS",
    help="Find the weight that makes the fewest errors on these.",
)
@click.option("--error", type=click.Choice(["wer", "cer"]), help="That --tune counts. [default: wer]")
@click.option("--by", type=click.Choice(["total", "per-char"]), default="total", show_default=True)
@click.option("--context", help="A text that every hypothesis stands after: read, not scored.")
@options.end
@click.option("--best", "only_best", is_flag=True, help="Print the best of each list only.")
@click.option("--sort/--no-sort", "sort", default=False, help="The best of each list first. [default: as given]")
@click.option("--as-costs", is_flag=True, help="Print Kaldi's `id cost`: minus the new total.")
@click.option(
    "--feature", type=options.NAME, default="chargen", show_default=True, metavar="NAME", help="In Moses' features."
)
@options.device
@options.raw
@options.as_json
def rescore(file: str, form: str, costs: tuple[str, ...], references: str | None, **choices: Any) -> None:
    """Score N-best lists with a model, and combine its score with the one that they came with.

    \b
    moses   id ||| text ||| features ||| total       gets a feature `chargen= -12.3` and the new total
    kaldi   utt-id[-n] text                          has no room for a score: --best, --sort, --as-costs, --json

    new total = given total + WEIGHT × log p(text), in nats, as `chargen score` gives it: of the whole text, after what
    a text begins after (or --context), and of its end with --end; an unknown character has its price. An empty text
    costs nothing but its end. --by per-char divides by the text's characters; of an empty text it takes all. Kaldi's
    given total is minus the sum of its --costs; 0 without any.

    Ids, order, features and white space stay as they are; equals keep their order. The lines of a list stand together.

    On a terminal, characters that would act on it are shown as symbols, and escaped in --json (--raw: as they are); a
    pipe or a file gets exactly the text.

    --tune searches all weights from 0 up, exactly (Och 2003), for the fewest word (or character) errors in all; Moses'
    references are a text a line, the first for the id 0, Kaldi's are `utt-id text`. The lists are kept in memory for
    it. The errors after tuning are of the lists that it was tuned on; use the weight on others with --weight.
    """
    if references and choices["weight"] is not None:
        raise click.UsageError("--tune finds the weight: give it or --weight.")
    if choices["as_costs"] and choices["as_json"]:
        raise click.UsageError("--as-costs and --json do not go together.")
    if choices["error"] and not references:
        raise click.UsageError("--error is of --tune.")
    if references == file == "-":
        raise click.UsageError("The list and the references cannot both come on standard input.")
    if re.search(r"[\s|=]", choices["feature"]) or not choices["feature"]:
        raise click.UsageError(f"--feature {choices['feature']!r} cannot name one: no spaces, no = and no |.")
    if choices["weight"] is not None and not abs(choices["weight"]) <= MAX_WEIGHT:
        raise click.UsageError(f"--weight {choices['weight']} is not a finite number within ±{MAX_WEIGHT:,.0f}.")
    if file == "-" and sys.stdin.isatty():
        raise click.UsageError("Give an N-best list: --file FILE, or on standard input.")
    _run(file, form, costs, references, choices)


def _run(file: str, form: str, costs: tuple[str, ...], references: str | None, choices: dict[str, Any]) -> None:
    from chargen.lm import load
    from chargen.tasks.rescoring import KALDI, MOSES, detect_format, read_lists, score_lists
    from chargen.text.records import read_lines

    where = "standard input" if file == "-" else file
    with ExitStack() as stack:
        lines = read_lines(_open(file, stack), where)
        found, lines = detect_format(lines, where)
        form = found if form == "auto" else form
        if costs and form == MOSES:
            raise click.UsageError("--costs go with Kaldi's form; Moses' lines have their total.")
        if form == KALDI and not any(choices[key] for key in ("only_best", "sort", "as_costs", "as_json")):
            click.echo("note: Kaldi's form has no room for a score; --as-costs, --best or --json show it", err=True)
        lists = read_lists(lines, where, form, [(name, read_lines(_open(name, stack), name)) for name in costs])
        lm = load(choices["model"], choices["device"])
        how = {"context": choices["context"], "end": choices["end"]}
        scored = score_lists(lists, lambda texts: lm.score(texts, **how), choices["by"])
        weight = 1.0 if choices["weight"] is None else choices["weight"]
        if references:
            kept = list(scored)
            weight = _tune(kept, references, form, choices["error"] or "wer", choices["as_json"])
            scored = iter(kept)
        _print(scored, weight, _form(form, choices), choices)


def _open(name: str, stack: ExitStack) -> BinaryIO:
    from chargen.errors import CorpusError

    try:
        return sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
    except OSError as error:
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from error


def _tune(lists: list[list[ScoredHypothesis]], name: str, form: str, error: str, as_json: bool) -> float:
    """Find the weight, and say what it gains."""
    from chargen.tasks.rescoring import prepare_tuning, read_references
    from chargen.tasks.tuning import tune_weight
    from chargen.text.records import read_lines

    with ExitStack() as stack:
        references = read_references(read_lines(_open(name, stack), name), name, form)
    numbers, length = prepare_tuning(lists, references, name, error)
    tuned = tune_weight(numbers)
    _say_tuned(tuned, length, len(lists), error, as_json)
    return tuned.weight


def _say_tuned(tuned: TunedWeight, length: int, lists: int, error: str, as_json: bool) -> None:
    from chargen.ui.console import print_json

    if as_json:
        rates = {
            f"{name}_{error}": errors / length
            for name, errors in (
                ("given", tuned.errors_before),
                ("tuned", tuned.errors),
                ("oracle", tuned.errors_at_best),
            )
        }
        interval = {"weight_low": tuned.low, "weight_high": tuned.high}
        print_json({"event": "tuned", "weight": tuned.weight, **interval, **rates, "units": length, "lists": lists})
    else:
        before, after, fewest = (
            f"{100 * n / length:.2f} %" for n in (tuned.errors_before, tuned.errors, tuned.errors_at_best)
        )
        click.echo(
            f"weight {tuned.weight:.6g} (alike from {tuned.low:.6g} to {tuned.high:.6g}): {error.upper()} {after} on "
            f"these {lists:,} lists; {before} by the given totals, {fewest} by the best choice there is",
            err=True,
        )


def _form(form: str, choices: dict[str, Any]) -> Form:
    """Return how a hypothesis is printed."""
    from chargen.io import to_json_line
    from chargen.tasks.rescoring import MOSES, add_feature

    shown = is_shown()

    def as_json(one: ScoredHypothesis, weight: float) -> str:
        score, hypothesis = one.score, one.hypothesis
        line = to_json_line(
            {
                "event": "hypothesis",
                "line": hypothesis.number,
                "list": hypothesis.list_id,
                "text": hypothesis.text,
                "total": one.total(weight),
                "given_total": hypothesis.given,
                "weight": weight,
                "log_prob_nats": score.log_prob_nats,
                "end_log_prob_nats": score.end_log_prob_nats,
                "log_prob_nats_per_char": score.log_prob_nats / score.chars if score.chars else None,
                "chars": score.chars,
                "unknown_chars": score.unknown_chars,
            }
        )
        return visible_json(line) if shown else line

    def as_costs(one: ScoredHypothesis, weight: float) -> str:
        return f"{_id(one.hypothesis, form)} {-one.total(weight):.9g}"

    def as_moses(one: ScoredHypothesis, weight: float) -> str:
        return add_feature(one.hypothesis, choices["feature"], f"{one.value:.4f}", f"{one.total(weight):.9g}")

    def as_given(one: ScoredHypothesis, weight: float) -> str:
        return one.hypothesis.line

    if choices["as_json"]:
        return as_json
    if choices["as_costs"]:
        return as_costs
    return as_moses if form == MOSES else as_given


def _id(hypothesis: Hypothesis, form: str) -> str:
    """Return the id as it was given, a Kaldi one with its n."""
    return hypothesis.line.split()[0] if form == "kaldi" else hypothesis.list_id


def _print(lists: Iterator[list[ScoredHypothesis]], weight: float, form: Form, choices: dict[str, Any]) -> None:
    from chargen.tasks.rescoring import best_hypothesis, rank_hypotheses

    empty = 0
    for scored in lists:
        empty += sum(not one.score.text and one.score.end_log_prob_nats is None for one in scored)
        chosen = (
            [best_hypothesis(scored, weight)]
            if choices["only_best"]
            else rank_hypotheses(scored, weight)
            if choices["sort"]
            else scored
        )
        for one in chosen:
            sys.stdout.write(form(one, weight) + "\n")
    if empty:
        are = "text is" if empty == 1 else "texts are"
        click.echo(f"note: {empty:,} {are} empty: the model's part of the total is 0 (--end scores an end)", err=True)
