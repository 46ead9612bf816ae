"""`chargen info`: which models there are, and what one of them is."""

from __future__ import annotations

from typing import Any

import click

from chargen.cli import options
from chargen.config import LN2
from chargen.ui.terminal_text import say


@click.command(
    epilog="\b\nExamples:\n  chargen info\n  chargen info shakespeare\n  chargen info model.safetensors --json"
)
@click.argument("model", required=False, type=options.NAME)
@options.as_json
def info(model: str | None, as_json: bool) -> None:
    """List the models under checkpoints/, newest last; or describe MODEL."""
    from chargen.runs import CHECKPOINTS, find_model, list_model_files

    if model is not None:
        _describe(_facts(str(find_model(model))), as_json)
        return
    from chargen.errors import ChargenError
    from chargen.ui.console import print_json, stdout_console
    from chargen.ui.tables import plain_table

    facts = []
    for path in list_model_files():
        try:
            facts.append({"name": path.parent.name, **_facts(str(path))})
        except ChargenError as error:
            say(f"note: {error.message}")
    if as_json:
        print_json(facts)
    elif not facts:
        say(f"no model under {CHECKPOINTS}/ yet. Train one: chargen train corpus.txt")
    else:
        rows = []
        for fact in facts:
            loss = fact["val_loss_nats_per_char"]
            rows.append(
                (
                    fact["name"],
                    "–" if loss is None else f"{loss / LN2:.3f}",
                    fact["network"],
                    f"{fact['parameters']:,}",
                    fact["corpus"] or "–",
                )
            )
        stdout_console().print(
            plain_table(("name", "bits/char", "network", "parameters", "corpus"), rows, ("bits/char", "parameters"))
        )


def _facts(path: str) -> dict[str, Any]:
    """Return what a model file says of itself.

    Raises:
        ModelError: it cannot be read.
    """
    from pathlib import Path

    from chargen.cells.weights import count_parameters
    from chargen.checkpoint import load_checkpoint

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
        "written_by": f"chargen {about.get('chargen', '?')}",
    }


def _describe(facts: dict[str, Any], as_json: bool) -> None:
    from chargen.ui.console import print_json, stdout_console
    from chargen.ui.tables import key_value_table

    if as_json:
        print_json(facts)
        return
    shown = {
        key: f"{v:,}"
        if isinstance(v, int) and not isinstance(v, bool)
        else f"{v:.4f}"
        if isinstance(v, float)
        else str(v)
        for key, v in facts.items()
        if v is not None
    }
    stdout_console().print(key_value_table((key.replace("_", " "), value) for key, value in shown.items()))
