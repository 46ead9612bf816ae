"""Train a model, from a text to the best model on disk. Read this file first: it shows the order of all steps.

    1. encode the text, and hold out a part of it for validation           data/dataset.py
       then load compiled loops and index the n-grams, while another
       thread computes the baselines                                       cells/ngram_index.py, data/baselines.py
    2. choose the settings that the user left open                         recipe.py, calibration.py
    3. build a network, or restore the one of a stopped run                loop.py, trainer.py, state.py
    4. make steps until the time or the steps are used up; validate now
       and then, and write the best model so far to disk                   loop.py, budget.py, saving.py
    5. evaluate the best model on the whole validation text, compare it
       with the baselines, and explain the numbers                         validation.py, diagnosis/

`train` yields reports and prints nothing. To stop a run (Ctrl-C), the caller's `stop()` returns True; the run then
validates once more, keeps the best model, and ends as usual.

Importing this module does not load torch. It is loaded at the end of step 1, while the baselines are computed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chargen.cells.ngram_index import TagsAndWords, build_index
from chargen.cells.weights import count_parameters, table_rows
from chargen.checkpoint import load_checkpoint
from chargen.config import DEFAULT_BUDGET_S, DataConfig, ModelConfig, TrainConfig, format_duration_s, list_cells
from chargen.data.batches import BatchSource, DocumentBatches, build_batches
from chargen.data.dataset import Dataset, prepare_dataset
from chargen.errors import STOPPED_EARLY, ConfigError, DivergenceError, StoppedError
from chargen.run_writer import create_run, resume_run
from chargen.runs import find_model
from chargen.schema import format_count, format_value
from chargen.storage.stored_weights import round_weights
from chargen.text.corpus import Corpus
from chargen.text.documents import NONE
from chargen.tokenizers.words import word_kinds
from chargen.training.budget import Budget, total_steps
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.diagnosis.evidence import collect_evidence
from chargen.training.diagnosis.rules import diagnose
from chargen.training.events import Finished, Report, Started
from chargen.training.init_from import InitialModel, check_same_quantizer, fit_ngrams, init_from_model
from chargen.training.recipe import DEFAULT_CELL, RecipeInputs, choose_settings, ngram_settings
from chargen.training.regularization import limit_epochs
from chargen.training.saving import KEEP_STATE, RunSaver
from chargen.training.state import (
    TrainingState,
    check_length,
    check_same_settings,
    load_run_state,
    resumed_train_config,
)
from chargen.training.validation import (
    Baselines,
    evaluate_validation,
    loss_nats_per_char,
    measure_baselines,
    num_final_ids,
    relative_difficulty,
    training_sample,
)

if TYPE_CHECKING:
    from chargen.training.loop import TrainingLoop
    from chargen.training.ranks.group import Ranks


@dataclass(frozen=True)
class Plan:
    """What the user wants to train. The recipe chooses everything that `model` and `train` leave open.

    Raises:
        ConfigError: If `length`, `model` or `train` has another type.
    """

    corpus: Corpus  #: the training text
    name: str = ""  #: name of the run; empty: the name of the corpus
    length: RunLength = field(default_factory=RunLength)  #: how long to train
    data: DataConfig = field(default_factory=DataConfig)  #: how the text is encoded and split
    model: ModelChoices = field(default_factory=ModelChoices)  #: the network
    train: TrainChoices = field(default_factory=TrainChoices)  #: the optimization
    val_corpus: Corpus | None = None  #: a separate validation text; None: a part of the corpus is held out
    device: str = "auto"  #: "auto" (that of the run to resume, or a CUDA GPU if there is one), "cpu", "cuda" or "mps"
    resume: str = ""  #: name of the stopped run to resume
    extra_budget_s: float = 0.0  #: seconds to add to the time budget of the resumed run
    init_from: str = ""  #: the model whose weights and vocabulary a new run starts from
    new_chars: str = "grow"  #: how to treat characters which that model lacks: "grow", "error" or "unknown"
    save_every_s: float = 60.0  #: maximum time between two saves of the training state
    keep_state: str | None = None  #: one of `KEEP_STATE`; None: that of the run to resume, or "always"
    force: bool = False  #: replace an existing run of this name as soon as the new one has a model
    root: Path | None = None  #: the folder of all runs; None for `checkpoints_folder()`
    stop_after: int | None = None  #: the step after which the run is interrupted
    started: float = field(default_factory=time.perf_counter)  #: start of the budget, by `time.perf_counter`

    def __post_init__(self) -> None:
        if self.keep_state is not None and self.keep_state not in KEEP_STATE:
            raise ConfigError(f"keep_state is {format_value(self.keep_state)}", f"Give one of {', '.join(KEEP_STATE)}.")
        for name, kind in (("length", RunLength), ("model", ModelChoices), ("train", TrainChoices)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ConfigError(
                    f"{name} of the plan is {format_value(value)}, but must be a {kind.__name__}",
                    "For example: Plan(corpus, length=RunLength(steps=100), model=ModelChoices(hidden_size=64)).",
                )

    @property
    def run_name(self) -> str:
        """The name of the run, to which a new run may append a number."""
        return self.resume or self.name or self.corpus.name


def train(plan: Plan, stop: Callable[[], bool] = lambda: False, ranks: Ranks | None = None) -> Iterator[Report]:
    """Train a model and yield reports. The last report is `Finished`.

    Args:
        plan: What to train.
        stop: Called between the stages and after each step; the run ends early if it returns True.
        ranks: The processes of the run, of which this one is the leader (`ranks/`); None for a single process.

    Raises:
        ChargenError: If the corpus, the settings or the disk do not allow the run, or if the loss diverged.
        StoppedError: If the run was stopped before its first validation, and before its first steps were saved
            (`save_every_s`). A new run leaves no files then; a run to resume or to replace is unchanged.
    """
    with ExitStack() as stack:
        run_writer = stack.enter_context(resume_run(plan.resume, plan.root)) if plan.resume else None
        saved = load_run_state(run_writer.run) if run_writer else None
        if saved:
            check_length(plan.length, saved, plan.resume)
        initial = _load_initial_model(plan)

        # 1. Encode the text.
        tokenizer = saved.tokenizer if saved else initial.tokenizer if initial else None
        data = prepare_dataset(plan.corpus, plan.val_corpus, plan.data, tokenizer)
        initial = initial and fit_ngrams(initial, data.train.ids)
        _check_stop(stop)
        pending_baselines = _measure_in_background(data)
        from chargen.networks.torch_runtime import ThreadTuner, check_run_fits
        from chargen.training.loop import build_loop
        from chargen.training.ranks.follower import set_up_ranks
        from chargen.training.ranks.group import ALONE

        _check_stop(stop)
        device = _choose_device(plan, saved, ranks)
        ngrams = _prepare_network(plan, data, saved, initial, device)
        baselines = pending_baselines.result()
        _check_stop(stop)

        # 2. Choose the settings.
        threads = stack.enter_context(ThreadTuner(device == "cpu" and _has_budget(plan, saved)))
        model, config = _settings(plan, data, device, saved, initial, (ranks := ranks or ALONE).size)
        check_run_fits(model, config, len(data.train.ids))
        _check_stop(stop)
        batches = build_batch_source(data, config)
        config = config if saved else limit_epochs(config, batches.windows_per_epoch)
        set_up_ranks(ranks, data, model, config, batches.batch_size)

        # 3. Build the network. All inputs are checked by now, so files may be written.
        if run_writer is None:
            run_writer = stack.enter_context(create_run(plan.run_name, force=plan.force, root=plan.root))
        keep_state = plan.keep_state or (saved.keep_state if saved else "always")
        saver = RunSaver(run_writer, data, model, config, keep_state, ranks.job)
        budget = Budget(plan.started, config.budget_s, total_steps(config, batches), num_final_ids(data))
        loop = build_loop(batches, saver, budget, threads, saved, initial, ngrams, plan.save_every_s, ranks)
        yield _started(plan, data, loop, initial)

        # 4. Train.
        yield from loop.reports(stop, plan.stop_after)

        # 5. Evaluate the best model.
        yield _finish(loop, baselines, is_new_network=not (saved or initial))


def _check_stop(stop: Callable[[], bool]) -> None:
    """Raise StoppedError if the run is to end before it has written a file."""
    if stop():
        raise StoppedError(STOPPED_EARLY)


def _measure_in_background(data: Dataset) -> Future[Baselines]:
    """Start to measure the baselines in a thread. A run that is stopped does not wait for it.

    They use a core for seconds. Meanwhile the main thread imports torch and prepares the network. They must end before
    the training starts: next to another busy thread, training with two threads has a quarter of its speed.
    """
    future: Future[Baselines] = Future()

    def measure() -> None:
        try:
            future.set_result(measure_baselines(data))
        except BaseException as error:  # noqa: BLE001 - raised by future.result()
            future.set_exception(error)

    threading.Thread(target=measure, name="chargen-baselines", daemon=True).start()
    return future


def _choose_device(plan: Plan, saved: TrainingState | None, ranks: Ranks | None) -> str:
    """Return the device of the run: if the user chose none, that of the run to resume, if this machine has it."""
    from chargen.networks.torch_runtime import resolve_device

    own = saved.train.device if saved else "auto"
    is_usable = own != "mps" or ranks is None or not ranks.is_divided  # several processes cannot exchange its tensors
    return resolve_device(plan.device, own if is_usable else "auto")


def _prepare_network(
    plan: Plan, data: Dataset, saved: TrainingState | None, initial: InitialModel | None, device: str
) -> TagsAndWords | None:
    """Load the compiled loops of a network, and index the n-grams of a new one, while the baselines are computed.

    Neither depends on the settings that are chosen after that.

    Returns:
        The index and the kinds of the token ids; None if the network is not new, or has no index.
    """
    from chargen.networks.torch_runtime import keep_freed_memory
    from chargen.training.calibration import load_kernels

    keep_freed_memory()
    known = saved.model if saved else initial.shape if initial else None
    settings = ngram_settings(plan.model, len(data.train.ids), not data.config.is_series)
    precision = saved.train.precision if saved and saved.train.device == device else plan.train.precision
    cell = (known.cell if known else plan.model.cell) or DEFAULT_CELL
    load_kernels(cell, device, precision, bool(known.ngrams if known else settings["ngrams"]))
    if known or not (settings["ngrams"] and settings["ngram_index"]):
        return None
    words = word_kinds(data.tokenizer)
    return build_index(ModelConfig(len(words), **settings), data.train.ids, words), words


def _has_budget(plan: Plan, saved: TrainingState | None) -> bool:
    """Return whether the length of the run is a time, and not a number of steps."""
    if plan.length.chosen():
        return plan.length.budget_s is not None
    return saved is None or saved.train.budget_s is not None


def build_batch_source(data: Dataset, config: TrainConfig) -> BatchSource:
    """Return the batches of the training text, or of its documents if the model is trained on documents."""
    has_documents, start_id = data.config.documents != NONE, int(data.start_ids[-1])
    return build_batches(data.train.ids, start_id, has_documents, config.batch_size, config.seq_len, config.seed)


def _load_initial_model(plan: Plan) -> InitialModel | None:
    """Return the model that the run starts from, or None if it starts from random weights or is resumed."""
    if not plan.init_from:
        return None
    if plan.resume:
        raise ConfigError("a run cannot be both resumed and started from a model", "Leave out --resume or --init-from.")
    checkpoint = load_checkpoint(find_model(plan.init_from))
    check_same_quantizer(checkpoint, plan.corpus.quantizer)
    has_documents, text = plan.data.documents != NONE, plan.corpus.content.span()
    return init_from_model(checkpoint, text, plan.new_chars, plan.model, has_documents, plan.data.direction)


def _settings(
    plan: Plan,
    data: Dataset,
    device: str,
    saved: TrainingState | None,
    initial: InitialModel | None,
    num_processes: int,
) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings of a resumed run, or choose those of a new one by the recipe."""
    from chargen.networks.precision import choose_precision, resumed_precision
    from chargen.training.calibration import excess_loss_nats, measure_flops_per_s

    if saved:
        check_same_settings({**plan.model.chosen(), **plan.train.chosen()}, saved, plan.resume)
        config = resumed_train_config(plan.length, plan.train, plan.extra_budget_s, saved, device)
        precision = resumed_precision(config.precision, saved.model.cell_names, device, saved.train.device)
        return saved.model, replace(config, precision=precision)
    if plan.extra_budget_s:
        raise ConfigError(
            "only the time budget of a stopped run can be extended", "Give --resume RUN, or a larger --budget."
        )
    length = plan.length if plan.length.chosen() else RunLength(budget_s=DEFAULT_BUDGET_S)
    model = replace(plan.model, **initial.shape.chosen()) if initial else plan.model
    cell = model.cell or DEFAULT_CELL
    precision = choose_precision(plan.train.precision, list_cells(cell, 1), device)
    excess_loss = None
    if initial and plan.train.learning_rate is None:
        shape = ModelConfig(vocab_size=data.tokenizer.vocab_size, **initial.shape.chosen())
        excess_loss = excess_loss_nats(data, shape, initial.weights, device, initial.loss_nats_per_char)
    flops = 0.0
    if length.budget_s is not None:
        flops_per_s = num_processes * measure_flops_per_s(cell, device, precision)
        flops = flops_per_s * max(0.0, length.budget_s - (time.perf_counter() - plan.started))
    inputs = RecipeInputs(
        num_train_ids=len(data.train.ids),
        vocab_size=data.tokenizer.vocab_size,
        length=length,
        device=device,
        model=model,
        train=replace(plan.train, precision=precision),
        flops=flops,
        excess_loss_nats=excess_loss,
        has_words=not data.config.is_series,
        num_processes=num_processes,
    )
    return choose_settings(inputs)


