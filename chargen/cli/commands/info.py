"""`chargen info`: list the models, classifiers and forecasters, or describe one.

From Python: `describe_models("shakespeare", as_json=True)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from chargen.cli import options
from chargen.cli.effects import Effect
from chargen.runs import FORECASTER_FILE
from chargen.schema import format_number, format_significant
from chargen.ui.terminal_text import say

# Names of the properties as a person reads them, in the order in which they are shown.
LABELS = {
    "kind": "kind",
    "path": "file",
    "trained_at": "trained",
    "size_bytes": "size",
    "weight_storage": "weights stored as",
    "stored_ngram_rows": "n-gram rows stored",
    "training_state_bytes": "training state",
    "corpus": "trained on",
    "train_chars": "characters for training",
    "network": "network",
    "direction": "direction",
    "parameters": "parameters",
    "dropout": "dropout",
    "weight_dropout": "weight dropout",
    "ngram_dropout": "n-gram dropout",
    "ngram_words": "n-gram words",
    "tokenizer": "tokenizer",
    "series": "series",
    "vocab_size": "vocabulary",
    "step": "best step",
    "epochs": "epochs",
    "val_loss_nats_per_char": "loss on the held-out text",
    "val_second_half_nats_per_char": "  its second half",
    "val_perplexity_per_char": "  its perplexity",
    "ngram_5_nats_per_char": "an interpolated 5-gram",
    "method": "method",
    "labels": "labels",
    "held_out_texts": "held-out texts",
    "held_out_accuracy": "  accuracy",
    "held_out_macro_f1": "  macro F1",
    "held_out_log_loss_nats": "  log loss",
    "held_out_expected_calibration_error": "  calibration error",
    "columns": "columns that are forecast",
    "inputs": "further columns",
    "history_steps": "history in steps",
    "horizon_steps": "horizon in steps",
    "step_s": "seconds from step to step",
    "strategy": "strategy",
    "output": "output",
    "coverage": "coverage of the interval",
    "calendar": "calendar",
    "held_out_mae": "MAE on held-out time",
    "held_out_coverage": "values within the interval",
    "temperature": "temperature",
    "written_by": "written by",
}

#: Figures of a classifier on held-out texts, as its file names them.
HELD_OUT = ("texts", "accuracy", "macro_f1", "log_loss_nats", "expected_calibration_error")

#: Properties that say nothing about a model in which another one is 0: they are not shown to a person.
ONLY_WITH = {"ngram_dropout": "ngrams", "ngram_words": "ngram_words"}

#: Columns of the table of models that a narrow terminal does not show, the least important one first.
MODEL_OPTIONAL = ("size", "parameters", "trained")

EFFECTS = [Effect(("--explain",), without=("model",), message="--explain needs MODEL, the name of a model.")]


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen info\n  chargen info shakespeare\n  chargen info shakespeare --explain\n"
    "  chargen info model.safetensors --json",
)
@click.argument("model", required=False, type=options.MODEL_NAME)
@options.checkpoints
@options.output_option(
    "--explain", is_flag=True, help="Also print the parameter count of MODEL as formulas, layer by layer."
)
@options.as_json
def info(model: str | None, explain: bool, as_json: bool) -> None:
    """List the models, classifiers and forecasters under checkpoints/, the newest model last; or describe MODEL."""
    describe_models(model, as_json, explain)


def describe_models(model: str | None = None, as_json: bool = False, explain: bool = False) -> None:
    """Print the properties of a model of any kind on stdout, or tables of all of them.

    Args:
        model: Model file, run folder or run name, a classifier or a forecaster; None for all under checkpoints/.
        as_json: Whether to print JSON.
        explain: Whether to print the parameter count of the model as formulas, too. It needs a model.

    Raises:
        ChargenError: If `explain` is set for a classifier or a forecaster.
        ModelError: If the model does not exist or cannot be read. Models of a table that cannot be read get a note.
    """
    from chargen.folders import checkpoints_folder
    from chargen.ui.output import print_json

    if model is not None:
        facts, parts = _facts_of(model, explain)
        if as_json:
            print_json({**facts, "parts": parts} if explain else facts)
        else:
            _print_one(facts)
            _print_explanation(parts)
        return
    all_facts = list(_all_facts())
    if as_json:
        print_json(all_facts)
    elif not all_facts:
        say(f"no model under {checkpoints_folder()}/ yet. Train one: chargen train corpus.txt")
    else:
        _print_tables(all_facts)


def _facts_of(model: str, explain: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the properties of a model of any kind, and the parameter count of each part if it is to be explained.

    Raises:
        ChargenError: If a classifier or a forecaster is to be explained.
        ModelError: If there is no such model, or it cannot be read.
    """
    from chargen.errors import ChargenError
    from chargen.runs import find_classifier, find_forecaster, find_model

    if not os.path.isfile(model) and (classifier := find_classifier(model)):
        if explain:
            raise ChargenError(
                f"{model} is a classifier, which has a model for each label", "Explain one of them by its file."
            )
        return _classifier_facts(classifier), []
    forecaster = find_forecaster(model)
    if forecaster and (forecaster.name == FORECASTER_FILE or _kind_of(forecaster) == "forecaster"):
        if explain:
            raise ChargenError(f"{model} is a forecaster: --explain describes language models", "Leave out --explain.")
        return _forecaster_facts(forecaster), []
    path = find_model(model)
    return _facts(path), _explanation(path) if explain else []


