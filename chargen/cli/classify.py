"""`chargen classify`: which of several models a text fits best."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.main import stop_on_signals
from chargen.config import DEFAULT_BUDGET_S

if TYPE_CHECKING:
    from chargen.tasks.calibration import Quality
    from chargen.tasks.classifier import Classifier, TrainedClassifier

HALVES = (0.5,)  #: of the texts that --labelled names: the second half is measured


@click.command(
    epilog="\b\nExamples:\n  chargen classify --train letters/ --name letters --budget 5m\n"
    '  chargen classify -m letters "Dear Sir, I have the honour"\n  chargen classify -m letters --file inbox.txt\n'
    '  chargen classify -m english -m french --labelled both.tsv "Bonjour"'
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    type=options.NAME,
    metavar="MODEL",
    help="A trained classifier; or several models.",
)
@click.option("--file", type=options.NAME, metavar="FILE", help="Classify each line of a file; '-' is standard input.")
@click.option(
    "--train", "to_learn", type=options.NAME, metavar="DATA", help="Train a model for each label of labelled texts."
)
@click.option("--name", type=options.NAME, help="Of the classifier that is trained. [default: that of DATA]")
@click.option(
    "--budget",
    callback=options.span,
    default=f"{DEFAULT_BUDGET_S / 60:g}m",
    show_default=True,
    metavar="TIME",
    help="Of all models.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Train each model for so many steps instead.")
@click.option("--hidden", "hidden_size", type=int, help="Units of each model.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--labelled", type=options.NAME, metavar="DATA", help="Fit the temperature on one half of these, measure the other."
)
@options.device
@options.as_json
def classify(texts: tuple[str, ...], models: tuple[str, ...], to_learn: str | None, **choices: Any) -> None:
    """Say which of several models a text fits best, with probabilities.

    \b
    DATA   a folder with a sub-folder for each label (a text a file) or a file for each label (a text a line),
           or one file of lines label<TAB>text

    p(label | text) is proportional to p(label) · p(text | its model)^(1/temperature). The temperature is fitted to
    texts that no model learned from; without any it is 1, which is said, and is far too sure. Whole texts are compared:
    per character a long text would be no more evidence than a short one.

    --train learns from 80 % of each label's texts, fits the temperature on 10 %, and reports accuracy, log loss and the
    expected calibration error on the last 10 %, beside what always naming the commonest label gives. Priors are the
    labels' shares of the texts; several models given by -m are alike probable. Measuring comes after the budget.
    """
    if to_learn and (models or texts or choices["file"] or choices["labelled"]):
        raise click.UsageError("--train makes a classifier; use it afterwards: chargen classify -m NAME …")
    if to_learn and choices["steps"]:
        options.refuse(["budget"], "and --steps are two lengths; give one.")
    if not to_learn:
        options.refuse(["name", "budget", "steps", "hidden_size"], "is of --train.")
    if to_learn:
        length = {"steps": choices["steps"]} if choices["steps"] else {"budget_s": choices["budget"]}
        model = {"hidden_size": choices["hidden_size"]} if choices["hidden_size"] else {}
        train_labelled(to_learn, choices["name"], length, model, choices["seed"], choices["device"], choices["as_json"])
        return
    if not models:
        raise click.UsageError("Give a classifier or several models: -m NAME, or -m A -m B.")
    from chargen.tasks.calibration import split_labelled
    from chargen.tasks.classifier import load_classifier
    from chargen.tasks.labelled_data import read_labelled

    classifier = load_classifier(models)
    many = [*texts, *_lines(choices["file"], bool(texts or choices["labelled"]))]
    evaluated = None
    if choices["labelled"]:
        for_temperature, unseen = split_labelled(read_labelled(Path(choices["labelled"])), HALVES, choices["seed"])
        classifier = classifier.calibrate(for_temperature)
        evaluated = classifier.evaluate(unseen)
    elif not classifier.is_calibrated:
        click.echo("note: no temperature was fitted: the probabilities are far too sure; see --labelled", err=True)
    _print(classifier, many, evaluated, choices["as_json"])


def _lines(name: str | None, has_more: bool) -> list[str]:
    """Return the texts of a file, or of standard input where nothing else is to do."""
    from chargen.errors import CorpusError
    from chargen.tasks.labelled_data import read_all_lines

    if name is None and (has_more or sys.stdin.isatty()):
        return []
    try:
        if name in (None, "-"):
            return read_all_lines(sys.stdin.buffer, "standard input")
        with open(str(name), "rb") as file:
            return read_all_lines(file, str(name))
    except OSError as error:
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}") from error


def train_labelled(
    path: str, name: str | None, length: dict[str, float], model: dict[str, Any], seed: int, device: str, as_json: bool
) -> None:
    """Train a model for each label, print how good they are together; arguments as `train_classifier` has them."""
    from chargen.cli.main import STARTED
    from chargen.tasks.classifier import TrainedClassifier, train_classifier
    from chargen.tasks.labelled_data import read_labelled
    from chargen.ui.console import print_json, progress_bar, stderr_console, stdout_console
    from chargen.ui.terminal_text import visible

    texts, console = read_labelled(Path(path)), stderr_console()
    name = name or Path(path).resolve().stem
    done = 0
    with stop_on_signals() as stop, progress_bar(console, len(texts)) as show:
        for step in train_classifier(texts, name, length, model, seed, device, STARTED, stop.is_set):
            if isinstance(step, TrainedClassifier):
                trained = step
                continue
            label, values = step[0], step[1].to_json()
            if values["event"] == "progress":
                show(label, done + values["progress"])
            elif values["event"] == "finished":
                done += 1
                about = f"{len(texts[label]):,} texts, {values['val_bits_per_char']:.3f} bits/char on held-out text"
                console.print(visible(f"{label}: {about}"), soft_wrap=True)
                show("measuring", done)
    if as_json:
        print_json(_described(trained))
    else:
        stdout_console().print(_quality(trained.quality, trained.classifier), soft_wrap=True)
        stdout_console().print(visible(f"The classifier is {trained.folder}"))


def _described(trained: TrainedClassifier) -> dict[str, Any]:
    classifier = trained.classifier
    return {
        "classifier": str(trained.folder),
        "labels": classifier.labels,
        "temperature": classifier.temperature,
        "held_out": trained.quality.to_json(),
    }


def _quality(found: Quality, classifier: Classifier) -> str:
    return (
        f"{found.texts:,} held-out texts: accuracy {100 * found.accuracy:.1f} % (the commonest label alone: "
        f"{100 * found.accuracy_of_the_commonest:.1f} %), log loss {found.log_loss_nats:.3f} nats (the priors alone: "
        f"{found.log_loss_nats_of_the_priors:.3f}), expected calibration error {found.expected_calibration_error:.3f}; "
        f"temperature {classifier.temperature:.3g}"
    )


def _print(classifier: Classifier, texts: list[str], evaluated: Quality | None, as_json: bool) -> None:
    from chargen.ui.console import print_json, stdout_console
    from chargen.ui.tables import plain_table

    if as_json:
        if evaluated:
            print_json({"event": "measured", "temperature": classifier.temperature, **evaluated.to_json()})
        for text, row in zip(texts, classifier.log_probs(texts).tolist() if texts else [], strict=True):
            probabilities = {label: math.exp(x) for label, x in zip(classifier.labels, row, strict=True)}
            label = max(probabilities, key=lambda one: probabilities[one])
            about = {"temperature": classifier.temperature, "calibrated": classifier.is_calibrated}
            print_json({"event": "text", "text": text, "label": label, "probabilities": probabilities, **about})
        return
    if evaluated:
        stdout_console().print(_quality(evaluated, classifier), soft_wrap=True)
    if texts:
        rows = []
        for text, row in zip(texts, classifier.log_probs(texts).tolist(), strict=True):
            label = classifier.labels[max(range(len(row)), key=lambda k: row[k])]
            rows.append((label, *(f"{math.exp(x):.3f}" for x in row), text))
        columns = [f"p({label})" for label in classifier.labels]
        stdout_console().print(plain_table(("label", *columns, "text"), rows, columns))
