"""Run the training loop: make steps, report the progress, and validate the model.

steps ──▶ Progress … ──▶ validation is due ──▶ Evaluated, state saved ──▶ steps …

A validation is due after a number of training tokens, never after a time. So runs with the same steps make the same
validations. Importing this module loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from chargen.cells.ngram_index import TagsAndWords
from chargen.cells.weights import mask_bias
from chargen.data.batches import BatchSource
from chargen.engines.torch_engine import TorchEngine
from chargen.errors import STOPPED_EARLY, DivergenceError, RankLostError, StoppedError
from chargen.networks.network import Network
from chargen.networks.torch_runtime import ThreadTuner
from chargen.storage.stored_weights import Tensors
from chargen.text.documents import NONE
from chargen.training.budget import Budget, MovingRate
from chargen.training.events import Evaluated, Progress
from chargen.training.init_from import InitialModel
from chargen.training.ranks.group import ALONE, Ranks
from chargen.training.ranks.reading import DividedReader
from chargen.training.saving import RunSaver
from chargen.training.state import TrainingState
from chargen.training.trainer import Trainer
from chargen.training.validation import loss_nats_per_char, num_ids_read

# Training tokens per validation token. Reading a token takes about a third of training on it, so validation takes
# less than 10 % of the time.
TOKENS_BETWEEN_VALIDATIONS = 6
# With a larger vocabulary, a training step computes only a part of the softmax (`networks/sampled_softmax.py`), but
# validation computes all of it. Validations are then rarer by the same factor.
MAX_FULL_SOFTMAX_VOCAB = 1000
# Minimum number of steps between validations. For a tiny text, writing the files takes longer than reading the tokens.
STEPS_BETWEEN_VALIDATIONS = 50
# On a GPU a step is ten times as fast, but a validation, which reads many steps of few streams, is not.
GPU_STEPS_BETWEEN_VALIDATIONS = 1000
REPORT_EVERY_S = 0.5  #: seconds between progress reports
SPEED_WINDOW_S = 10.0  #: seconds of training over which the speed is averaged


class TrainingLoop:
    """Runs the steps of a training run.

    Args:
        trainer: Makes the steps.
        saver: Writes the best model and the training state to disk.
        budget: Measures how much of the run is done.
        threads: Chooses the number of CPU threads.
        history: The validations before the run was resumed; new ones are appended.
        save_every_s: Maximum number of seconds between two saves of the training state.
        has_initial_model: Whether the initial weights come from a trained model, which may stay the best one.
    """

    def __init__(
        self,
        trainer: Trainer,
        saver: RunSaver,
        budget: Budget,
        threads: ThreadTuner,
        history: list[dict[str, float]],
        save_every_s: float,
        has_initial_model: bool = False,
    ) -> None:
        self.trainer = trainer
        self.saver = saver
        self.budget = budget
        self.history = history
        data = saver.data
        has_documents = data.config.documents != NONE
        reader = DividedReader(TorchEngine(trainer.network), data.start_ids, has_documents, trainer.ranks)
        self.read = reader.read  #: reads a text with the current weights, on all ranks
        self.meter = ThroughputMeter(trainer, budget, saver.data.ids_per_char)
        self.threads = threads
        self.is_interrupted = False  #: whether the run was stopped from outside before its last step
        self.first_step = trainer.step  #: number of steps before the run was resumed
        self.has_stopped_early = False  #: whether the run ended because its patience was used up
        self._has_initial_model = has_initial_model
        self._save_every_s = save_every_s
        self._saved_at_s = budget.elapsed_s()

    def reports(self, stop: Callable[[], bool], stop_after: int | None) -> Iterator[Progress | Evaluated]:
        """Make steps until the run is done, `stop()` returns True, or `stop_after` steps are made.

        Raises:
            DivergenceError: If the loss is not finite. The best model before that is on disk.
            StorageError: If the model or the training state cannot be written.
            StoppedError: If the run was stopped before it had anything to keep (`_discard_if_stopped_early`).
            RankLostError: If another process of the run has ended.
        """
        try:
            with hint_to_resume(self.saver):
                yield from self._steps(stop, stop_after)
        finally:
            self.saver.background.wait()

    def _steps(self, stop: Callable[[], bool], stop_after: int | None) -> Iterator[Progress | Evaluated]:
        trainer, budget, meter = self.trainer, self.budget, self.meter
        if stop():
            self._discard_if_stopped_early()
        if not trainer.step:
            if self._has_initial_model:
                self._evaluate()
            self._save_state()  # if the process is killed from now on, the run can be resumed
        # If loading torch has used up the whole budget, one step is made, so that there is a model.
        is_done = budget.progress(trainer.step) >= 1.0 and bool(self.history) and bool(self.saver.best_weights)
        self.has_stopped_early = not is_done and self._is_patience_used_up()
        while not (is_done or self.has_stopped_early or self.is_interrupted):
            validations_before = self._num_validations_due()
            try:
                trainer.train_step(budget.progress(trainer.step))
            except DivergenceError as error:
                yield from self._validate_and_raise(error)
            is_done = budget.progress(trainer.step) >= 1.0
            is_stopped = not is_done and stop()
            self.is_interrupted = is_stopped or (not is_done and trainer.step == stop_after)
            validation_due = is_done or self._num_validations_due() > validations_before
            if is_stopped:
                self._discard_if_stopped_early()
            if validation_due or self.is_interrupted or meter.elapsed_s() > REPORT_EVERY_S:
                report = meter.report()
                self.saver.log(report)
                if not validation_due:  # an interval that a validation ends can be too short to measure the speed
                    self.threads.observe(meter.newest_chars_per_s)
                yield report
            if self.is_interrupted and not validation_due:
                # Saved before the extra validation: a run that is never stopped does not make it.
                self._save_state()
            if self.is_interrupted or validation_due:
                yield self.validate()
                self.has_stopped_early = not (is_done or self.is_interrupted) and self._is_patience_used_up()
            is_state_old = budget.elapsed_s() - self._saved_at_s > self._save_every_s
            if validation_due or (is_state_old and not self.is_interrupted):
                self._save_state()

    def _discard_if_stopped_early(self) -> None:
        """Raise StoppedError if the run has neither a model nor training steps in its training state.

        So a stop discards at most the training between two saves of the state (`--save-every`). A run that is stopped
        later is validated and saved.
        """
        if not self.saver.best_weights and not self.saver.is_worth_keeping:
            raise StoppedError(STOPPED_EARLY)

    def validate(self) -> Evaluated:
        """Evaluate the current model, save it if it is the best so far, and return a report."""
        trainer = self.trainer
        loss, is_best, weights = self._evaluate()
        report = Evaluated(
            step=trainer.step,
            epoch=trainer.epoch,
            elapsed_s=self.budget.elapsed_s(),
            train_loss_nats_per_char=trainer.since_validation.pop() * self.saver.data.ids_per_char,
            val_loss_nats_per_char=loss,
            best=is_best,
            checkpoint=self.saver.checkpoint(weights, {"step": trainer.step}),
        )
        self.history.append({"step": report.step, "train": report.train_loss_nats_per_char, "val": loss})
        self.saver.log(report)
        self.meter.start_interval()
        return report

    def _evaluate(self) -> tuple[float, bool, Tensors]:
        """Return (validation loss of the current model in nats per character, whether it is the best, its weights)."""
        data = self.saver.data
        start_s = self.budget.elapsed_s()
        loss = loss_nats_per_char(self.read, data, data.val[0])
        weights = self.trainer.network.export_weights()
        is_best = self.saver.save_if_best(loss, self.trainer.step, weights)
        self.budget.record_validation(num_ids_read(len(data.val[0].ids)), self.budget.elapsed_s() - start_s)
        return loss, is_best, weights

    def _is_patience_used_up(self) -> bool:
        """Return whether too large a share of the run lies between the best and the last validation.

        The share is counted in steps, so that a run with a fixed number of steps always stops at the same one, and a
        resumed run where it would have stopped without the interruption.
        """
        patience = self.trainer.config.patience
        if patience >= 1.0 or not self.history:
            return False
        steps_since_best = self.history[-1]["step"] - self.saver.best_step
        return self.budget.progress(self.trainer.step) * steps_since_best >= patience * self.trainer.step

    def _num_validations_due(self) -> int:
        """Return how many validations should have been made by now."""
        batches = self.trainer.batches
        num_val_ids = len(self.saver.data.val[0].ids)
        on_gpu = self.trainer.config.device == "cuda"
        min_steps = GPU_STEPS_BETWEEN_VALIDATIONS if on_gpu else STEPS_BETWEEN_VALIDATIONS
        min_ids = min_steps * batches.ids_per_epoch // batches.windows_per_epoch
        cost_factor = max(1.0, self.saver.model.vocab_size / MAX_FULL_SOFTMAX_VOCAB)
        interval = max(1, min_ids, int(TOKENS_BETWEEN_VALIDATIONS * num_val_ids * cost_factor))
        return self.trainer.ids_seen // interval

    def _save_state(self) -> None:
        self._saved_at_s = self.budget.elapsed_s()
        self.saver.save_state(self.trainer, self.budget, self.history)
        self.meter.start_interval()

    def _validate_and_raise(self, error: DivergenceError) -> Iterator[Evaluated]:
        """Validate the model before the step that diverged, then raise the error."""
        if self.trainer.step:
            yield self.validate()
        saved = f"The best model before that is {self.saver.run.model_path}." if self.saver.best_weights else ""
        raise DivergenceError(error.message, f"{saved} {error.hint}".strip()) from error


class ThroughputMeter:
    """Measures the training loss since the last report, the speed as a moving average, and that of the whole process.

    Args:
        trainer: Counts the tokens and sums the losses.
        budget: The clock.
        ids_per_char: Mean number of token ids per character.
    """

    def __init__(self, trainer: Trainer, budget: Budget, ids_per_char: float) -> None:
        self._trainer = trainer
        self._budget = budget
        self._ids_per_char = ids_per_char
        self._first_ids = trainer.ids_seen
        self._training_s = 0.0  # seconds of all finished intervals
        self._rate = MovingRate(SPEED_WINDOW_S)
        self.newest_chars_per_s = 0.0  #: speed in the newest interval, which may be a single step
        self.start_interval()

    def start_interval(self) -> None:
        """Start a new interval. It is called after each validation and save, whose time is not training time."""
        self._interval_start_s = self._budget.elapsed_s()
        self._interval_first_ids = self._trainer.ids_seen

    def elapsed_s(self) -> float:
        """Return the seconds since the start of the interval."""
        return self._budget.elapsed_s() - self._interval_start_s

    def report(self) -> Progress:
        """End the interval, start the next one, and return a report."""
        trainer = self._trainer
        num_ids = trainer.ids_seen - self._interval_first_ids
        seconds = max(1e-9, self.elapsed_s())
        loss = trainer.recent.pop() * self._ids_per_char
        self._training_s += seconds
        self._budget.record_training(num_ids, seconds)
        self.start_interval()
        progress = self._budget.progress(trainer.step)
        ids_per_s = self._rate.add(num_ids, seconds)
        self.newest_chars_per_s = num_ids / seconds / self._ids_per_char
        steps_per_s = ids_per_s * trainer.batches.windows_per_epoch / trainer.batches.ids_per_epoch
        return Progress(
            step=trainer.step,
            progress=progress,
            epoch=trainer.epoch,
            elapsed_s=self._budget.elapsed_s(),
            remaining_s=self._budget.remaining_s(trainer.step, steps_per_s),
            chars_per_s=ids_per_s / self._ids_per_char,
            loss_nats_per_char=loss,
            learning_rate=trainer.learning_rate,
        )

    def chars_per_s(self) -> float:
        """Return the mean training speed since the start of the process, in characters per second."""
        num_ids = self._trainer.ids_seen - self._first_ids
        return num_ids / max(1e-9, self._training_s) / self._ids_per_char


@contextmanager
def hint_to_resume(saver: RunSaver) -> Iterator[None]:
    """Let the error of a `with` block that another process is lost say how to continue the run, if that is possible."""
    try:
        yield
    except RankLostError as error:
        if saver.keep_state == "never" or not saver.is_worth_keeping:
            raise
        more = f"Continue with: torchrun … -m chargen train --resume {saver.run.name}"
        raise RankLostError(error.message, f"{error.hint} {more}") from error


def build_loop(
    batches: BatchSource,
    saver: RunSaver,
    budget: Budget,
    threads: ThreadTuner,
    saved: TrainingState | None,
    initial: InitialModel | None,
    ngrams: TagsAndWords | None,
    save_every_s: float,
    ranks: Ranks = ALONE,
) -> TrainingLoop:
    """Build the network, trainer and loop of a run: new, or as they were when the run was stopped.

    Args:
        batches: The training data.
        saver: Writes the files of the run.
        budget: The clock of the run.
        threads: Chooses the number of CPU threads.
        saved: The training state of the run to resume, or None.
        initial: The model that the run starts from, or None for random weights.
        ngrams: The index of the n-grams of a new network, and the kinds of the token ids; or None.
        save_every_s: Maximum number of seconds between two saves of the training state.
        ranks: The processes of the run.

    Raises:
        ModelError: If the saved state belongs to another network or text.
    """
    generator = torch.Generator().manual_seed(saver.train.seed)
    network = Network(saver.model, generator).to(saver.train.device)
    if initial:
        network.import_weights(initial.weights)
    elif ngrams:
        network.set_ngram_index(*ngrams)
    trainer = Trainer(network, batches, saver.train, ranks=ranks)
    history: list[dict[str, float]] = []
    if saved:
        saver.restore(saved)  # first: it says so if the text is another one
        trainer.share_state(saved.for_device(saver.train.device).tensors, saved.trainer)
        budget.previous_s = saved.elapsed_s
        budget.first_step_s = saved.first_step_s
        history = list(saved.history)
    _mask_impossible_ids(network, saver)
    if ranks.is_divided:
        trainer.share_weights(network.export_weights())
    return TrainingLoop(trainer, saver, budget, threads, history, save_every_s, has_initial_model=initial is not None)


@torch.no_grad()
def _mask_impossible_ids(network: Network, saver: RunSaver) -> None:
    """Mask the token ids that cannot occur, in the network and in the best weights so far.

    Training states of earlier versions have no mask. A state that has one does not change.
    """
    masked = saver.data.tokenizer.masked_ids(saver.data.config.documents != NONE)
    bias = network.weight("head.bias")
    bias.copy_(torch.from_numpy(mask_bias(bias.detach().cpu().numpy(), masked)))
    if saver.best_weights:
        best = mask_bias(saver.best_weights["head.bias"], masked)
        saver.best_weights = {**saver.best_weights, "head.bias": best}