def _kind_of(path: Path) -> str:
    """Return the kind of a model that its file states; "" for a language model, or a file that cannot be read."""
    from chargen.checkpoint import DamagedError, open_tensors

    try:
        with open_tensors(path) as file:
            return str(file.metadata.get("kind", ""))
    except DamagedError:
        return ""  # opening it as a model gives the error


def _all_facts() -> Iterator[dict[str, Any]]:
    """Yield the properties of each model of any kind under checkpoints/; print a note if one cannot be read."""
    from chargen.errors import ChargenError
    from chargen.runs import list_classifier_files, list_forecaster_files, list_model_files

    kinds = (
        (_facts, list_model_files()),
        (_classifier_facts, list_classifier_files()),
        (_forecaster_facts, list_forecaster_files()),
    )
    for describe, paths in kinds:
        for path in paths:
            try:
                yield {"name": path.parent.name, **describe(path)}
            except ChargenError as error:
                say(f"note: {error.message}")


def _facts(path: Path) -> dict[str, Any]:
    """Return the properties of a model file.

    Raises:
        ModelError: If it cannot be read.
    """
    from chargen.cells.weights import NGRAM_TABLE, count_parameters
    from chargen.checkpoint import load_checkpoint
    from chargen.runs import STATE_FILE
    from chargen.storage.stored_weights import count_stored_rows

    checkpoint = load_checkpoint(path)
    state = path.with_name(STATE_FILE)
    config, about, quantizer = checkpoint.config, checkpoint.about, checkpoint.tokenizer.quantizer
    result = about.get("result", {})
    return {
        "kind": "model",
        "path": os.path.abspath(path),
        "corpus": about.get("corpus"),
        "network": str(config),
        "direction": checkpoint.data.direction,
        "cell": config.cell,
        "num_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "ensemble_size": config.ensemble_size,
        "embedding_dim": config.embedding_dim,
        "ngrams": config.ngrams,
        "dropout": config.dropout,
        "weight_dropout": config.weight_dropout,
        "ngram_dropout": config.ngram_dropout,
        "ngram_words": config.ngram_words,
        "ngram_index": config.ngram_index,
        "residual": config.residual,
        "skip": config.skip,
        "layer_norm": config.layer_norm,
        "tied_weights": config.tie_weights,
        "parameters": count_parameters(config),
        "tokenizer": checkpoint.tokenizer.name,
        "series": None if quantizer is None else quantizer.summary,
        "rate_hz": None if quantizer is None else quantizer.rate_hz,
        "vocab_size": config.vocab_size,
        "train_chars": about.get("train_chars"),
        "step": about.get("step", result.get("best_step")),
        "epochs": result.get("epochs"),
        "val_loss_nats_per_char": result.get("val_loss_nats_per_char", about.get("choice_loss_nats_per_char")),
        "val_second_half_nats_per_char": result.get("val_second_half_nats_per_char"),
        "val_perplexity_per_char": result.get("val_perplexity_per_char"),
        "ngram_5_nats_per_char": result.get("ngram_5_nats_per_char"),
        "size_bytes": path.stat().st_size,
        "weight_storage": checkpoint.weight_storage,
        "stored_ngram_rows": count_stored_rows(checkpoint.weights, NGRAM_TABLE),
        "training_state_bytes": state.stat().st_size if state.is_file() else None,
        "trained_at": _modified_at(path),
        "written_by": f"chargen {about.get('chargen', '?')}",
    }


def _classifier_facts(path: Path) -> dict[str, Any]:
    """Return the properties of a classifier, from the file that describes it.

    Raises:
        ModelError: If it cannot be read.
    """
    from chargen.tasks.classification.saved import read_description

    saved = read_description(path)
    held_out = saved.get("held_out", {})
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return {
        "kind": "classifier",
        "path": os.path.abspath(path.parent),
        "method": "encoder" if "encoder" in saved else "generative",
        "labels": saved["labels"],
        **{f"held_out_{name}": held_out.get(name) for name in HELD_OUT},
        "temperature": saved["temperature"],
        "size_bytes": sum(file.stat().st_size for file in files),
        "trained_at": _modified_at(path),
    }


