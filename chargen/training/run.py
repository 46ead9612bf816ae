"""The story of a training run, from a text to the best model on disk. Read this file first.

    1. text → ids on disk, part of them held out                              prepare.py
    2. what the person did not choose is chosen                               recipe.py
    3. a network; or the one that was stopped, as it was                      trainer.py, keeper.py
    4. steps until the time or the steps are over; now and then a look at
       validation, from which on the best model so far is on disk             loop.py, clock.py
    5. the best model is measured on the whole of validation, beside what
       needs no network, and the numbers are put into words                   measure.py, verdict.py

The run yields reports and prints nothing. Whoever wants to stop it (Ctrl-C) makes `stop()` return True: the run then
takes one more look, keeps what is best, and ends as it would have.

A run's network, trainer and loop: new, or as a stopped run left them. Importing this loads torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chargen.cells.weights import count_parameters, mask_bias
from chargen.checkpoint import Tensors, load_checkpoint
from chargen.config import DataConfig, ModelConfig, TrainConfig
from chargen.data.batches import BatchSource, DocumentBatches, TextBatches
from chargen.data.dataset import Dataset, prepare_dataset
from chargen.errors import ConfigError, ModelError
from chargen.networks.network import Network
from chargen.networks.torch_runtime import check_run_fits, keep_freed_memory
from chargen.run_writer import RunWriter, create_run, resume_run
from chargen.runs import CHECKPOINTS, find_model
from chargen.text.corpus import Corpus
from chargen.text.documents import NONE
from chargen.training.budget import Budget
from chargen.training.events import Finished, Report, Started, verdict
from chargen.training.init_from import InitialModel, init_from_model
from chargen.training.loop import Loop
from chargen.training.recipe import choose, default_cell
from chargen.training.saving import RunSaver
from chargen.training.state import State, load_state
from chargen.training.trainer import Trainer
from chargen.training.validation import Baselines, baselines, closing_ids, measure

if TYPE_CHECKING:
    from chargen.training.loop import Loop


@dataclass(frozen=True)
class Plan:
    """What a person asks for. The recipe chooses what `model` and `train` leave out."""

    corpus: Corpus
    name: str  #: of the run; empty for that of the corpus
    length: Mapping[str, Any]  #: one of {"budget_s": …}, {"steps": …}, {"epochs": …}
    data: DataConfig = field(default_factory=DataConfig)
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    val_corpus: Corpus | None = None
    device: str = "auto"
    resume: str = ""  #: the name of a stopped run to go on with
    more_s: float = 0.0  #: seconds to add to the budget of that run
    init_from: str = ""  #: a model, whose weights and vocabulary a new run begins from
    new_chars: str = "grow"  #: "grow", "error" or "unknown": what becomes of characters that it lacks
    save_every_s: float = 60.0  #: so much work is lost, at most, if the machine goes away
    force: bool = False  #: replace a run of this name, once there is a model to replace its model
    root: Path = CHECKPOINTS  #: folder of the runs
    stop_after: int | None = None  #: the step after which the run ends as an interruption would end it
    started: float = field(default_factory=time.perf_counter)  #: when its budget began to count

    def __post_init__(self) -> None:
        ModelConfig.check_fields(self.model)
        TrainConfig.check_fields({**self.length, **self.train})


def train(plan: Plan, stop: Callable[[], bool] = lambda: False) -> Iterator[Report]:
    """Train a model, yielding reports; the last is `Finished`.

    Raises:
        ChargenError: the corpus, the settings or the disk do not allow the run, or the loss diverged. Whatever was
            best before is on disk.
        StoppedError: the run was to replace another one and was stopped before its first model; the other one stays.
    """
    with ExitStack() as held:
        place = held.enter_context(resume_run(plan.resume, plan.root)) if plan.resume else None
        # 1, 2
        saved = load_state(place.run.state_path) if place else None
        begun = _beginning(plan)
        tokenizer = saved.tokenizer if saved else begun.tokenizer if begun else None
        data = prepare_dataset(plan.corpus, plan.val_corpus, plan.data, tokenizer)
        # The baselines take seconds of one core: most of them pass while torch, which is imported only now, loads.
        # They are waited for: two threads that train beside a third busy one go at a quarter of their speed.
        yardsticks = held.enter_context(ThreadPoolExecutor(1)).submit(baselines, data)
        from chargen.networks.torch_runtime import resolve_device

        device = resolve_device(plan.device)
        beside = yardsticks.result()
        model, config = _settings(plan, data, device, saved, begun)
        check_run_fits(model, config, len(data.train.ids))
        # 3
        stream = _stream(data, config)
        # Only now, when nothing is left to be wrong with what was asked for, is anything put on disk.
        place = place or held.enter_context(_new_place(plan))
        saver = RunSaver(place, data, model, config)
        clock = Budget(plan.started, config.budget_s, _total_steps(config, stream), closing_ids(data))
        loop = build_loop(stream, saver, clock, saved, begun.weights if begun else None, plan.save_every_s)
        yield _started(plan, data, loop, begun)
        with loop.threads:
            # 4
            yield from loop.reports(stop, plan.stop_after)
            # 5
            yield _finish(loop, beside)


def _new_place(plan: Plan) -> RunWriter:
    return create_run(plan.name or plan.corpus.name, force=plan.force, root=plan.root)


def _beginning(plan: Plan) -> InitialModel | None:
    if not plan.init_from:
        return None
    if plan.resume:
        raise ConfigError("a run is resumed or begun from a model, not both", "Leave out --resume or --init-from.")
    checkpoint = load_checkpoint(find_model(plan.init_from))
    return init_from_model(
        checkpoint, plan.corpus.content.span(), plan.new_chars, plan.model, plan.data.documents != NONE
    )


def _settings(
    plan: Plan, data: Dataset, device: str, saved: State | None, begun: InitialModel | None
) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings that the recipe chooses, or those of the run that is resumed (its length may change)."""
    if saved:
        before = saved.train.to_json()
        _check_same(plan, {**saved.model.to_json(), **before})
        length = plan.length or {key: before[key] for key in ("budget_s", "steps", "epochs")}
        if plan.more_s:
            length = _longer(length, plan.more_s)
        train_json = {**before, "budget_s": None, "steps": None, "epochs": None, **length, "device": device}
        return saved.model, TrainConfig.from_json(train_json)
    if plan.more_s:
        raise ConfigError("only a run that was stopped can have more time", "Say --resume RUN, or a longer --budget.")
    chosen = {**plan.model, **begun.shape} if begun else plan.model
    flops, new = 0.0, None
    if begun and "learning_rate" not in plan.train:
        from chargen.training.budget import new_nats

        config = ModelConfig(vocab_size=data.tokenizer.vocab_size, **begun.shape)
        new = new_nats(data, config, begun.weights, device, begun.loss_nats_per_char)
    if "budget_s" in plan.length:
        from chargen.training.budget import measure_flops_per_s

        flops = measure_flops_per_s(str(chosen.get("cell", default_cell(device))), device)
        flops *= max(0.0, plan.length["budget_s"] - (time.perf_counter() - plan.started))
    return choose(len(data.train.ids), data.tokenizer.vocab_size, plan.length, device, chosen, plan.train, flops, new)