def _started(plan: Plan, data: Dataset, loop: TrainingLoop, initial: InitialModel | None) -> Started:
    """Return the first report."""
    saver, batches = loop.saver, loop.trainer.batches
    notes = [*plan.corpus.notes, *plan.corpus.repeated_files, *data.notes]
    if plan.data.is_backward:
        notes.append("the model reads the text backward, from its end")
    if saver.run.name != plan.run_name and not plan.resume:
        notes.append(f"the name {plan.run_name!r} is taken; this run is named {saver.run.name!r}")
    if isinstance(batches, DocumentBatches):
        notes.append(
            f"{format_count(batches.num_documents, 'document')} for training, in windows of "
            f"{format_count(batches.seq_len, 'token')}"
        )
    if initial and initial.note:
        notes.append(initial.note)
    if batches.batch_size < saver.train.batch_size:
        notes.append(f"the text is short: the batch size is {batches.batch_size} instead of {saver.train.batch_size}")
    if loop.budget.is_used_up() and not loop.first_step:
        notes.append(
            f"the start of the program has used up the budget of {format_duration_s(loop.budget.budget_s or 0)}: only "
            "one step is made. Give more time: --budget 5m is five minutes"
        )
    return Started(
        run=saver.run.name,
        corpus=plan.corpus.name,
        notes=tuple(notes),
        train_chars=data.train.num_chars,
        val_chars=sum(part.num_chars for part in data.val),
        parameters=count_parameters(saver.model),
        model=saver.model,
        data=plan.data,
        train=replace(saver.train, batch_size=batches.batch_size, seq_len=batches.seq_len),  # those in use
        total_steps=None if saver.train.budget_s is not None else loop.budget.total_steps,
        first_step=loop.first_step,
        selection_chars=data.val[0].num_chars,
        elapsed_s=loop.budget.elapsed_s(),
        num_processes=loop.trainer.ranks.size,
    )