def _forecaster_facts(path: Path) -> dict[str, Any]:
    """Return the properties of a forecaster, from its file; ModelError if it cannot be read."""
    from chargen.ui.forecasts import forecaster_facts

    return {**forecaster_facts(path), "trained_at": _modified_at(path)}


def _explanation(path: Path) -> list[dict[str, Any]]:
    """Return the parameter count of each part of a model: part, formula, numbers, parameters."""
    from dataclasses import asdict

    from chargen.cells.parameter_count import explain_parameters
    from chargen.checkpoint import load_checkpoint

    return [asdict(part) for part in explain_parameters(load_checkpoint(path).config)]


def _print_explanation(parts: list[dict[str, Any]]) -> None:
    """Print the parameter count of each part of a model, and their sum; nothing if there are no parts."""
    from chargen.cells.parameter_count import LEGEND
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import parameter_table

    if not parts:
        return
    letters = {letter for part in parts for letter in part["formula"]}
    legend = ", ".join(f"{letter} {meaning}" for letter, meaning in LEGEND.items() if letter in letters)
    console = stdout_console()
    console.print(f"\nparameters, with {legend}:", highlight=False)
    console.print(parameter_table(parts))


def _modified_at(path: Path) -> str:
    """Return when a file was last written, as local time with its offset: model files contain no date."""
    from datetime import datetime

    return datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")


def _print_one(facts: dict[str, Any]) -> None:
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import key_value_table

    rows = [
        (label, _format(name, facts[name]))
        for name, label in LABELS.items()
        if facts.get(name) is not None and (name not in ONLY_WITH or facts[ONLY_WITH[name]])
    ]
    stdout_console().print(key_value_table(rows))


def _format(name: str, value: Any) -> str:
    """Return the value of a property as a person reads it, with its unit."""
    from chargen.ui.console import format_bits, format_size

    if name == "trained_at":
        return _format_date(value)
    if name.endswith("_bytes"):
        return format_size(value)
    if name.endswith("_nats_per_char"):
        return f"{format_bits(value)} bits/char"
    if name == "val_perplexity_per_char":
        return f"{format_number(value, 2)} per character"
    if name == "held_out_accuracy":
        return f"{100 * value:.1f} %"
    if name == "held_out_log_loss_nats":
        return f"{format_number(value, 3)} nats"
    if name.startswith("held_out_") and isinstance(value, float):
        return format_number(value, 3)
    if isinstance(value, dict):
        return _format_by_column(value, is_share=name == "held_out_coverage")
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, float):
        return format_significant(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _format_by_column(values: dict[str, float], is_share: bool) -> str:
    """Return a number of each column, without the name of a column that is the only one."""
    numbers = {name: f"{100 * x:.1f} %" if is_share else format_significant(x, 4) for name, x in values.items()}
    return next(iter(numbers.values())) if len(numbers) == 1 else ", ".join(f"{k} {v}" for k, v in numbers.items())


def _format_date(value: str) -> str:
    """Return the local date and time of an ISO 8601 time, to the minute."""
    return value[:16].replace("T", " ")


def _print_tables(all_facts: list[dict[str, Any]]) -> None:
    """Print a table of the models, and those of the classifiers and of the forecasters if there are any."""
    from chargen.ui.console import format_bits, format_size, stdout_console
    from chargen.ui.tables import plain_table

    models, classifiers, forecasters = [], [], []
    for facts in all_facts:
        size, date = format_size(facts["size_bytes"]), _format_date(facts["trained_at"])
        if facts["kind"] == "classifier":
            accuracy = facts["held_out_accuracy"]
            share = "–" if accuracy is None else _format("held_out_accuracy", accuracy)
            classifiers.append((facts["name"], ", ".join(facts["labels"]), share, size, date))
            continue
        if facts["kind"] == "forecaster":
            mae = _format("held_out_mae", facts["held_out_mae"] or {})
            forecasters.append((facts["name"], ", ".join(facts["columns"]), mae, facts["network"], size, date))
            continue
        loss_nats = facts["val_loss_nats_per_char"]
        bits_per_char = format_bits(loss_nats)
        parameters = f"{facts['parameters']:,}"
        models.append((facts["name"], bits_per_char, facts["network"], parameters, size, date[:10]))
    if models:
        names = ("name", "bits/char", "network", "parameters", "size", "trained")
        stdout_console().print(plain_table(names, models, names[1:2] + names[3:], MODEL_OPTIONAL))
    if classifiers:
        labels = ("classifier", "labels", "accuracy", "size", "trained")
        stdout_console().print(plain_table(labels, classifiers, ("accuracy", "size"), ("size", "trained")))
    if forecasters:
        headers = ("forecaster", "columns", "MAE", "network", "size", "trained")
        stdout_console().print(plain_table(headers, forecasters, ("MAE", "size"), ("size", "trained", "network")))
