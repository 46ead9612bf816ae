"""`chargen info`: list the models, or describe one.

From Python: `describe_models("shakespeare", as_json=True)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.config import LN2
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen info\n  chargen info shakespeare\n  chargen info model.safetensors --json",
)
@click.argument("model", required=False, type=options.MODEL_NAME)
@options.checkpoints
@options.as_json
def info(model: str | None, as_json: bool) -> None:
    """List the models under checkpoints/, newest last; or describe MODEL."""
    describe_models(model, as_json)


def describe_models(model: str | None = None, as_json: bool = False) -> None:
    """Print the properties of a model on stdout, or a table of all models.

    Args:
        model: Model file, run folder or run name; None for all models under checkpoints/.
        as_json: Whether to print JSON.

    Raises:
        ModelError: If the model does not exist or cannot be read. Models of a table that cannot be read get a note.
    """
    from chargen.errors import ChargenError
    from chargen.folders import checkpoints_folder
    from chargen.runs import find_model, list_model_files
    from chargen.ui.console import print_json

    if model is not None:
        facts = _facts(str(find_model(model)))
        if as_json:
            print_json(facts)
        else:
            _print_one(facts)
        return
    all_facts = []
    for path in list_model_files():
        try:
            all_facts.append({"name": path.parent.name, **_facts(str(path))})
        except ChargenError as error:
            say(f"note: {error.message}")
    if as_json:
        print_json(all_facts)
    elif not all_facts:
        say(f"no model under {checkpoints_folder()}/ yet. Train one: chargen train corpus.txt")
    else:
        _print_table(all_facts)


def _facts(path: str) -> dict[str, Any]:
    """Return the properties of a model file.

    Raises:
        ModelError: If it cannot be read.
    """
    from pathlib import Path

    from chargen.cells.weights import count_parameters
    from chargen.checkpoint import load_checkpoint
    from chargen.runs import STATE_FILE

    checkpoint = load_checkpoint(Path(path))
    config, about = checkpoint.config, checkpoint.about
    result = about.get("result", {})
    return {
        "path": path,
        "corpus": about.get("corpus"),
        "network": str(config),
        "cell": config.cell,
        "num_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "ensemble_size": config.ensemble_size,
        "embedding_dim": config.embedding_dim,
        "ngrams": config.ngrams,
        "dropout": config.dropout,
        "weight_dropout": config.weight_dropout,
        "ngram_dropout": config.ngram_dropout,
        "tied_weights": config.tie_weights,
        "parameters": count_parameters(config),
        "tokenizer": checkpoint.tokenizer.name,
        "vocab_size": config.vocab_size,
        "train_chars": about.get("train_chars"),
        "step": about.get("step"),
        "epochs": result.get("epochs"),
        "val_loss_nats_per_char": result.get("val_loss_nats_per_char", about.get("choice_loss_nats_per_char")),
        "val_second_half_nats_per_char": result.get("val_second_half_nats_per_char"),
        "ngram_5_nats_per_char": result.get("ngram_5_nats_per_char"),
        "size_bytes": Path(path).stat().st_size,
        "training_state_bytes": _file_size(Path(path).with_name(STATE_FILE)),
        "written_by": f"chargen {about.get('chargen', '?')}",
    }


def _file_size(path: Path) -> int | None:
    """Return the size of a file in bytes, or None if there is no such file."""
    return path.stat().st_size if path.is_file() else None


def _print_one(facts: dict[str, Any]) -> None:
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import key_value_table

    rows = [(name.replace("_", " "), _format(value)) for name, value in facts.items() if value is not None]
    stdout_console().print(key_value_table(rows))


def _format(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_table(all_facts: list[dict[str, Any]]) -> None:
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import plain_table

    rows = []
    for facts in all_facts:
        loss_nats = facts["val_loss_nats_per_char"]
        bits_per_char = "–" if loss_nats is None else f"{loss_nats / LN2:.3f}"
        rows.append(
            (facts["name"], bits_per_char, facts["network"], f"{facts['parameters']:,}", facts["corpus"] or "–")
        )
    columns = ("name", "bits/char", "network", "parameters", "corpus")
    stdout_console().print(plain_table(columns, rows, ("bits/char", "parameters")))
