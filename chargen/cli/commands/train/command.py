"""`chargen train`: read a corpus, train a model on it, and print how good the model is.

From Python: `train_model(TrainArguments(corpus=("corpus.txt",), steps=1000))`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands.train.plan import TrainArguments, make_plan
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.main import STARTED, stop_on_signals
from chargen.cli.network_options import CONNECTION_OPTIONS, SHAPE_OPTIONS, network_options
from chargen.config import DEFAULT_BUDGET_S, PRECISIONS, VAL_SPLITS, WEIGHT_STORAGES, DataConfig, TrainConfig
from chargen.tokenizers import TOKENIZERS

if TYPE_CHECKING:
    from chargen.checkpoint import Checkpoint
    from chargen.training.events import Finished

TRAIN, DATA = options.numbers(TrainConfig), options.numbers(DataConfig)  # the types of the numeric options
SAMPLE_CHARS = 240  # length of the sample in the live display
EFFECTS = [
    only_one("--budget --steps --epochs"),
    only_one("--resume --init-from", why="a resumed run continues with its own model"),
    needs("--more", "--resume"),
    needs("--new-chars", "--init-from"),
    needs(CONNECTION_OPTIONS, "--layers --cell", unless="--resume --init-from"),
    no_effect("--more", beside="--steps --epochs", why="only a time budget can be extended"),
    no_effect("--tokenizer", beside="--init-from", why="the model's vocabulary is used"),
    no_effect(SHAPE_OPTIONS, beside="--init-from", why="the model's weights determine it"),
    no_effect("--val-fraction --val-split", beside="--val", why="no part of the corpus is held out"),
    no_effect("--force", beside="--resume", why="the run is continued, not replaced"),
    no_effect("--max-corpus-size", beside="--resume", unless="corpus --val", why="the corpus is that of the run"),
]

length_option = options.option_group("Length of training")
optimization_option = options.option_group("Optimization")
resuming_option = options.option_group("Resuming and fine-tuning")


def _refuse_label(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError("--label was removed. Train a classifier with: chargen classify --train DATA", ctx)


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen train corpus.txt\n  chargen train poems/ letters.txt --budget 20m --name mine\n"
    "  chargen train python-docs --cell lstm --layers 2 --steps 2000 --json\n  chargen train corpus.txt --resume mine",
)
@click.argument("corpus", nargs=-1, type=options.CORPUS_NAME)
@options.basic_option(
    "--budget", callback=options.parse_duration, metavar="TIME", show_default=f"{DEFAULT_BUDGET_S / 60:g}m",
    help="Time limit of the whole run (wall clock): 90s, 5m, 1h30m. A number without a unit is in seconds. A run ends "
    "earlier when it has read its text as often as helps.",
)  # fmt: skip
@options.basic_option(
    "--name", type=options.NAME,
    help="Name of the run. Defaults to the corpus name; if it is taken, -2, -3, … is appended.",
)  # fmt: skip
@options.basic_option(
    "--force", is_flag=True, help="Replace an existing run of this name, as soon as the new run has a model."
)
@options.basic_option(
    "--tokenizer", type=options.TOKENIZER_NAME, default="char", show_default=True, metavar="KIND",
    help=f"Tokenizer: {', '.join(TOKENIZERS.names())}. Some take an option: sp:SIZE trains a SentencePiece vocabulary "
    "of SIZE pieces, sp:FILE.model reads one; mulaw:LEVELS reads a recording (WAV) or numbers as a series.",
)  # fmt: skip
@options.documents(options.basic_option)
@options.basic_option(
    "--resume", type=options.RUN_NAME, metavar="RUN",
    help="Continue a stopped run. With --steps or --epochs, the result is the same as without the interruption.",
)  # fmt: skip
@options.encoding
@options.errors
@options.newline
@options.normalize
@options.text_field
@options.json_lines
@options.max_corpus_size("100GB")
@options.direction
@options.corpus_option(
    "--val", type=options.CORPUS_NAME, metavar="FILE", help="Validate on this text, not on a part of the corpus."
)
@options.corpus_option(
    "--val-fraction", type=DATA["val_fraction"], default=0.1, show_default=True, metavar="FRACTION",
    help="Fraction of the characters of the corpus that is held out for validation.",
)  # fmt: skip
@options.corpus_option(
    "--val-split", type=click.Choice(VAL_SPLITS), show_default="random for documents, last for a continuous text",
    help="Which part is held out: random documents, the same ones in each run; or the last part of the corpus.",
)  # fmt: skip
@length_option("--steps", type=TRAIN["steps"], metavar="N", help="Train for exactly N steps instead of a time.")
@length_option("--epochs", type=TRAIN["epochs"], metavar="N", help="Train for N passes over the text instead.")
@length_option(
    "--patience", type=TRAIN["patience"], metavar="SHARE", show_default="1: never",
    help="Stop early when the validation loss has not improved for this share of the run, such as 0.3. This saves time "
    "only: the best model is kept in any case, and a run that is shorter from the start is better, since its learning "
    "rate has fallen by then.",
)  # fmt: skip
@network_options
@optimization_option(
    "--batch", "batch_size", type=TRAIN["batch_size"], metavar="N", show_default="auto", help="Batch size."
)
@optimization_option(
    "--seq-len", type=TRAIN["seq_len"], metavar="N", show_default="auto",
    help="Maximum length of a BPTT window, in tokens.",
)  # fmt: skip
@optimization_option(
    "--lr", "learning_rate", type=TRAIN["learning_rate"], metavar="RATE", show_default="auto",
    help="Peak learning rate.",
)  # fmt: skip
@optimization_option(
    "--clip", "clip_norm", type=TRAIN["clip_norm"], metavar="NORM", show_default="auto",
    help="Maximum norm of the gradient.",
)  # fmt: skip
@optimization_option(
    "--weight-decay", type=TRAIN["weight_decay"], metavar="RATE", show_default="auto",
    help="Weight decay of matrices.",
)  # fmt: skip
@optimization_option("--seed", type=TRAIN["seed"], default=0, show_default=True, metavar="N", help="Random seed.")
@optimization_option(
    "--precision", type=click.Choice(PRECISIONS), show_default="auto",
    help="Precision of products in training; weights and states stay float32. The default is tf32 on a GPU. On a CPU "
    "it is bf16 if the processor computes it fast, numba is installed and the cell is mgru or gru; else it is float32.",
)  # fmt: skip
@optimization_option(
    "--weights", "weight_storage", type=click.Choice(WEIGHT_STORAGES), show_default="float16",
    help="How the model file stores the weights. float16 and int8 make it smaller; float32 is exact, and is what "
    "other programs read best. The training itself is in float32.",
)  # fmt: skip
@resuming_option(
    "--more", callback=options.parse_duration, metavar="TIME",
    help="Add this time (90s, 5m) to the budget of a resumed run, or to the time that it used if it ended early.",
)  # fmt: skip
@resuming_option(
    "--save-every", callback=options.parse_duration, default="60s", show_default=True, metavar="TIME",
    help="How often to save the training state; a time like that of --budget.",
)  # fmt: skip
@resuming_option(
    "--keep-state", type=click.Choice(["always", "until-done", "never"]), show_default="always",
    help="How long to keep the training state, which --resume needs and which is many times as large as the model: "
    "always, so that a finished run can be given --more time; until the run is done; or never, so that a run that "
    "is stopped cannot be resumed.",
)  # fmt: skip
@resuming_option(
    "--stop-after", type=options.whole(1), metavar="STEP",
    help="Stop after this step, as Ctrl-C does, so that the run can be resumed.",
)  # fmt: skip
@resuming_option(
    "--init-from", type=options.MODEL_NAME, metavar="MODEL",
    help="Start a new run from the weights and the vocabulary of a model.",
)  # fmt: skip
@resuming_option(
    "--new-chars", type=click.Choice(["grow", "error", "unknown"]), default="grow", show_default=True,
    help="What to do with characters that the model of --init-from does not know: add them to its vocabulary, stop "
    "with an error, or read them as unknown.",
)  # fmt: skip
@options.device
@options.threads
@options.checkpoints
@options.output_option("--label", is_flag=True, hidden=True, expose_value=False, callback=_refuse_label)
@options.log
@options.as_json
def train(**values: Any) -> int:
    """Train a model on a text.

    CORPUS is a file, a folder, '-' for standard input, or a name (`chargen corpora` lists them). Several are
    concatenated. The default is python-docs. Sizes and rates with the default (auto) are chosen by a recipe from the
    corpus, the budget and the device. The model with the lowest loss on a part of the held-out text is saved under
    checkpoints/; the table at the end has its loss on all of the held-out text. Ctrl-C stops early and keeps it.
    """
    return train_model(TrainArguments(**values), STARTED)


def train_model(args: TrainArguments, started: float | None = None) -> int:
    """Train a model, show the progress on stderr, and print the result on stdout.

    Args:
        args: The arguments of the command.
        started: When the budget started to count, as a value of `time.perf_counter`; None for now.

    Returns:
        The exit status: 0, or 128 + the signal's number if a signal stopped the run.

    Raises:
        ChargenError: If the corpus, the settings or the disk do not allow the run, or the loss diverges.
    """
    options.use_threads(args.threads)
    from chargen.cli.commands.train.several import check_others, joined, resumed_after_restart
    from chargen.text.documents import NONE
    from chargen.training.logs.tensorboard import log_reports
    from chargen.training.run import train as run_training
    from chargen.ui.console import print_line, stderr_console, stdout_console
    from chargen.ui.output import ignore_closed_output, print_json
    from chargen.ui.training import command_line, make_display, summary

    console = stderr_console()
    result: Finished | None = None
    settings: dict[str, Any] = {}
    with stop_on_signals() as stop, joined(args) as ranks:
        plan = make_plan(resumed_after_restart(args, ranks) if ranks else args, started)
        if ranks:
            check_others(ranks, args, plan)
        with make_display(console, _sample_text) as display:
            for report in log_reports(run_training(plan, stop.is_set, ranks), args.log):
                display.show(report)
                values = report.to_json()
                if values["event"] in ("progress", "evaluated"):
                    stop.announce()
                if values["event"] == "started":
                    stop.is_deferred = True
                    settings = {key: values[key] for key in ("model", "data", "train", "parameters", "notes")}
                if values["event"] == "finished":
                    result = report  # type: ignore[assignment]
        if ranks:
            ranks.end(is_done=result is not None and not result.interrupted)
    assert result is not None, "the last report of a run without an error is Finished"
    result = replace(result, model_path=os.path.abspath(result.model_path))  # it can be opened from any folder
    with ignore_closed_output():
        if args.as_json:
            print_json({**result.to_json(), **settings})
        else:
            has_documents, has_budget = settings["data"]["documents"] != NONE, settings["train"]["budget_s"] is not None
            stdout_console().print(summary(result, has_documents, has_budget, plan.corpus.quantizer), crop=False)
            if result.interrupted and args.keep_state != "never":
                print_line(console, f"Continue with: {command_line('train', '--resume', result.run)}")
        sys.stdout.flush()
    return stop.status if result.interrupted else 0


def _sample_text(checkpoint: Checkpoint) -> str:
    """Return a short sample of the model at this point of the training, for the live display."""
    from chargen.lm import LanguageModel

    pieces = LanguageModel(checkpoint).stream(temperature=0.8, length=SAMPLE_CHARS, until="length", seed=0)
    return "".join(pieces).strip("\n")
