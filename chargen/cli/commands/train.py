"""`chargen train`: read a corpus, train a model on it, and print how good the model is.

From Python: `train_model(TrainArguments(corpus=("corpus.txt",), steps=1000))`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.main import STARTED, stop_on_signals
from chargen.cli.network_options import CONNECTION_OPTIONS, SHAPE_OPTIONS, NetworkArguments, network_options
from chargen.cli.series_options import refuse_text_options, series_settings
from chargen.config import DEFAULT_BUDGET_S, FORWARD, VAL_SPLITS, DataConfig, TrainConfig
from chargen.errors import ConfigError, CorpusError
from chargen.tokenizers import TOKENIZERS
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.checkpoint import Checkpoint
    from chargen.text.corpus import Corpus
    from chargen.text.series.quantizer import Quantizer
    from chargen.training.events import Finished
    from chargen.training.run import Plan
    from chargen.training.state import TrainingState

TRAIN, DATA = options.numbers(TrainConfig), options.numbers(DataConfig)  # the types of the numeric options
SAMPLE_CHARS = 240  # length of the sample in the live display
DATA_SETTINGS = (
    "tokenizer", "encoding", "errors", "newline", "normalize", "documents", "text_field", "json_lines", "val_fraction",
    "val_split", "direction",
)  # fmt: skip
TRAIN_SETTINGS = ("batch_size", "seq_len", "learning_rate", "clip_norm", "weight_decay", "patience", "seed")
# Arguments whose value may differ from that of the run that is resumed.
ALLOWED_WITH_RESUME = (
    "corpus", "resume", "budget", "steps", "epochs", "patience", "more", "device", "threads", "save_every",
    "keep_state", "stop_after", "log", "as_json", "max_bytes",
)  # fmt: skip
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
RESUMED_RUN = "a resumed run keeps the settings that it started with"

length_option = options.option_group("Length of training")
optimization_option = options.option_group("Optimization")
resuming_option = options.option_group("Resuming and fine-tuning")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainArguments(NetworkArguments):
    """The arguments of `chargen train`, named as on the command line; durations in seconds, sizes in bytes."""

    corpus: tuple[str, ...] = ()
    budget: float | None = None
    name: str | None = None
    force: bool = False
    tokenizer: str = "char"
    documents: str = "none"
    resume: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    newline: str = "lf"
    normalize: str = "nfc"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 100 * 10**9
    val: str | None = None
    val_fraction: float = 0.1
    val_split: str | None = None
    steps: int | None = None
    epochs: float | None = None
    patience: float | None = None
    batch_size: int | None = None
    seq_len: int | None = None
    learning_rate: float | None = None
    clip_norm: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    more: float | None = None
    save_every: float = 60.0
    keep_state: str | None = None
    stop_after: int | None = None
    direction: str = FORWARD
    init_from: str | None = None
    new_chars: str = "grow"
    device: str = "auto"
    threads: int | None = None
    log: str | None = None
    as_json: bool = False


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
    help="Time limit of the whole run (wall clock): 90s, 5m, 1h30m. A number without a unit is in seconds.",
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
    help="Continue a stopped run. The result is the same as without the interruption.",
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
@resuming_option(
    "--more", callback=options.parse_duration, metavar="TIME",
    help="Add this time (90s, 5m) to the budget of a resumed run.",
)  # fmt: skip
@resuming_option(
    "--save-every", callback=options.parse_duration, default="60s", show_default=True, metavar="TIME",
    help="How often to save the training state; a time like that of --budget.",
)  # fmt: skip
@resuming_option(
    "--keep-state", type=click.Choice(["always", "until-done", "never"]), show_default="always",
    help="How long to keep the training state, which --resume needs and which is 2 to 4 times as large as the model: "
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
    from chargen.text.documents import NONE
    from chargen.training.logs.tensorboard import log_reports
    from chargen.training.run import train as run_training
    from chargen.ui.console import ignore_closed_output, print_json, print_line, stderr_console, stdout_console
    from chargen.ui.training import command_line, make_display, summary

    console = stderr_console()
    result: Finished | None = None
    settings: dict[str, Any] = {}
    with stop_on_signals() as stop:
        plan = _plan(args, started)
        with make_display(console, _sample_text) as display:
            for report in log_reports(run_training(plan, stop.is_set), args.log):
                display.show(report)
                values = report.to_json()
                if values["event"] in ("progress", "evaluated"):
                    stop.announce()
                if values["event"] == "started":
                    stop.is_deferred = True
                    settings = {key: values[key] for key in ("model", "data", "train", "parameters", "notes")}
                if values["event"] == "finished":
                    result = report  # type: ignore[assignment]
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


def _plan(args: TrainArguments, started: float | None) -> Plan:
    """Check the arguments, read the corpus, and return the plan of the run."""
    from chargen.runs import check_new_name
    from chargen.text.corpus import check_text_field
    from chargen.training.choices import RunLength, TrainChoices
    from chargen.training.run import Plan
    from chargen.training.state import check_length

    length = RunLength(budget_s=args.budget, steps=args.steps, epochs=args.epochs)
    if args.name is not None:
        check_new_name(args.name)
    saved = _load_resumed(args) if args.resume else None
    settings = {name: getattr(args, name) for name in DATA_SETTINGS if getattr(args, name) is not None}
    data, quantizer = series_settings(DataConfig(**settings), args.init_from, saved)
    model = args.model_choices()  # checked before a long text is read
    training = TrainChoices(**{name: getattr(args, name) for name in TRAIN_SETTINGS})
    if saved:
        check_length(length, saved, args.resume or "", args.more or 0.0)  # before a long text is read
        training = replace(training, seed=saved.train.seed)  # `_load_resumed` has compared a seed that was given
        options.note_same_names(args.corpus)
    else:
        options.check_reading([*(args.corpus or ["python-docs"]), *([args.val] if args.val else [])])
    corpus, val_corpus = _read_corpora(args, data, saved, quantizer)
    check_text_field(args.text_field, corpus, val_corpus)
    return Plan(
        corpus=corpus,
        name=args.name or "",
        length=length,
        data=data,
        model=model,
        train=training,
        val_corpus=val_corpus,
        device=args.device,
        resume=args.resume or "",
        force=args.force,
        extra_budget_s=args.more or 0.0,
        init_from=args.init_from or "",
        new_chars=args.new_chars,
        save_every_s=args.save_every,
        keep_state=args.keep_state,
        stop_after=args.stop_after,
        started=time.perf_counter() if started is None else started,
    )


def _read_corpora(
    args: TrainArguments, data: DataConfig, saved: TrainingState | None, quantizer: Quantizer | None
) -> tuple[Corpus, Corpus | None]:
    """Read the corpus and the validation text: those of the arguments, or those of the run to resume.

    Raises:
        ConfigError: If the validation text is not that of the run to resume.
        CorpusError: If a text cannot be read, or differs from what the run's state recorded.
    """
    from chargen.text.corpus import read_corpus
    from chargen.text.recorded_corpus import read_recorded_corpus

    if saved and not args.corpus:
        corpus = read_recorded_corpus(saved.corpus_files, saved.corpus_arguments, None, data, quantizer=quantizer)
    else:
        corpus = read_corpus(args.corpus or ["python-docs"], data, max_bytes=args.max_bytes, quantizer=quantizer)
    refuse_text_options(corpus.quantizer, args.corpus)
    if args.val:
        val_corpus = read_corpus([args.val], data, max_bytes=args.max_bytes, quantizer=corpus.quantizer)
    elif saved and saved.val_argument:
        hint = "Name the validation text: --val FILE"
        val_corpus = read_recorded_corpus(saved.val_files, [saved.val_argument], None, data, hint, corpus.quantizer)
    elif saved and saved.val_sha256:
        message = f"the validation text of the run {args.resume!r} was not read from a file"
        raise CorpusError(message, "Name a file with it: --val FILE")
    else:
        return corpus, None
    if saved and saved.val_sha256 and not val_corpus.has_sha256(saved.val_sha256):
        raise ConfigError(
            f"{args.val or saved.val_argument} is not the validation text of the run {args.resume!r}",
            "Leave out --val, or name that text.",
        )
    return corpus, val_corpus


def _load_resumed(args: TrainArguments) -> TrainingState:
    """Return the saved state of the run to resume, after comparing the options with it.

    Raises:
        ConfigError: If an option has a value that differs from the run's; the message names both.
    """
    from chargen.run_writer import resume_run
    from chargen.training.state import is_finished, load_run_state

    with resume_run(args.resume or "") as writer:  # fails early if another process is writing the run
        run = writer.run
        saved = load_run_state(run)
    settings = {**asdict(saved.model), **saved.data.to_json(), **saved.train.to_json(), "name": run.name}
    for name in (field.name for field in fields(TrainArguments)):
        given = options.given_options(name)
        if not given or name in ALLOWED_WITH_RESUME or (name == "val" and (saved.val_argument or saved.val_sha256)):
            continue
        if name not in settings:
            raise ConfigError(f"{given[0]} cannot be combined with --resume", f"Leave it out: {RESUMED_RUN}.")
        value = getattr(args, name)
        if value != settings[name]:
            raise ConfigError(
                f"{given[0]} {value} contradicts --resume: the run {run.name!r} has {settings[name]}",
                f"Leave it out: {RESUMED_RUN}. To train its model with other settings: --init-from {run.name}.",
            )
    if not (args.more or args.budget or args.steps or args.epochs) and is_finished(saved):
        say(f"note: the run {run.name} is finished; --more TIME, or more --steps or --epochs, train it longer")
    return saved


def _sample_text(checkpoint: Checkpoint) -> str:
    """Return a short sample of the model at this point of the training, for the live display."""
    from chargen.lm import LanguageModel

    pieces = LanguageModel(checkpoint).stream(temperature=0.8, length=SAMPLE_CHARS, until="length", seed=0)
    return "".join(pieces).strip("\n")
