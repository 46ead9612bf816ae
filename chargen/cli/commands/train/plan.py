"""The arguments of `chargen train`, and how they become the plan of a run: the corpus is read, a stopped run is opened.

The options that a run is resumed with are compared with its settings, so that none of them is ignored.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from chargen.cli import options
from chargen.cli.network_options import NetworkArguments
from chargen.cli.series_options import refuse_text_options, series_settings
from chargen.config import FORWARD, DataConfig
from chargen.errors import ConfigError, CorpusError
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.text.corpus import Corpus
    from chargen.text.series.quantizer import Quantizer
    from chargen.training.run import Plan
    from chargen.training.state import TrainingState

DATA_SETTINGS = (
    "tokenizer", "encoding", "errors", "newline", "normalize", "documents", "text_field", "json_lines", "val_fraction",
    "val_split", "direction",
)  # fmt: skip
TRAIN_SETTINGS = (
    "batch_size",
    "seq_len",
    "learning_rate",
    "clip_norm",
    "weight_decay",
    "patience",
    "seed",
    "precision",
    "weight_storage",
)
# Arguments whose value may differ from that of the run that is resumed.
ALLOWED_WITH_RESUME = (
    "corpus", "resume", "force", "init_from", "new_chars", "budget", "steps", "epochs", "patience", "weight_storage",
    "more", "device", "threads", "save_every", "keep_state", "stop_after", "log", "as_json", "max_bytes",
)  # fmt: skip
RESUMED_RUN = "a resumed run keeps the settings that it started with"


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
    precision: str | None = None
    weight_storage: str | None = None
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


def make_plan(args: TrainArguments, started: float | None) -> Plan:
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
