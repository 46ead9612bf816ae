"""Print how good a classifier is on held-out texts: figures beside the baselines, confusions and mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chargen.cli import options
from chargen.schema import format_count, format_number, format_significant
from chargen.ui.terminal_text import say, shorten

if TYPE_CHECKING:
    from chargen.cli.commands.classify.command import ClassifyArguments
    from chargen.tasks.classification.calibration import Quality
    from chargen.tasks.classification.classifier import Predictions, TextClassifier
    from chargen.tasks.classification.report import Baseline

MAX_MATRIX_LABELS = 8  # labels whose confusion matrix is printed; of more, the pairs that are confused most
MAX_LABEL_CELLS = 16  # cells of a label in the header of the matrix
NAMES = {
    "majority": "the most frequent label alone",
    "tfidf_logistic_regression": "TF-IDF n-grams and logistic regression",
}


def check_files(args: ClassifyArguments) -> None:
    """Check that the files can be written, before any work is done.

    Raises:
        ChargenError: If a picture has no known format.
        UsageError: If a file cannot be written without loss.
    """
    inputs = [name for name in (args.data, args.labelled, args.file) if name]
    for option, path in (("--plot", args.plot), ("--html", args.html)):
        if path is not None:
            options.check_output_file(option, path, inputs)
    if args.plot is not None:
        from chargen.ui.chart.files import check_chart_file

        check_chart_file(args.plot)


def print_report(
    args: ClassifyArguments,
    predictions: Predictions,
    classifier: TextClassifier,
    baselines: Sequence[Baseline],
    more: dict[str, Any] | None = None,
) -> None:
    """Print the report on stdout, and write the picture of the confusion matrix if one is named.

    Args:
        args: The arguments of the command.
        predictions: What the classifier predicted for texts to which nothing was fitted.
        classifier: The classifier.
        baselines: What it is compared with, beside the most frequent label.
        more: Further values of the JSON output, at its start.
    """
    from chargen.tasks.classification.report import better_baseline, majority_baseline, report_json
    from chargen.ui.output import print_json

    compared = [majority_baseline(predictions), *baselines]
    quality = predictions.quality()
    if args.plot:
        _write_matrix(args.plot, predictions, classifier)
    if args.as_json:
        event = {"event": "measured", "labels": classifier.labels, "temperature": classifier.temperature}
        print_json({**event, **(more or {}), **report_json(predictions, compared)})
    else:
        method = f" ({more['method']})" if more else ""
        _print_figures(f"this classifier{method}", quality, classifier, compared)
        _print_confusions(predictions)
        _print_mistakes(predictions)
    better = better_baseline(quality, compared)
    if better is not None and better.name != "majority":  # the classifier has a note of its own about that one
        say(
            f"note: a baseline is better: {NAMES[better.name]} has an accuracy of "
            f"{100 * better.quality.accuracy:.1f} % on the same texts, and the classifier "
            f"{100 * quality.accuracy:.1f} %. Train it longer (--budget)"
        )


def _print_figures(name: str, quality: Quality, classifier: TextClassifier, baselines: Sequence[Baseline]) -> None:
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import plain_table

    columns = ("accuracy", "macro F1", "log loss (nats)", "calibration error")
    texts = f"on {format_count(quality.texts, 'held-out text')}"
    rows = [(name, *_figures(quality))]
    rows += [(NAMES[baseline.name], *_figures(baseline.quality)) for baseline in baselines]
    console = stdout_console()
    console.print(plain_table((texts, *columns), rows, columns, labels=(texts,)))
    console.print(f"temperature {_format_temperature(classifier.temperature)}", highlight=False)


def _figures(quality: Quality) -> Iterator[str]:
    yield f"{100 * quality.accuracy:.1f} %"
    for value in (quality.macro_f1, quality.log_loss_nats, quality.expected_calibration_error):
        yield format_number(value, 3)


def _format_temperature(temperature: float) -> str:
    if math.isfinite(temperature):
        return format_significant(temperature)
    return "∞ (the models do not tell these texts apart)"


def _print_confusions(predictions: Predictions) -> None:
    """Print the confusion matrix; of many labels, the pairs that are confused most."""
    from chargen.tasks.classification.report import confused_pairs, confusion_matrix
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import plain_table

    labels, matrix = predictions.labels, confusion_matrix(predictions)
    if len(labels) <= MAX_MATRIX_LABELS:
        columns = _different([shorten(f"→ {label}", MAX_LABEL_CELLS) for label in labels])
        rows = [
            (label, *(f"{count:,}" for count in counts)) for label, counts in zip(labels, matrix.tolist(), strict=True)
        ]
        table = plain_table(("right label → predicted", *columns), rows, columns)
    else:
        pairs = confused_pairs(labels, matrix)
        if not pairs:
            return
        rows = [(pair.label, pair.predicted, f"{pair.count:,}", f"{100 * pair.share:.1f} %") for pair in pairs]
        numbers = ("texts", "share of the label")
        table = plain_table(("right label", "predicted", *numbers), rows, numbers)
    stdout_console().print(table)


def _different(names: Sequence[str]) -> list[str]:
    """Return names that are all different: shortened ones may be equal."""
    return [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, start=1)]


def _print_mistakes(predictions: Predictions) -> None:
    """Print the most confident mistakes."""
    from chargen.tasks.classification.report import confident_mistakes
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import plain_table

    mistakes = confident_mistakes(predictions)
    if mistakes:
        columns = ("right label", "predicted", "p", "most confident mistakes")
        rows = [(each.label, each.predicted, format_number(each.probability, 3), each.text) for each in mistakes]
        stdout_console().print(plain_table(columns, rows, ("p",)))


def _write_matrix(path: str, predictions: Predictions, classifier: TextClassifier) -> None:
    from chargen.tasks.classification.report import confusion_matrix
    from chargen.ui.chart.files import write_picture
    from chargen.ui.chart.matrix import Matrix, matrix_svg

    quality = predictions.quality()
    title = f"{format_count(quality.texts, 'held-out text')}, accuracy {100 * quality.accuracy:.1f} %"
    write_picture(path, matrix_svg(Matrix(classifier.labels, confusion_matrix(predictions).tolist(), title)))
    say(f"note: the picture is {path}")
