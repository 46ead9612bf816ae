"""Classify texts with a trained classifier, and explain the decisions."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chargen.cli.hints import no_texts_error, note_files
from chargen.schema import format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.cli.commands.classify.command import ClassifyArguments
    from chargen.tasks.classification.classifier import Predictions, TextClassifier
    from chargen.tasks.classification.explain import Explanation
    from chargen.text.cleaning import CleaningReport

CALIBRATION_SHARES = (0.5,)  # share of --labelled that is evaluated; the first half calibrates


def classify_texts(args: ClassifyArguments) -> None:
    """Classify texts and print the result on stdout.

    Args:
        args: The arguments of the command. Without texts, file and labelled texts, standard input is read.

    Raises:
        ChargenError: If a model or a text cannot be read, or there is nothing to classify.
        UsageError: If there is no model, or a file cannot be written.
    """
    if not args.models:
        raise click.UsageError("Give a classifier or several models: -m NAME, or -m A -m B.")
    from chargen.cli.commands.classify.report import check_files, print_report
    from chargen.tasks.classification.saved import load_classifier
    from chargen.text.cleaning import CleaningReport

    check_files(args)
    classifier = load_classifier(args.models, device=args.device)
    note_files(args.texts)
    report = CleaningReport()
    if not (args.file or args.texts or args.labelled or sys.stdin.isatty()):
        args = replace(args, file="-")
    texts = [*args.texts, *_lines(args, report)]
    if not texts and not (args.labelled and args.file is None):
        hint = 'Use chargen classify -m NAME "a text", or --file FILE.'
        raise no_texts_error([args.file] if args.file else [], "classify", report, hint)
    if args.explain and not texts:
        raise click.UsageError("--explain needs texts: give TEXT, or --file FILE.")
    predictions = None
    if args.labelled:
        classifier, predictions = _calibrate(classifier, args, report)
    elif not classifier.is_calibrated:
        say("note: the temperature is not calibrated: the probabilities are overconfident; see --labelled")
    for note in (*report.notes(), *classifier.notes(predictions.quality() if predictions else None)):
        say(f"note: {note}")
    explanations = _explain(classifier, texts) if args.explain else []
    if predictions is not None:
        print_report(args, predictions, classifier, ())
    if args.as_json:
        _print_json(classifier, texts, explanations)
    elif explanations:
        _print_explanations(explanations)
    else:
        _print(classifier, texts)
    if args.html:
        _write_page(args.html, explanations, ", ".join(args.models))


def _calibrate(
    classifier: TextClassifier, args: ClassifyArguments, report: CleaningReport
) -> tuple[TextClassifier, Predictions]:
    """Return (the classifier with the temperature of half of --labelled, its predictions for the other half).

    If --labelled has lines label<TAB>text, --text-field and --json-lines are those of --file.
    """
    from chargen.tasks.classification.calibration import split_labelled
    from chargen.tasks.classification.reading.labelled_data import read_labelled, record_form
    from chargen.text.records import AUTO, LINES

    path, record_format = Path(args.labelled or ""), args.record_format()
    if args.file and not args.label_field and path.is_file():
        without_fields = replace(record_format, form=AUTO, field="")
        if record_form(path, without_fields, "") == LINES:
            record_format = without_fields
    found = read_labelled(path, record_format, report, args.label_field or "")
    labelled = {label: [classifier.normalize(text) for text in texts] for label, texts in found.items()}
    for_temperature, unseen = split_labelled(labelled, CALIBRATION_SHARES, args.seed)
    calibrated = classifier.calibrate(for_temperature)
    return calibrated, calibrated.predict(unseen)


def _lines(args: ClassifyArguments, report: CleaningReport) -> list[str]:
    """Return the lines of the file, if there is one.

    Raises:
        CorpusError: If the file cannot be read.
    """
    from chargen.tasks.classification.reading.labelled_data import read_all_lines

    return [] if args.file is None else read_all_lines(args.file, args.record_format(), report)


def _explain(classifier: TextClassifier, texts: Sequence[str]) -> list[Explanation]:
    """Return the explanation of each text; on a terminal, a line shows how many are done."""
    from chargen.tasks.classification.explain import check_explainable, explain
    from chargen.ui.console import status, stderr_console

    for number, text in enumerate(texts, start=1):
        check_explainable(text, number)
    explanations = []
    with status(stderr_console(), f"explaining {len(texts):,} texts") as show:
        for number, text in enumerate(texts, start=1):
            show(f"explaining text {number:,} of {len(texts):,}")
            explanations.append(explain(classifier, text))
    return explanations


def _print_json(classifier: TextClassifier, texts: Sequence[str], explanations: Sequence[Explanation]) -> None:
    """Print each text as a JSON object on a line of its own."""
    from chargen.ui.output import print_json

    log_probs = classifier.log_probs(texts).tolist() if texts else []
    for number, (text, row) in enumerate(zip(texts, log_probs, strict=True)):
        probabilities = {label: math.exp(x) for label, x in zip(classifier.labels, row, strict=True)}
        label = max(probabilities, key=lambda label: probabilities[label])
        about = {"temperature": classifier.temperature, "calibrated": classifier.is_calibrated}
        explained = {"explanation": explanations[number].to_json()} if explanations else {}
        print_json(
            {"event": "text", "text": text, "label": label, "probabilities": probabilities, **about, **explained}
        )


def _print(classifier: TextClassifier, texts: Sequence[str]) -> None:
    """Print a table with a row for each text."""
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import plain_table

    if not texts:
        return
    rows = []
    for text, log_probs in zip(texts, classifier.log_probs(texts).tolist(), strict=True):
        label = classifier.labels[max(range(len(log_probs)), key=lambda index: log_probs[index])]
        rows.append((label, *(format_number(math.exp(x), 3) for x in log_probs), text))
    columns = [f"p({label})" for label in classifier.labels]
    stdout_console().print(plain_table(("label", *columns, "text"), rows, columns))


def _print_explanations(explanations: Sequence[Explanation]) -> None:
    from chargen.ui.console import stdout_console
    from chargen.ui.effect_map import DIGITS, print_effects

    console = stdout_console()
    has_digits = False
    for number, explanation in enumerate(explanations):
        has_digits |= print_effects(console, explanation, with_legend=number == 0)
    if has_digits:
        say(f"note: {DIGITS}")


def _write_page(path: str, explanations: Sequence[Explanation], model: str) -> None:
    from chargen.io import write_atomically
    from chargen.ui.effect_map import effect_page

    write_atomically(Path(path), (piece.encode() for piece in effect_page(explanations, model)))
    say(f"note: the page is {path}")
