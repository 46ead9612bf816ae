"""`chargen eval`: evaluate a model on a whole text.

From Python: `evaluate_model(EvalArguments(corpus=("held-out.txt",)))`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import needs
from chargen.cli.series_options import refuse_text_options
from chargen.config import BACKWARD, FRACTION
from chargen.schema import Number, format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.checkpoint import Checkpoint
    from chargen.lm import LanguageModel
    from chargen.scoring.dynamic_evaluation import AdaptedEvaluation
    from chargen.scoring.whole_text import TextEvaluation

adapt_option = options.option_group("Dynamic evaluation")


@dataclass(frozen=True, kw_only=True)
class EvalArguments:
    """The arguments of `chargen eval`, named as on the command line; sizes in bytes."""

    corpus: tuple[str, ...]
    model: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 10**9
    device: str = "auto"
    threads: int | None = None
    adapt: bool = False
    adapt_rule: str | None = None
    adapt_rate: float | None = None
    adapt_decay: float | None = None
    adapt_segment: int | None = None
    as_json: bool = False


@click.command(
    name="eval",
    cls=options.GroupedCommand,
    effects=[needs("--adapt-rule --adapt-rate --adapt-decay --adapt-segment", "--adapt")],
    epilog="\b\nExamples:\n  chargen eval held-out.txt\n  chargen eval -m shakespeare play.txt --json\n"
    "  chargen eval -m shakespeare play.txt --adapt",
)
@click.argument("corpus", nargs=-1, required=True, type=options.CORPUS_NAME)
@options.model
@options.encoding
@options.errors
@options.text_field
@options.json_lines
@options.max_corpus_size("1GB")
@adapt_option("--adapt", is_flag=True, help="Also evaluate a copy of the model that is also trained on the text.")
@adapt_option(
    "--adapt-rule", type=click.Choice(["rms", "sgd"]), show_default="rms", help="Rule that updates the weights."
)
@adapt_option(
    "--adapt-rate",
    type=options.number(Number(0.0)),
    show_default="0.001; for sgd 0.05",
    metavar="RATE",
    help="Learning rate of the copy.",
)
@adapt_option(
    "--adapt-decay", type=options.number(FRACTION), show_default="0.001", metavar="RATE",
    help="Rate at which the copy returns to the trained weights, per segment.",
)  # fmt: skip
@adapt_option(
    "--adapt-segment",
    type=options.whole(1),
    show_default="20",
    metavar="TOKENS",
    help="Tokens that are scored before each update.",
)
@options.device
@options.threads
@options.checkpoints
@options.as_json
def evaluate(**values: Any) -> None:
    """Evaluate a model on a whole text: bits per character, with the state carried from the start to the end.

    CORPUS is a file, a folder, '-' or the name of a corpus; several are concatenated. "windows" is the same text in
    pieces of 256 characters, where the model reads only one character before each piece. A backward model reads the
    text from its end, and its first half is the one that it reads first.

    For a model of documents the end of each document counts as a character, as it does in training; `chargen score`
    divides by the characters of the text itself.

    --adapt adds the result of dynamic evaluation (Krause et al. 2018): a copy of the model scores a segment, then
    is trained on it, then scores the next one. The result is always labelled as such, the result of the unchanged model
    is printed, too, and the model file does not change.
    """
    evaluate_model(EvalArguments(**values))


def evaluate_model(args: EvalArguments) -> None:
    """Evaluate a model on a text and print the result on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model or the text cannot be read, or a setting of --adapt is out of range.
    """
    options.use_threads(args.threads)
    from chargen.api import load
    from chargen.config import DataConfig
    from chargen.text.cleaning import quote_characters
    from chargen.text.corpus import check_text_field, read_corpus
    from chargen.ui.output import print_json

    lm = load(args.model, args.device)
    options.note_newest_model(args.model, lm.path)
    # The text is read unchanged: the model normalizes it like its training text, and counts the bytes of this one.
    config = DataConfig.for_unchanged_text(args.encoding, args.errors, args.text_field, args.json_lines)
    options.check_reading(args.corpus)
    quantizer = lm.tokenizer.quantizer
    refuse_text_options(quantizer, args.corpus)
    text = read_corpus(args.corpus, config, max_bytes=args.max_bytes, quantizer=quantizer)
    check_text_field(args.text_field, text)
    for note in (*text.notes, *text.repeated_files):
        say(f"note: {note}")
    if text.has_sha256(lm.checkpoint.about.get("corpus_sha256")):
        say("note: the model was trained on a part of this text, so it knows it already")
    evaluation = lm.evaluate(text.text)
    if evaluation.unknown_chars:
        unknown = quote_characters(lm.unknown_characters(text.text))
        share = f"{evaluation.unknown_chars:,} of the {format_count(evaluation.chars, 'character')}"
        say(f"note: the model does not know {share}: {unknown}")
    adapted = _evaluate_adapted(lm.checkpoint, text.text, args) if args.adapt else None
    if args.as_json:
        more = {"adapted": adapted.to_json()} if adapted else {}
        print_json({"corpus": text.name, "direction": lm.checkpoint.data.direction, **asdict(evaluation), **more})
    else:
        _print(text.name, evaluation, adapted, lm)


def _evaluate_adapted(checkpoint: Checkpoint, text: str, args: EvalArguments) -> AdaptedEvaluation:
    """Run the dynamic evaluation, with a progress bar on a terminal."""
    from chargen.networks.torch_runtime import resolve_device
    from chargen.scoring.dynamic_evaluation import Adaptation, AdaptedEvaluation, evaluate_adapted
    from chargen.ui.console import ProgressBar, stderr_console

    settings = {
        "rule": args.adapt_rule,
        "learning_rate": args.adapt_rate,
        "decay": args.adapt_decay,
        "segment_ids": args.adapt_segment,
    }
    adaptation = Adaptation(**{name: value for name, value in settings.items() if value is not None})  # type: ignore[arg-type]
    with ProgressBar(stderr_console(), 1.0) as bar:
        for step in evaluate_adapted(checkpoint, text, adaptation, resolve_device(args.device)):
            if isinstance(step, AdaptedEvaluation):
                return step
            bar.show("adapting", step)
    raise AssertionError("the last step is the result")


def _print(name: str, evaluation: TextEvaluation, adapted: AdaptedEvaluation | None, lm: LanguageModel) -> None:
    """Print the result as a table, and the totals below it."""
    direction, is_series = lm.checkpoint.data.direction, lm.tokenizer.quantizer is not None
    from chargen.ui.console import format_bits, stdout_console
    from chargen.ui.tables import plain_table

    losses: list[tuple[str, float | None]] = [
        (f"carried, the whole text{', backward' if direction == BACKWARD else ''}", evaluation.loss_nats_per_char),
        ("  first half", evaluation.first_half_nats_per_char),
        ("  second half", evaluation.second_half_nats_per_char),
        ("windows of 256", evaluation.windows_256_nats_per_char),
    ]
    if adapted:
        losses += [
            ("adapted while reading (dynamic evaluation)", adapted.loss_nats_per_char),
            ("  first half", adapted.first_half_nats_per_char),
            ("  second half", adapted.second_half_nats_per_char),
        ]
    console = stdout_console()
    numbers = ("bits/char", "nats/char")
    rows = [(label, format_bits(nats), format_number(nats, 4)) for label, nats in losses]
    console.print(plain_table((name, *numbers), rows, numbers, labels=(name,)))
    ends = f" ({evaluation.document_ends:,} of them ends of documents)" if evaluation.document_ends else ""
    perplexity = f"perplexity {format_number(evaluation.perplexity_per_char, 2)} per character"
    if is_series:
        console.print(f"{format_count(evaluation.chars, 'value')}{ends}, each a character; {perplexity}")
    else:
        console.print(
            f"{format_count(evaluation.chars, 'character')}{ends}, {format_count(evaluation.bytes, 'byte')}; "
            f"{format_number(evaluation.bits_per_byte, 3)} bits/byte, {perplexity}"
        )
    if adapted:
        console.print(
            f"adapted by {adapted.rule}, learning rate {adapted.learning_rate:g}, decay {adapted.decay:g}, segments of "
            f"{adapted.segment_ids}: {format_number(adapted.bits_per_byte, 3)} bits/byte; each segment was scored "
            "before the model was trained on it"
        )