def _check_same(plan: Plan, saved: Mapping[str, Any]) -> None:
    """Check that a plan asks for no other network or training than the run to resume has.

    Raises:
        ConfigError: it does.
    """
    for name, value in {**plan.model, **plan.train}.items():
        if saved.get(name, value) != value:
            raise ConfigError(
                f"{name} is {value}, but the run {plan.resume!r} has {saved[name]}",
                "A resumed run keeps the settings that it began with.",
            )


def _longer(length: Mapping[str, Any], more_s: float) -> dict[str, Any]:
    if not length.get("budget_s"):
        raise ConfigError("more time can be given to a run by time only", "Give this one more --steps or --epochs.")
    return {"budget_s": length["budget_s"] + more_s}


def _stream(data: Dataset, config: TrainConfig) -> BatchSource:
    if data.config.documents == NONE:
        return TextBatches(data.train.ids, int(data.start[-1]), config.batch_size, config.seq_len)
    return DocumentBatches(data.train.ids, config.batch_size, config.seq_len, config.seed)


def _total_steps(config: TrainConfig, stream: BatchSource) -> int | None:
    if config.epochs is not None:
        return max(1, round(config.epochs * stream.windows_per_epoch))
    return config.steps


def _started(plan: Plan, data: Dataset, loop: Loop, begun: InitialModel | None) -> Started:
    train, stream, notes = loop.saver.train, loop.trainer.stream, [*plan.corpus.notes, *data.notes]
    name = plan.resume or plan.name or plan.corpus.name
    if loop.saver.run.name != name:
        notes.append(f"the name {name!r} is taken; this run is {loop.saver.run.name!r}")
    if isinstance(stream, DocumentBatches):
        notes.append(f"{stream.num_documents:,} documents to learn from, in windows of {stream.seq_len}")
    if begun and begun.note:
        notes.append(begun.note)
    if stream.batch_size < train.batch_size:
        notes.append(f"a short text: {stream.batch_size} lanes instead of {train.batch_size}")
    return Started(
        run=loop.saver.run.name,
        corpus=plan.corpus.name,
        notes=tuple(notes),
        train_chars=data.train.num_chars,
        val_chars=sum(part.num_chars for part in data.val),
        parameters=count_parameters(loop.saver.model),
        model=loop.saver.model,
        data=plan.data,
        train=train,
        total_steps=loop.clock.total_steps,
        first_step=loop.trainer.step,
    )


