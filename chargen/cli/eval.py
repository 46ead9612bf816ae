"""`chargen eval`: a model measured on a whole text."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.config import LN2

if TYPE_CHECKING:
    from chargen.checkpoint import Checkpoint
    from chargen.scoring.dynamic_evaluation import AdaptedEvaluation


@click.command(
    name="eval",
    epilog="\b\nExamples:\n  chargen eval held-out.txt\n  chargen eval -m shakespeare play.txt --json\n"
    "  chargen eval -m shakespeare play.txt --adapt",
)
@click.argument("corpus", nargs=-1, required=True, type=options.NAME)
@options.model
@options.encoding
@options.max_corpus_size("1GB")
@options.device
@click.option("--adapt", is_flag=True, help="Also let a copy of the model learn from the text as it goes.")
@click.option("--adapt-rule", type=click.Choice(["rms", "sgd"]), help="[default: rms]")
@click.option("--adapt-rate", type=float, help="Learning rate. [default: 0.001; of sgd 0.05]")
@click.option("--adapt-decay", type=float, help="Back towards the trained weights, a segment. [default: 0.001]")
@click.option("--adapt-segment", type=int, help="Ids that are scored before each step. [default: 20]")
@options.as_json
def evaluate(corpus: tuple[str, ...], model: str | None, encoding: str, max_bytes: int, device: str,
             adapt: bool, as_json: bool, **how: Any) -> None:  # fmt: skip
    """Measure a model on a whole text: bits per character, with the state carried from its beginning to its end.

    CORPUS is a file, a folder, '-' or a corpus's name; several are put end to end. "windows" is the same text in pieces
    of 256 characters, each read without what stands before it but one character.

    To a model of documents the end of each is a character, as it was in training; `chargen score` divides by a
    text's own characters.

    --adapt adds the number of dynamic evaluation (Krause et al. 2018): a copy of the model scores a segment, then
    learns from it, then scores the next. It is labelled as that wherever it stands; the plain number stays beside it,
    and the model's file as it is.
    """
    if not adapt and any(value is not None for value in how.values()):
        raise click.UsageError("--adapt-rule, --adapt-rate, --adapt-decay and --adapt-segment go with --adapt.")
    from chargen.config import DataConfig
    from chargen.lm import load
    from chargen.text.corpus import read_corpus
    from chargen.ui.console import print_json, stderr_console, stdout_console
    from chargen.ui.tables import plain_table

    lm = load(model, device)
    # Read as it is: the model brings it into the form of its training text, and counts the bytes of this one.
    text = read_corpus(corpus, DataConfig(encoding=encoding, newline="keep", normalize="none"), max_bytes=max_bytes)
    found = lm.evaluate(text.text)
    console = stdout_console()
    if found.unknown_chars:
        note = f"note: the model does not know {found.unknown_chars:,} of the {found.chars:,} characters"
        stderr_console().print(note)
    adapted = _adapted(lm.checkpoint, text.text, how, device) if adapt else None
    if as_json:
        print_json({"corpus": text.name, **asdict(found), **({"adapted": adapted.to_json()} if adapted else {})})
        return
    rows = [
        ("carried, the whole text", found.loss_nats_per_char),
        ("  first half", found.first_half_nats_per_char),
        ("  second half", found.second_half_nats_per_char),
        ("windows of 256", found.windows_256_nats_per_char),
    ]
    if adapted:
        rows += [
            ("adapted on the way (dynamic evaluation)", adapted.loss_nats_per_char),
            ("  first half", adapted.first_half_nats_per_char),
            ("  second half", adapted.second_half_nats_per_char),
        ]
    numbers = ("bits/char", "nats/char")
    console.print(
        plain_table((text.name, *numbers), [(name, f"{n / LN2:.3f}", f"{n:.4f}") for name, n in rows], numbers)
    )
    ends = f" ({found.document_ends:,} of them ends of documents)" if found.document_ends else ""
    console.print(
        f"{found.chars:,} characters{ends}, {found.bytes:,} bytes; {found.bits_per_byte:.3f} bits/byte, "
        f"perplexity {found.perplexity_per_char:.2f} per character"
    )
    if adapted:
        console.print(
            f"adapted by {adapted.rule}, rate {adapted.learning_rate:g}, decay {adapted.decay:g}, segments of "
            f"{adapted.segment_ids}: {adapted.bits_per_byte:.3f} bits/byte; each was scored before it was learned from"
        )


def _adapted(checkpoint: Checkpoint, text: str, how: dict[str, Any], device: str) -> AdaptedEvaluation:
    """Run the dynamic evaluation, with its progress on a terminal."""
    from chargen.networks.torch_runtime import resolve_device
    from chargen.scoring.dynamic_evaluation import Adaptation, AdaptedEvaluation, evaluate_adapted
    from chargen.ui.console import progress_bar, stderr_console

    names = {
        "adapt_rule": "rule",
        "adapt_rate": "learning_rate",
        "adapt_decay": "decay",
        "adapt_segment": "segment_ids",
    }
    given = Adaptation(**{names[key]: value for key, value in how.items() if value is not None})
    with progress_bar(stderr_console(), 1.0) as show:
        for step in evaluate_adapted(checkpoint, text, given, resolve_device(device)):
            if isinstance(step, AdaptedEvaluation):
                return step
            show("adapting", step)
    raise AssertionError("the last step is the result")
