"""`chargen classify`: classify texts with one model per label, and train such classifiers.

From Python: `classify_texts(ClassifyArguments(models=("letters",), texts=("Dear Sir",)))` and
`train_classifier_on(ClassifyArguments(data="letters/", steps=1000))`.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.hints import no_texts_error, note_files
from chargen.cli.main import STARTED, stop_on_signals
from chargen.cli.network_options import CONNECTION_OPTIONS, NETWORK_OPTIONS, NetworkArguments, network_options
from chargen.config import DEFAULT_BUDGET_S, TrainConfig
from chargen.schema import format_count, format_number, format_significant
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from chargen.tasks.classification.calibration import Quality
    from chargen.tasks.classification.classifier import ClassifierPlan, TextClassifier, TrainedClassifier
    from chargen.text.cleaning import CleaningReport
    from chargen.text.records import RecordFormat
    from chargen.ui.console import ProgressBar

CALIBRATION_SHARES = (0.5,)  # share of --labelled that is evaluated; the first half calibrates

TRAIN = options.numbers(TrainConfig)  # the types of the numeric options
training_option = options.option_group("Training")

EFFECTS = [
    only_one("--budget --steps --epochs"),
    needs(CONNECTION_OPTIONS, "--layers --cell"),
    needs(f"--name --budget --steps --epochs {NETWORK_OPTIONS}", "--train"),
    needs("--encoder", "--train"),
    needs("--seed", "--train --labelled"),
    no_effect(
        "--ensemble --ngrams --tie-weights --weight-dropout --ngram-dropout --residual --skip --layer-norm",
        beside="--encoder",
        why="an encoder has no such part",
    ),
    no_effect(
        "--encoding --errors --text-field --json-lines", beside="texts", unless="--file --labelled --train",
        why="it needs files: use --file FILE, or --file - for standard input",
    ),
    no_effect(
        "texts --model --file --labelled", beside="--train",
        why="--train makes a classifier; use it afterwards: chargen classify -m NAME …",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassifyArguments(NetworkArguments):
    """The arguments of `chargen classify`, named as on the command line; durations in seconds."""

    texts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    file: str | None = None
    labelled: str | None = None
    data: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    text_field: str | None = None
    json_lines: bool = False
    name: str | None = None
    encoder: bool = False
    budget: float | None = None
    steps: int | None = None
    epochs: float | None = None
    seed: int = 0
    device: str = "auto"
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen classify --train letters/ --name letters --budget 5m\n"
    '  chargen classify -m letters "Dear Sir, I have the honour"\n  chargen classify -m letters --file inbox.txt\n'
    '  chargen classify -m english -m french --labelled both.tsv "Bonjour"',
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@options.basic_option(
    "-m", "--model", "models", multiple=True, type=options.MODEL_NAME, metavar="MODEL",
    help="A trained classifier; or a model for one label. May be repeated.",
)  # fmt: skip
@options.basic_option(
    "--file", type=options.FILE_NAME, metavar="FILE", help="Classify each line of a file; '-' is standard input."
)
@options.basic_option(
    "--labelled", type=options.FILE_NAME, metavar="DATA",
    help="Calibrate the temperature on one half of these labelled texts, and evaluate on the other half.",
)  # fmt: skip
@options.basic_option(
    "--train", "data", type=options.FILE_NAME, metavar="DATA", help="Train a model for each label of labelled texts."
)
@options.encoding
@options.errors
@options.text_field
@options.json_lines
@training_option("--name", type=options.NAME, help="Name of the new classifier. Defaults to the name of DATA.")
@training_option(
    "--encoder", is_flag=True,
    help="Train one bidirectional encoder, which reads each text from both sides, instead of a model per label. The "
    "budget is a limit: it stops after 60 epochs.",
)  # fmt: skip
@training_option(
    "--budget", callback=options.parse_duration, show_default=f"{DEFAULT_BUDGET_S / 60:g}m", metavar="TIME",
    help="Time limit for all models together (wall clock): 90s, 5m, 1h30m. A number without a unit is in seconds.",
)  # fmt: skip
@training_option(
    "--steps",
    type=TRAIN["steps"],
    metavar="N",
    help="Train each model for N steps instead.",
)
@training_option(
    "--epochs",
    type=TRAIN["epochs"],
    metavar="N",
    help="Train each model for N passes over its texts instead.",
)
@training_option(
    "--seed", type=TRAIN["seed"], default=0, show_default=True, metavar="N",
    help="Random seed of the split into parts and of the models.",
)  # fmt: skip
@network_options
@options.device
@options.checkpoints
@options.as_json
def classify(**values: Any) -> None:
    """Classify texts with probabilities, by one model per label; or train such a classifier.

    \b
    DATA  a folder with a sub-folder for each label (one text per file),
          a folder with a file for each label (one text per line), or
          a file with lines label<TAB>text

    p(label | text) is proportional to p(label) · p(text | its model)^(1/temperature). The temperature is calibrated on
    texts that no model was trained on. Without such texts it is 1; the probabilities are then overconfident, and a note
    says so. Whole texts are compared: per character, a long text would be no more evidence than a short one.

    --train trains on 80 % of each label's texts and calibrates the temperature on 10 %. On the last 10 % it reports
    accuracy, log loss and expected calibration error, together with the accuracy of always choosing the most frequent
    label. The priors are the labels' shares of the texts; for several models given by -m they are equal. The evaluation
    takes place after the budget.

    --encoder trains a network that learns only what tells the labels apart. Its calibration and its report are the
    same. It reads the first 1,000 bytes of a text, and cannot generate or score text: it has no probability of a
    character.
    """
    args = ClassifyArguments(**values)
    if args.data:
        train_classifier_on(args, STARTED)
    else:
        classify_texts(args)


def classify_texts(args: ClassifyArguments) -> None:
    """Classify texts and print the result on stdout.

    Args:
        args: The arguments of the command. Without texts, file and labelled texts, standard input is read.

    Raises:
        ChargenError: If a model or a text cannot be read, or there is nothing to classify.
        UsageError: If there is no model.
    """
    if not args.models:
        raise click.UsageError("Give a classifier or several models: -m NAME, or -m A -m B.")
    from chargen.tasks.classification.calibration import split_labelled
    from chargen.tasks.classification.labelled_data import read_labelled
    from chargen.tasks.classification.saved import load_classifier
    from chargen.text.cleaning import CleaningReport

    classifier = load_classifier(args.models, device=args.device)
    note_files(args.texts)
    record_format, report = _record_format(args), CleaningReport()
    if not (args.file or args.texts or args.labelled or sys.stdin.isatty()):
        args = replace(args, file="-")
    texts = [*args.texts, *_lines(args, report)]
    if not texts and not (args.labelled and args.file is None):
        hint = 'Use chargen classify -m NAME "a text", or --file FILE.'
        raise no_texts_error([args.file] if args.file else [], "classify", report, hint)
    quality = None
    if args.labelled:
        for_temperature, unseen = split_labelled(
            read_labelled(Path(args.labelled), record_format, report), CALIBRATION_SHARES, args.seed
        )
        classifier = classifier.calibrate(for_temperature)
        quality = classifier.evaluate(unseen)
    elif not classifier.is_calibrated:
        say("note: the temperature is not calibrated: the probabilities are overconfident; see --labelled")
    for note in (*report.notes(), *classifier.notes(quality)):
        say(f"note: {note}")
    if args.as_json:
        _print_json(classifier, texts, quality)
    else:
        _print(classifier, texts, quality)


def train_classifier_on(args: ClassifyArguments, started: float | None = None) -> None:
    """Train a model for each label of `args.data`, and print how good the classifier is.

    Args:
        args: The arguments of the command.
        started: When the budget started to count, as a value of `time.perf_counter`; None for now.

    Raises:
        ChargenError: If the texts, the settings or the disk do not allow it, or a signal stopped it.
    """
    from chargen.tasks.classification.classifier import ClassifierPlan
    from chargen.tasks.classification.labelled_data import read_labelled
    from chargen.text.cleaning import CleaningReport
    from chargen.training.choices import RunLength
    from chargen.ui.console import Paragraph, ProgressBar, print_json, print_line, stderr_console, stdout_console
    from chargen.ui.terminal_text import visible
    from chargen.ui.training import command_line, proposal

    length = RunLength(budget_s=args.budget, steps=args.steps, epochs=args.epochs)
    if not length.chosen():
        length = RunLength(budget_s=DEFAULT_BUDGET_S)
    data = Path(args.data or "")
    report = CleaningReport()
    texts = read_labelled(data, _record_format(args), report)
    for note in report.notes():
        say(f"note: {note}")
    name = args.name or data.resolve().stem
    begin = time.perf_counter() if started is None else started
    plan = ClassifierPlan(texts, name, length, args.model_choices(), args.seed, args.device, begin)
    console = stderr_console()
    with stop_on_signals() as stop, ProgressBar(console, 1 if args.encoder else len(texts)) as bar:
        trained = (_train_encoder if args.encoder else _train_models)(plan, stop.is_set, bar)
    for note in trained.classifier.notes(trained.quality):
        print_line(console, f"note: {note}")
    if args.as_json:
        print_json(_trained_json(trained))
    else:
        stdout_console().print(Paragraph(_describe_quality(trained.quality, trained.classifier)))
        lines = [
            f"The classifier is {trained.folder}",
            *proposal(command_line("classify", "-m", trained.folder.name, "a text")),
        ]
        for line in lines:
            stdout_console().print(visible(line), soft_wrap=True)


def _train_models(plan: ClassifierPlan, stop: Callable[[], bool], bar: ProgressBar) -> TrainedClassifier:
    """Train a model for each label, and print a line for each on stderr."""
    from chargen.tasks.classification.classifier import TrainedClassifier
    from chargen.tasks.classification.generative import train_generative
    from chargen.ui.console import print_line, stderr_console

    num_done = 0
    trained = None
    for step in train_generative(plan, stop):  # to its end: it then removes what only the training needs
        if isinstance(step, TrainedClassifier):
            trained = step
            continue
        label, values = step[0], step[1].to_json()
        if values["event"] == "progress":
            bar.show(label, num_done + values["progress"])
        elif values["event"] == "finished":
            num_done += 1
            result = (
                f"{format_count(len(plan.texts[label]), 'text')}, {format_number(values['val_bits_per_char'], 3)} "
                "bits/char on held-out text"
            )
            print_line(stderr_console(), f"{label}: {result}")
            bar.show("evaluating", num_done)
    assert trained is not None, "the last step is the classifier"
    return trained


def _train_encoder(plan: ClassifierPlan, stop: Callable[[], bool], bar: ProgressBar) -> TrainedClassifier:
    """Train an encoder for all labels, and print a line about it on stderr."""
    from chargen.tasks.classification.classifier import TrainedClassifier
    from chargen.tasks.classification.encoder import train_encoder
    from chargen.ui.console import print_line, stderr_console

    epoch, trained = 0, None
    for step in train_encoder(plan, stop):
        if isinstance(step, TrainedClassifier):
            trained = step
            print_line(stderr_console(), f"{format_count(epoch, 'epoch')}; {step.classifier}")
        else:
            epoch = step.epoch
            bar.show(f"epoch {epoch}, log loss {format_number(step.log_loss_nats, 3)}", step.progress)
    assert trained is not None, "the last step is the classifier"
    return trained


def _record_format(args: ClassifyArguments) -> RecordFormat:
    """Return how the files are read.

    Raises:
        UsageError: If a field is named, but the only file consists of lines label<TAB>text.
    """
    from chargen.text.records import AUTO, JSON, RecordFormat

    labelled = args.data or args.labelled
    given = f"--text-field {args.text_field}" if args.text_field else "--json-lines" if args.json_lines else ""
    if given and not args.file and labelled and Path(labelled).is_file():
        raise click.UsageError(f"{given} has no effect: {labelled} has lines label<TAB>text, and no fields.")
    form = JSON if args.json_lines else AUTO
    return RecordFormat(form, field=args.text_field or "", encoding=args.encoding, errors=args.errors)


def _lines(args: ClassifyArguments, report: CleaningReport) -> list[str]:
    """Return the lines of the file, if there is one.

    Raises:
        CorpusError: If the file cannot be read.
    """
    from chargen.tasks.classification.labelled_data import read_all_lines

    return [] if args.file is None else read_all_lines(args.file, _record_format(args), report)


def _trained_json(trained: TrainedClassifier) -> dict[str, Any]:
    classifier = trained.classifier
    return {
        "classifier": str(trained.folder),
        "labels": classifier.labels,
        "temperature": classifier.temperature,
        "held_out": trained.quality.to_json(),
    }


def _format_temperature(temperature: float) -> str:
    return (
        format_significant(temperature)
        if math.isfinite(temperature)
        else "∞ (the models do not tell these texts apart)"
    )


def _describe_quality(quality: Quality, classifier: TextClassifier) -> str:
    return (
        f"{format_count(quality.texts, 'held-out text')}: accuracy {100 * quality.accuracy:.1f} % (the most "
        "frequent label alone: "
        f"{100 * quality.majority_class_accuracy:.1f} %), log loss "
        f"{format_number(quality.log_loss_nats, 3)} nats (the priors "
        f"alone: {format_number(quality.prior_log_loss_nats, 3)}), expected calibration error "
        f"{format_number(quality.expected_calibration_error, 3)}; "
        f"temperature {_format_temperature(classifier.temperature)}"
    )


def _print_json(classifier: TextClassifier, texts: list[str], quality: Quality | None) -> None:
    """Print the evaluation and each text as a JSON object on a line of its own."""
    from chargen.ui.console import print_json

    if quality:
        print_json({"event": "measured", "temperature": classifier.temperature, **quality.to_json()})
    for text, log_probs in zip(texts, classifier.log_probs(texts).tolist() if texts else [], strict=True):
        probabilities = {label: math.exp(x) for label, x in zip(classifier.labels, log_probs, strict=True)}
        label = max(probabilities, key=lambda label: probabilities[label])
        about = {"temperature": classifier.temperature, "calibrated": classifier.is_calibrated}
        print_json({"event": "text", "text": text, "label": label, "probabilities": probabilities, **about})


def _print(classifier: TextClassifier, texts: list[str], quality: Quality | None) -> None:
    """Print the evaluation, and a table with a row for each text."""
    from chargen.ui.console import Paragraph, stdout_console
    from chargen.ui.tables import plain_table

    if quality:
        stdout_console().print(Paragraph(_describe_quality(quality, classifier)))
    if not texts:
        return
    rows = []
    for text, log_probs in zip(texts, classifier.log_probs(texts).tolist(), strict=True):
        label = classifier.labels[max(range(len(log_probs)), key=lambda index: log_probs[index])]
        rows.append((label, *(format_number(math.exp(x), 3) for x in log_probs), text))
    columns = [f"p({label})" for label in classifier.labels]
    stdout_console().print(plain_table(("label", *columns, "text"), rows, columns))