def _finish(loop: Loop, yardsticks: Baselines) -> Finished:
    """Measure the best model and write the numbers into its file."""
    saver, trainer, clock = loop.saver, loop.trainer, loop.clock
    if not saver.best_weights:
        raise ModelError(
            f"the run {saver.run.name!r} has no model: nothing was left to train",
            "Give more --steps or a longer --budget.",
        )
    trainer.network.import_weights(saver.best_weights)
    measured = measure(loop.engine, saver.data)
    result = Finished(
        run=saver.run.name,
        model_path=str(saver.run.model_path),
        interrupted=loop.halted,
        steps=trainer.step,
        best_step=saver.best_step,
        epochs=trainer.epoch,
        elapsed_s=clock.elapsed_s(),
        chars_per_s=loop.meter.chars_per_s(),
        train_loss_nats_per_char=loop.history[-1]["train"],
        val_loss_nats_per_char=measured.nats_per_char,
        val_bits_per_char=measured.bits_per_char,
        val_bits_per_byte=measured.bits_per_byte,
        val_perplexity_per_char=measured.perplexity_per_char,
        val_first_half_nats_per_char=measured.first_half_nats_per_char,
        val_second_half_nats_per_char=measured.second_half_nats_per_char,
        ngram_5_nats_per_char=yardsticks.ngram_5,
        lzma_nats_per_char=yardsticks.lzma,
        entropy_nats_per_char=saver.data.corpus.entropy_nats_per_char,
    )
    said, advice = verdict(result, loop.history, saver.model.dropout)
    result = replace(result, verdict=said, advice=advice, elapsed_s=clock.elapsed_s())
    saver.write_best(result)
    saver.log(result)
    return result


def build_loop(
    stream: BatchSource,
    saver: RunSaver,
    clock: Budget,
    saved: State | None,
    weights: Tensors | None,
    save_every_s: float,
) -> Loop:
    """Make the loop of a run, before its next step.

    Args:
        stream: what it reads.
        keeper: where it puts things.
        clock: how long it takes.
        saved: the state of the stopped run that it goes on with.
        weights: what it begins from instead of random ones.
        save_every_s: how often its state is put on disk, at least.

    Raises:
        ModelError: the saved state is of another network or text.
    """
    keep_freed_memory()
    generator = torch.Generator().manual_seed(saver.train.seed)
    network = Network(saver.model, generator).to(saver.train.device)
    if weights:
        network.import_weights(weights)
    if saver.train.device == "cuda":
        network.pack()
        torch.set_float32_matmul_precision("high")  # TF32, as cuDNN's kernels compute anyway
    trainer = Trainer(network, stream, saver.train)
    history: list[dict[str, float]] = []
    if saved:
        trainer.restore(saved.tensors, saved.trainer)
        saver.restore(saved)
        clock.earlier_s, clock.first_step_s = saved.elapsed_s, saved.first_step_s
        history = list(saved.history)
    _mask(network, saver)
    return Loop(trainer, saver, clock, history, save_every_s, keeps_beginning=weights is not None)


@torch.no_grad()
def _mask(network: Network, saver: RunSaver) -> None:
    """Mask the ids that can never come, in the network and in the best weights so far.

    A saved state of an earlier version has no mask. A state that has one is not changed.
    """
    masked = saver.data.tokenizer.masked_ids(saver.data.config.documents != NONE)
    bias = network.weight("head.bias")
    bias.copy_(torch.from_numpy(mask_bias(bias.detach().cpu().numpy(), masked)))
    if saver.best_weights:
        best = mask_bias(saver.best_weights["head.bias"], masked)
        saver.best_weights = {**saver.best_weights, "head.bias": best}
