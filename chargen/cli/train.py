"""`chargen train`: a text in, a model out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.main import stop_on_signals
from chargen.config import DEFAULT_BUDGET_S
from chargen.errors import ConfigError
from chargen.ui.terminal_text import visible

if TYPE_CHECKING:
    from chargen.checkpoint import Checkpoint
    from chargen.config import DataConfig
    from chargen.text.corpus import Corpus
    from chargen.training.events import Finished
    from chargen.training.run import Plan
    from chargen.training.state import TrainingState

SAMPLE_CHARS = 240  #: of the sample that the display shows
DATA_SETTINGS = ("tokenizer", "encoding", "newline", "normalize", "documents", "text_field", "val_fraction")
TRAIN_SETTINGS = ("batch_size", "seq_len", "learning_rate", "clip_norm", "weight_decay", "seed")
#: options that a resumed run may be given other values of
GO_WITH_RESUME = (
    "resume", "budget", "steps", "epochs", "more", "device", "save_every", "stop_after", "as_json", "max_bytes",
)  # fmt: skip
RESUMED_RUN = "a resumed run keeps the settings that it began with"


@click.command(
    context_settings={"token_normalize_func": lambda name: "ensemble" if name == "members" else name},
    epilog="\b\nExamples:\n  chargen train corpus.txt\n  chargen train poems/ letters.txt --budget 20m --name mine\n"
    "  chargen train python-docs --cell lstm --layers 2 --steps 2000 --json\n  chargen train corpus.txt --resume mine",
)
@click.argument("corpus", nargs=-1, type=options.NAME)
@click.option(
    "--name", type=options.NAME, help="Of the run; the corpus's name if left out. A taken name gets -2, -3, …"
)
@click.option("--force", is_flag=True, help="Replace a run of that name, once the new one has a model.")
@click.option(
    "--budget",
    callback=options.span,
    metavar="TIME",
    help=f"Wall clock of the whole run: 90s, 5m, 1h30m. [default: {DEFAULT_BUDGET_S / 60:g}m]",
)
@click.option("--steps", type=click.IntRange(min=1), help="Make exactly so many steps instead.")
@click.option("--epochs", type=float, help="Read the text so many times instead.")
@click.option(
    "--cell", type=options.NAME, help="rnn, lstm, gru or mgru (a gated unit whose transition the input scales)."
)
@click.option("--layers", "num_layers", type=int)
@click.option("--hidden", "hidden_size", type=int, help="Units a layer.")
@click.option("--ensemble", "ensemble_size", type=int, help="Number of networks whose predictions are averaged.")
@click.option("--embedding", "embedding_dim", type=int, help="Size of the embedding.")
@click.option("--ngrams", type=int, help="The head sees hashed n-grams too, up to so many characters; 0: none.")
@click.option("--dropout", type=float, help="Share of units dropped between layers and before the head.")
@click.option("--weight-dropout", type=float, help="Share of recurrent weights dropped.")
@click.option("--ngram-dropout", type=float, help="Share of n-grams dropped, place by place.")
@click.option("--tie-weights", is_flag=True, default=None, help="One matrix for embedding and head.")
@click.option(
    "--tokenizer", type=options.NAME, default="char", show_default=True, help="char, byte, sp:SIZE or sp:FILE.model."
)
@options.encoding
@options.newline
@options.normalize
@options.documents
@options.text_field
@options.max_corpus_size("100GB")
@click.option("--label", is_flag=True, help="CORPUS is labelled texts: a model for each label, for `chargen classify`.")
@click.option(
    "--val", type=options.NAME, metavar="FILE", help="Validate on this text instead of the corpus's last part."
)
@click.option("--val-fraction", type=float, default=0.1, show_default=True, help="Of the characters, held out.")
@click.option("--batch", "batch_size", type=int, help="Lanes that are read side by side.")
@click.option("--seq-len", type=int, help="Ids that gradients flow back.")
@click.option("--lr", "learning_rate", type=float)
@click.option("--clip", "clip_norm", type=float, help="Largest norm of the gradient.")
@click.option("--weight-decay", type=float)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.device
@click.option(
    "--resume", type=options.NAME, metavar="RUN", help="Go on with a run that was stopped, as if it never had been."
)
@click.option("--more", callback=options.span, metavar="TIME", help="Add so much to the budget of a resumed run.")
@click.option(
    "--init-from",
    type=options.NAME,
    metavar="MODEL",
    help="Begin a new run with the weights and the vocabulary of a model.",
)
@click.option(
    "--new-chars",
    type=click.Choice(["grow", "error", "unknown"]),
    default="grow",
    show_default=True,
    help="What becomes of characters that this model lacks.",
)
@click.option(
    "--save-every",
    callback=options.span,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="So much work is lost, at most, when the machine goes away.",
)
@click.option(
    "--stop-after", type=click.IntRange(min=1), metavar="STEPS", help="End this sitting after a step, as Ctrl-C would."
)
@options.as_json
def train(corpus: tuple[str, ...], as_json: bool, **choices: Any) -> int:
    """Train a model on a text.

    CORPUS is a file, a folder, '-' for standard input, or a name (`chargen corpora` lists them); several are put end to
    end; python-docs if left out. Sizes and rates that you do not give follow from the corpus, the budget and the
    device. The best model by validation is kept under checkpoints/; Ctrl-C ends early and keeps it too.

    --label trains a classifier, as `chargen classify --train` does: CORPUS is a folder with a sub-folder or a file for
    each label, or one file of lines label<TAB>text; --budget is that of all models together.
    """
    if choices["label"]:
        _train_labelled(corpus, as_json, choices)
        return 0
    from chargen.training.run import train as run_training
    from chargen.ui.console import left_out_if_nobody_reads, print_json, stderr_console, stdout_console
    from chargen.ui.training import display, summary

    plan = _plan(corpus, choices)
    console = stderr_console()
    result: Finished | None = None
    settings: dict[str, Any] = {}
    with stop_on_signals() as stop, display(console, _sampler) as shown:
        for report in run_training(plan, stop.is_set):
            shown.show(report)
            values = report.to_json()
            if values["event"] == "started":
                settings = {key: values[key] for key in ("model", "data", "train", "parameters", "notes")}
            if values["event"] == "finished":
                result = report  # type: ignore[assignment]
    assert result is not None  # the last report of every run that raises nothing
    with left_out_if_nobody_reads():
        if as_json:
            print_json({**result.to_json(), **settings})
        else:
            stdout_console().print(summary(result))
            if result.interrupted:
                console.print(visible(f"Go on with: chargen train --resume {shlex.quote(result.run)}"))
        sys.stdout.flush()
    return stop.status if result.interrupted else 0


def _train_labelled(corpus: tuple[str, ...], as_json: bool, choices: dict[str, Any]) -> None:
    """Train a model for each label."""
    from chargen.cli.classify import train_labelled

    if len(corpus) != 1:
        raise click.UsageError("--label wants one folder or one file of labelled texts.")
    goes_with = {"label", "name", "budget", "steps", "epochs", "seed", "device", *_model_settings()}
    others = options.given(*(name for name in choices if name not in goes_with))
    if others:
        raise click.UsageError(f"{others[0]} does not go with --label.")
    length, model = _length(choices) or {"budget_s": DEFAULT_BUDGET_S}, _given(choices, *_model_settings())
    train_labelled(corpus[0], choices["name"], length, model, choices["seed"], choices["device"], as_json)


def _length(choices: dict[str, Any]) -> dict[str, float]:
    """Return how long to train, in the one unit that was given; nothing where none was."""
    units = (("budget", "budget_s"), ("steps", "steps"), ("epochs", "epochs"))
    length = {key: choices[option] for option, key in units if choices[option] is not None}
    if len(length) > 1:
        raise click.UsageError("Give one of --budget, --steps and --epochs.")
    return length


def _refuse_without_effect(choices: dict[str, Any]) -> None:
    """Refuse options that another one, or its absence, leaves without effect."""
    if choices["resume"]:
        return  # `_saved` compares them with the run
    if choices["init_from"]:
        options.refuse(["tokenizer"], "does not go with --init-from: the vocabulary is the model's.")
    else:
        options.refuse(["new_chars"], "is of --init-from.")
    if choices["val"]:
        options.refuse(["val_fraction"], "does not go with --val: nothing of the corpus is held out.")


def _plan(corpus: tuple[str, ...], choices: dict[str, Any]) -> Plan:
    """Turn what the command line says into a plan."""
    from chargen.cli.main import STARTED
    from chargen.config import DataConfig, ModelConfig, TrainConfig
    from chargen.runs import check_name
    from chargen.training.run import Plan

    length = _length(choices)
    _refuse_without_effect(choices)
    if choices["name"] is not None:
        check_name(choices["name"])
    data = DataConfig(**{key: choices[key] for key in DATA_SETTINGS})
    model, training = _given(choices, *_model_settings()), _given(choices, *TRAIN_SETTINGS)
    ModelConfig.check_fields(model)  # before a long text is read
    TrainConfig.check_fields({**length, **training})
    saved = _saved(choices) if choices["resume"] else None
    if saved:
        data = saved.data
        training = {**training, "seed": saved.train.seed}  # `_saved` has compared one that was given
    read, val_read = _corpora(corpus, choices, data, saved)
    return Plan(
        corpus=read,
        name=choices["name"] or "",
        length=length,
        data=data,
        model=model,
        train=training,
        val_corpus=val_read,
        device=choices["device"],
        resume=choices["resume"] or "",
        force=choices["force"],
        extra_budget_s=choices["more"] or 0.0,
        init_from=choices["init_from"] or "",
        new_chars=choices["new_chars"],
        save_every_s=choices["save_every"],
        stop_after=choices["stop_after"],
        started=STARTED,
    )


def _corpora(
    corpus: tuple[str, ...], choices: dict[str, Any], data: DataConfig, saved: TrainingState | None
) -> tuple[Corpus, Corpus | None]:
    """Read the corpus and the validation text: those that the person names, or those of the run to resume.

    Raises:
        ConfigError: the validation text is another one than that of the run to resume.
        CorpusError: a text cannot be read; or what the run's state says of it does not fit what is there.
    """
    from chargen.text.corpus import read_corpus
    from chargen.text.recorded_corpus import read_recorded_corpus

    val, max_bytes = choices["val"], choices["max_bytes"]
    if saved and not corpus:
        read = read_recorded_corpus(saved.corpus_files, saved.corpus_arguments, None, data)
    else:
        read = read_corpus(corpus or ["python-docs"], data, max_bytes=max_bytes)
    if val:
        val_read = read_corpus([val], data, max_bytes=max_bytes)
    elif saved and saved.val_argument:
        hint = "Name the validation text: --val FILE"
        val_read = read_recorded_corpus(saved.val_files, [saved.val_argument], None, data, hint)
    else:
        return read, None
    if saved and saved.val_sha256 and not val_read.has_sha256(saved.val_sha256):
        raise ConfigError(
            f"{val or saved.val_argument} is another validation text than the run {choices['resume']!r} has",
            "Leave out --val, or name that one.",
        )
    return read, val_read


def _saved(choices: dict[str, Any]) -> TrainingState:
    """Return the saved state of the run to resume, once no option contradicts it.

    Raises:
        ConfigError: an option has another value than the run; the message names both.
    """
    from chargen.run_writer import resume_run
    from chargen.training.state import load_state

    with resume_run(choices["resume"]) as writer:  # fails early if another process writes the run
        run = writer.run
        saved = load_state(run.state_path)
    settings = {**saved.model.to_json(), **saved.data.to_json(), **saved.train.to_json(), "name": run.name}
    for name in choices:
        option = options.given(name)
        if not option or name in GO_WITH_RESUME or (name == "val" and saved.val_argument):
            continue
        if name not in settings:
            raise ConfigError(f"{option[0]} does not go with --resume", f"Leave it out: {RESUMED_RUN}.")
        if choices[name] != settings[name]:
            raise ConfigError(
                f"{option[0]} {choices[name]} contradicts the run {run.name!r}, which has {settings[name]}",
                f"Leave it out: {RESUMED_RUN}. To train its model further in another way: --init-from {run.name}.",
            )
    return saved


def _model_settings() -> list[str]:
    from chargen.config import ModelConfig

    no_options = ("vocab_size", "ngram_rows", "ngram_dim")
    return [field.name for field in fields(ModelConfig) if field.name not in no_options]


def _given(choices: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: choices[name] for name in names if choices[name] is not None}


def _sampler(checkpoint: Checkpoint) -> str:
    from chargen.lm import LanguageModel

    return "".join(LanguageModel(checkpoint).stream(temperature=0.8, length=SAMPLE_CHARS, seed=0)).strip("\n")
