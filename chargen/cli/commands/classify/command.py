"""`chargen classify`: classify texts, and train classifiers.

From Python: `classify_texts(ClassifyArguments(models=("letters",), texts=("Dear Sir",)))` and
`train_classifier_on(ClassifyArguments(data="letters/", steps=1000))`, from `predict.py` and `train.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.main import STARTED
from chargen.cli.network_options import CONNECTION_OPTIONS, NETWORK_OPTIONS, NetworkArguments, network_options
from chargen.config import DEFAULT_BUDGET_S, MAX_SEQ_LEN, TrainConfig

if TYPE_CHECKING:
    from chargen.tasks.classification.classifier import EncoderChoices
    from chargen.text.records import RecordFormat

TRAIN = options.numbers(TrainConfig)  # the types of the numeric options
POOLINGS = ("last", "mean", "max", "meanmax", "attention")
METHODS = ("auto", "encoder", "generative")
training_option = options.option_group("Training")
encoder_option = options.option_group("Encoder")

ENCODER_OPTIONS = "--tokenizer --pooling --max-length --class-weights --init-from"
TRAINING_OPTIONS = f"--method --name --budget --steps --epochs --resume {ENCODER_OPTIONS} {NETWORK_OPTIONS}"
EFFECTS = [
    only_one("--budget --steps --epochs"),
    needs(CONNECTION_OPTIONS, "--layers --cell"),
    needs(TRAINING_OPTIONS, "--train"),
    needs("--seed", "--train --labelled"),
    needs("--label-field --plot", "--train --labelled"),
    needs("--html", "--explain"),
    no_effect("--method", beside="--resume", why="only an encoder can be resumed, so the method is known"),
    no_effect(
        f"--name --seed {ENCODER_OPTIONS} {NETWORK_OPTIONS}", beside="--resume",
        why="a resumed run keeps the settings that it started with",
    ),
    no_effect(ENCODER_OPTIONS, beside="--method=generative", why="a language model per label has no such part"),
    no_effect("--tokenizer --cell --hidden --embedding", beside="--init-from", why="the model's weights determine it"),
    no_effect(
        "--ensemble --tie-weights --weight-dropout --ngram-words --residual --skip --layer-norm",
        beside="--method=encoder",
        why="an encoder has no such part",
    ),
    no_effect(
        "--encoding --errors --text-field --json-lines", beside="texts", unless="--file --labelled --train",
        why="it needs files: use --file FILE, or --file - for standard input",
    ),
    no_effect(
        "texts --model --file --labelled --explain", beside="--train",
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
    label_field: str | None = None
    json_lines: bool = False
    method: str = "auto"
    name: str | None = None
    budget: float | None = None
    steps: int | None = None
    epochs: float | None = None
    seed: int = 0
    resume: str | None = None
    tokenizer: str | None = None
    pooling: str | None = None
    max_length: int | None = None
    class_weights: str | None = None
    init_from: str | None = None
    plot: str | None = None
    explain: bool = False
    html: str | None = None
    device: str = "auto"
    as_json: bool = False

    def encoder_choices(self) -> EncoderChoices:
        """Return the settings that only an encoder has."""
        from chargen.tasks.classification.classifier import EncoderChoices

        return EncoderChoices(**{each.name: getattr(self, each.name) for each in fields(EncoderChoices)})

    def record_format(self) -> RecordFormat:
        """Return how the files are read."""
        from chargen.text.records import AUTO, JSON, RecordFormat

        form = JSON if self.json_lines else AUTO
        return RecordFormat(form, field=self.text_field or "", encoding=self.encoding, errors=self.errors)


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen classify --train letters/ --name letters --budget 5m\n"
    "  chargen classify --train reviews.csv --text-field review --label-field stars\n"
    '  chargen classify -m letters "Dear Sir, I have the honour"\n  chargen classify -m letters --file inbox.txt\n'
    '  chargen classify -m letters --explain --html why.html "Dear Sir"\n'
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
    "--train", "data", type=options.FILE_NAME, metavar="DATA", help="Train a classifier on labelled texts."
)
@options.basic_option("--explain", is_flag=True, help="Show how much each character of a text moved the decision.")
@options.encoding
@options.errors
@options.text_field
@options.corpus_option(
    "--label-field", type=options.NAME, metavar="NAME", show_default="label",
    help="Field or column that contains the label of a record. If there are only two fields, it is the other one.",
)  # fmt: skip
@options.json_lines
@training_option(
    "--method", type=click.Choice(METHODS), default="auto", show_default=True,
    help="How to classify: an encoder that reads whole texts, a generative language model for each label, or auto: "
    "train both within the budget, and keep the one with the lower log loss.",
)  # fmt: skip
@training_option("--name", type=options.NAME, help="Name of the new classifier. Defaults to the name of DATA.")
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
@training_option(
    "--resume", type=options.RUN_NAME, metavar="NAME",
    help="Continue the training of the encoder NAME on the same DATA.",
)  # fmt: skip
@encoder_option(
    "--tokenizer", type=options.NAME, metavar="KIND", show_default="auto",
    help="Tokens of the encoder: char, byte, sp:SIZE (sentencepiece), or words:N (the N most frequent words).",
)  # fmt: skip
@encoder_option(
    "--pooling", type=click.Choice(POOLINGS), metavar="KIND", show_default="auto",
    help="What the output layer of the encoder reads: the last hidden states (last), or of the outputs at all "
    "positions the mean, the max, both (meanmax), or a weighted mean (attention).",
)  # fmt: skip
@encoder_option(
    "--max-length", type=options.whole(1, MAX_SEQ_LEN), metavar="N", show_default="auto",
    help="Number of tokens of a text that the encoder reads; a longer text is cut.",
)  # fmt: skip
@encoder_option(
    "--class-weights", type=click.Choice(["none", "balanced"]), show_default="none",
    help="Weight of each label in the loss of the encoder: balanced gives rare labels the weight of frequent ones.",
)  # fmt: skip
@encoder_option(
    "--init-from", type=options.MODEL_NAME, metavar="MODEL",
    help="Start the encoder with the embedding and the layers of a language model.",
)  # fmt: skip
@network_options
@options.device
@options.checkpoints
@options.output_option(
    "--plot", type=options.FILE_NAME, metavar="FILE",
    help="Write the confusion matrix as a picture: .svg, or .png with the extra 'plot'.",
)  # fmt: skip
@options.output_option("--html", type=options.FILE_NAME, metavar="FILE", help="Write the explanations as a web page.")
@options.as_json
def classify(**values: Any) -> int:
    """Classify texts with probabilities, or train a classifier on labelled texts.

    \b
    DATA  a folder with a sub-folder for each label (one text per file),
          a folder with a file for each label (one text per line),
          a file .csv, .tsv, .jsonl, .json or .parquet with a text and a
          label in each record, or a file with lines label<TAB>text

    --train trains on 80 % of each label's texts. 10 % choose the weights, the temperature and the method. The last
    10 % only measure: accuracy, macro F1, log loss, expected calibration error, a confusion matrix and the most
    confident mistakes, beside two baselines. The evaluation takes place after the budget.

    --method encoder learns only what tells the labels apart, and cannot generate text. --method generative trains a
    language model for each label, and applies Bayes' rule: p(label | text) is proportional to p(label) · p(text | its
    model)^(1/temperature). For several models given by -m, the labels are equally probable, and without --labelled the
    temperature is 1: the probabilities are then overconfident, and a note says so.
    """
    args = ClassifyArguments(**values)
    if args.data:
        from chargen.cli.commands.classify.train import train_classifier_on

        return train_classifier_on(args, STARTED)
    from chargen.cli.commands.classify.predict import classify_texts

    classify_texts(args)
    return 0
