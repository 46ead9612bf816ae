"""The loop of a run: step after step, reports on the way, looks at validation.

steps ──▶ Progress … ──▶ a look is due ──▶ Evaluated, state saved ──▶ steps …
                             │
                             └─ due by the number of ids read, never by seconds: the same steps, the same looks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chargen.checkpoint import Tensors
from chargen.engines.torch_engine import TorchEngine
from chargen.errors import DivergenceError, StoppedError
from chargen.networks.torch_runtime import ThreadTuner
from chargen.training.budget import Budget
from chargen.training.events import Evaluated, Progress
from chargen.training.saving import RunSaver
from chargen.training.trainer import Trainer
from chargen.training.validation import ids_read, loss_nats_per_char

TOKENS_BETWEEN_VALIDATIONS = (
    6  #: training ids for each id of a look: reading costs about a third of learning, so a look < 10 %
)
VOCAB_LEARNED_WHOLE = 1000  #: of a larger one, learning takes a part (`nets/sampled.py`), and a look costs as much more
STEPS_BETWEEN_VALIDATIONS = 50  #: at least: of a tiny text a look costs more than its few ids, for the files it writes
REPORT_EVERY_S = 0.5


class Loop:
    """A run between its first step and its last.

    Args:
        trainer: makes the steps.
        keeper: puts the best model and the state on disk.
        clock: says how much is done.
        history: the looks of earlier sittings.
        save_every_s: seconds after which the state is on disk again, whether or not a look was due.
        keeps_beginning: whether the weights before the first step are a model that may be the best.
    """

    def __init__(
        self,
        trainer: Trainer,
        saver: RunSaver,
        clock: Budget,
        history: list[dict[str, float]],
        save_every_s: float,
        keeps_beginning: bool = False,
    ) -> None:
        self.keeps_beginning = keeps_beginning
        self.trainer, self.saver, self.clock, self.history = trainer, saver, clock, history
        self.engine = TorchEngine(trainer.network)
        self.meter = ThroughputMeter(trainer, clock, saver.data.ids_per_char)
        self.threads = ThreadTuner(adapt=clock.budget_s is not None and trainer.config.device == "cpu")
        self.halted = False  #: ended before its time
        self.save_every_s, self._saved_at_s = save_every_s, clock.elapsed_s()

    def reports(self, stop: Callable[[], bool], stop_after: int | None) -> Iterator[Progress | Evaluated]:
        """Make the steps, until the run is done, `stop()` says so, or `stop_after` steps are made.

        Raises:
            DivergenceError: the loss is not finite; the best model before that is on disk.
            StorageError: the model or the state cannot be written.
        """
        try:
            yield from self._steps(stop, stop_after)
        finally:
            self.saver.writer.wait()

    def _steps(self, stop: Callable[[], bool], stop_after: int | None) -> Iterator[Progress | Evaluated]:
        trainer, clock, meter = self.trainer, self.clock, self.meter
        if not trainer.step:
            if self.keeps_beginning:
                self._measure()
            self._save_state()  # whoever pulls the plug from now on can go on
        # A budget that loading torch has used up still gives a model: of one step.
        done = clock.progress(trainer.step) >= 1.0 and self.saver.best_step > 0
        while not (done or self.halted):
            looks_before = self._looks_due()
            try:
                trainer.train_step(clock.progress(trainer.step))
            except DivergenceError as error:
                yield from self._keep_last_good(error)
            done = clock.progress(trainer.step) >= 1.0
            stopped = not done and stop()
            self.halted = stopped or (not done and trainer.step == stop_after)
            due = done or self._looks_due() > looks_before
            if stopped and not due and self.saver.is_replacing:
                raise StoppedError(
                    f"stopped before the first validation: the run {self.saver.run.name!r} stays as it was",
                    "Nothing of the run that was to replace it is kept.",
                )
            if due or self.halted or meter.seconds() > REPORT_EVERY_S:
                report = meter.report()
                self.saver.log(report)
                if not due:  # a short span says little
                    self.threads.observe(report.chars_per_s)
                yield report
            if self.halted and not due:  # a look that only the interruption brings is no part of the state
                self._save_state()
            if self.halted or due:
                yield self.look()
            if due or clock.elapsed_s() - self._saved_at_s > self.save_every_s:
                self._save_state()

    def look(self) -> Evaluated:
        """Measure the model as it is, keep it if it is the best so far, and report."""
        trainer = self.trainer
        loss, best, weights = self._measure()
        report = Evaluated(
            step=trainer.step,
            epoch=trainer.epoch,
            elapsed_s=self.clock.elapsed_s(),
            train_loss_nats_per_char=trainer.since_look.take() * self.saver.data.ids_per_char,
            val_loss_nats_per_char=loss,
            best=best,
            checkpoint=self.saver.checkpoint(weights, {"step": trainer.step}),
        )
        self.history.append({"step": report.step, "train": report.train_loss_nats_per_char, "val": loss})
        self.saver.log(report)
        self.meter.resume()
        return report

    def _measure(self) -> tuple[float, bool, Tensors]:
        """Return (loss of the model as it is, whether it is the best so far and kept, its weights)."""
        data, before = self.saver.data, self.clock.elapsed_s()
        loss = loss_nats_per_char(self.engine, data, data.val[0])
        weights = self.trainer.network.export_weights()
        best = self.saver.offer(loss, self.trainer.step, weights)
        self.clock.looked(ids_read(len(data.val[0].ids)), self.clock.elapsed_s() - before)
        return loss, best, weights

    def _looks_due(self) -> int:
        """Return how many looks are due by now."""
        stream, look = self.trainer.stream, len(self.saver.data.val[0].ids)
        fewest = STEPS_BETWEEN_VALIDATIONS * stream.ids_per_epoch // stream.windows_per_epoch
        dearer = max(1.0, self.saver.model.vocab_size / VOCAB_LEARNED_WHOLE)
        return self.trainer.ids_seen // max(1, fewest, int(TOKENS_BETWEEN_VALIDATIONS * look * dearer))

    def _save_state(self) -> None:
        self._saved_at_s = self.clock.elapsed_s()
        self.saver.save_state(self.trainer, self.clock, self.history)
        self.meter.resume()

    def _keep_last_good(self, error: DivergenceError) -> Iterator[Evaluated]:
        """Take a look at what there was before the step that diverged, then say so."""
        if self.trainer.step:
            yield self.look()
        kept = f"The best model before that is {self.saver.run.model_path}." if self.saver.best_weights else ""
        raise DivergenceError(error.message, f"{kept} {error.hint}".strip()) from error


class ThroughputMeter:
    """Training loss and speed since the last report, and the speed of the whole sitting."""

    def __init__(self, trainer: Trainer, clock: Budget, ids_per_char: float) -> None:
        self.trainer, self.clock, self.ids_per_char = trainer, clock, ids_per_char
        self.first_ids, self.training_s = trainer.ids_seen, 0.0
        self.resume()

    def resume(self) -> None:
        """Begin a new span; what a look took does not count as training."""
        self._since, self._since_ids = self.clock.elapsed_s(), self.trainer.ids_seen

    def seconds(self) -> float:
        return self.clock.elapsed_s() - self._since

    def report(self) -> Progress:
        trainer, ids = self.trainer, self.trainer.ids_seen - self._since_ids
        seconds = max(1e-9, self.seconds())
        loss = trainer.recent.take() * self.ids_per_char
        self.training_s += seconds
        self.clock.trained(ids, seconds)
        self.resume()
        progress = self.clock.progress(trainer.step)
        steps_per_s = ids / seconds * trainer.stream.windows_per_epoch / trainer.stream.ids_per_epoch
        return Progress(
            step=trainer.step,
            progress=progress,
            epoch=trainer.epoch,
            elapsed_s=self.clock.elapsed_s(),
            remaining_s=self.clock.remaining_s(trainer.step, steps_per_s),
            chars_per_s=ids / seconds / self.ids_per_char,
            loss_nats_per_char=loss,
            learning_rate=trainer.learning_rate,
        )

    def chars_per_s(self) -> float:
        return (self.trainer.ids_seen - self.first_ids) / max(1e-9, self.training_s) / self.ids_per_char