def _finish(loop: TrainingLoop, baselines: Baselines, is_new_network: bool) -> Finished:
    """Evaluate the best model, write the numbers into its file, and return the last report."""
    from chargen.training.loop import hint_to_resume

    saver, trainer, budget = loop.saver, loop.trainer, loop.budget
    if not saver.best_weights:
        raise DivergenceError(
            f"the run {saver.run.name!r} has no model: none of its validation losses was a finite number",
            "Use a lower learning rate (--lr) or a lower gradient clipping norm (--clip).",
        )
    sample = training_sample(saver.data)
    stored_weights = round_weights(saver.best_weights, saver.train.weight_storage, table_rows(saver.model))
    with hint_to_resume(saver):
        trainer.share_weights(stored_weights)
        validation = evaluate_validation(loop.read, saver.data)
        train_loss = loss_nats_per_char(loop.read, saver.data, sample)
    result = Finished(
        run=saver.run.name,
        model_path=str(saver.run.model_path),
        interrupted=loop.is_interrupted,
        stopped_early=loop.has_stopped_early,
        reached_max_epochs=budget.has_reached_max_steps(trainer.step),
        steps=trainer.step,
        best_step=saver.best_step,
        epochs=trainer.epoch,
        elapsed_s=budget.elapsed_s(),
        chars_per_s=loop.meter.chars_per_s(),
        train_loss_nats_per_char=loop.history[-1]["train"],
        train_loss_without_dropout_nats_per_char=train_loss,
        val_loss_nats_per_char=validation.nats_per_char,
        val_bits_per_char=validation.bits_per_char,
        val_bits_per_byte=validation.bits_per_byte,
        val_perplexity_per_char=validation.perplexity_per_char,
        val_first_half_nats_per_char=validation.first_half_nats_per_char,
        val_second_half_nats_per_char=validation.second_half_nats_per_char,
        ngram_5_nats_per_char=baselines.ngram_5_nats_per_char,
        lzma_nats_per_char=baselines.lzma_nats_per_char,
        entropy_nats_per_char=saver.data.corpus.entropy_nats_per_char,
        first_step=loop.first_step,
    )
    difficulty = relative_difficulty(saver.data, sample)
    diagnosis = diagnose(collect_evidence(loop, result, baselines, difficulty, is_new_network))
    result = replace(result, diagnosis=diagnosis.summary, advice=diagnosis.advice, elapsed_s=budget.elapsed_s())
    saver.write_best(result)
    saver.remove_state(is_done=not loop.is_interrupted)
    saver.log(result)
    return result
