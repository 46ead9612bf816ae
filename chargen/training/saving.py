"""Write the files of a training run: the best model, the training state, and the metrics.

The training state is written by a background thread, so that a training step does not wait for the disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from chargen import __version__
from chargen.cells.weights import find_invalid_weight
from chargen.checkpoint import Checkpoint, format_version, save_checkpoint, save_tensors
from chargen.config import ModelConfig, TrainConfig
from chargen.data.dataset import Dataset
from chargen.errors import DivergenceError, ModelError, StorageError
from chargen.io import encode_file_name, make_storage_error, to_json_line
from chargen.run_writer import RunWriter
from chargen.runs import Run
from chargen.storage.stored_weights import Tensors
from chargen.text.corpus import Corpus
from chargen.training.budget import Budget
from chargen.training.events import Finished, Report
from chargen.training.ranks.job import JOB
from chargen.training.state import TrainingState

if TYPE_CHECKING:
    from chargen.training.trainer import Trainer


class BackgroundWriter:
    """Runs one task at a time in a background thread. An error in a task is raised by the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="chargen-writer")
        self._pending: Future[None] | None = None

    def start(self, task: Callable[[], None]) -> None:
        """Start a task after the previous one has ended."""
        self.wait()
        self._pending = self._pool.submit(task)

    def wait(self) -> None:
        """Wait until the task has ended, and raise its error if it failed."""
        pending = self._pending
        self._pending = None
        if pending is not None:
            pending.result()


KEEP_STATE = ("always", "until-done", "never")  #: how long the training state stays on disk; until-done: of the run

#: fields of `Finished` that differ between two runs with the same seed and steps
VARYING_FIELDS = ("elapsed_s", "chars_per_s", "interrupted", "run", "model_path", "first_step")


class RunSaver:
    """Writes the files of a run and keeps the best weights.

    The model file contains no times and no paths, so the same seed and steps give the same bytes.

    Args:
        run_writer: The folder of the run, locked for writing.
        data: The training and validation data.
        model: The shape of the network.
        train: The training settings.
        keep_state: How long the training state stays on disk, one of `KEEP_STATE`.
        job: The name of the job that trains on several processes (`ranks/job.py`); "" for a single process.
    """

    def __init__(
        self,
        run_writer: RunWriter,
        data: Dataset,
        model: ModelConfig,
        train: TrainConfig,
        keep_state: str = "always",
        job: str = "",
    ) -> None:
        self._run_writer = run_writer
        self.data = data
        self.model = model
        self.train = train
        self.keep_state = keep_state
        self.job = job
        self.best_loss = math.inf  #: validation loss in nats per character
        self.best_step = 0
        self.best_weights: Tensors = {}  #: empty before the first validation
        self.background = BackgroundWriter()

    @property
    def run(self) -> Run:
        """The files of the run. If it replaces another run, they move to that run's folder with the first model."""
        return self._run_writer.run

    @property
    def is_replacing(self) -> bool:
        """Whether this run will replace another one, which still exists."""
        return self._run_writer.is_replacing

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the run has trained until a save of its state was due. It is then kept without a model, too."""
        return self._run_writer.is_worth_keeping

    def save_if_best(self, loss: float, step: int, weights: Tensors) -> bool:
        """Keep these weights and write the model file if their loss is the lowest so far.

        Args:
            loss: Validation loss in nats per character.
            step: Number of training steps so far.
            weights: The current weights.

        Returns:
            Whether the loss is the lowest so far.

        Raises:
            DivergenceError: If a weight is too large for a model file.
            StorageError: If the model file cannot be written.
        """
        if not loss < self.best_loss:
            return False
        self._check_weights(weights, step)
        self.best_loss = loss
        self.best_step = step
        self.best_weights = weights
        self.write_best()
        if self.is_replacing:
            self.background.wait()  # the training state is written to the folder that is renamed
            self._run_writer.commit()
        return True

    def write_best(self, result: Finished | None = None) -> None:
        """Write the model file with the best weights.

        Args:
            result: The numbers at the end of the run, which are added to the file; None during the run.

        Raises:
            StorageError: If the file cannot be written.
        """
        numbers = {} if result is None else {k: v for k, v in result.to_json().items() if k not in VARYING_FIELDS}
        self._check_folder()
        save_checkpoint(
            self.run.model_path, self.checkpoint(self.best_weights, {"step": self.best_step, "result": numbers})
        )

    def checkpoint(self, weights: Tensors, more: Mapping[str, Any]) -> Checkpoint:
        """Return a model with these weights and a description of its training, to which `more` is added."""
        about = {
            "chargen": __version__,
            "corpus": self.data.corpus.name,
            "corpus_sha256": self.data.corpus.sha256,
            "train_chars": self.data.train.num_chars,
            "choice_loss_nats_per_char": self.best_loss,
            "uniform_loss_nats_per_char": math.log(self.model.vocab_size) * self.data.ids_per_char,
            "data": self.data.config.to_json(),
            "train": self.train.to_json(),
            **more,
        }
        return Checkpoint(self.model, self.data.tokenizer, weights, about, self.train.weight_storage)

    def save_state(self, trainer: Trainer, budget: Budget, history: list[dict[str, float]]) -> None:
        """Write everything that a resumed run needs, in the background. `background.wait()` waits for it.

        With `keep_state` "never" nothing is written.

        Raises:
            DivergenceError: If a weight is too large for a file that can be read again.
            StorageError: If the previous state could not be written. The last complete file on disk is unchanged.
        """
        self._run_writer.is_worth_keeping |= trainer.step > 0
        if self.keep_state == "never":
            return
        best = {f"best.{name}": weight for name, weight in self.best_weights.items()}
        tensors = {**trainer.tensors(), **best}  # copies, which the next step does not change
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self._check_weights(weights, trainer.step)
        val = self.data.val_corpus
        described = {
            "corpus_sha256": self.data.corpus.sha256,
            "corpus_arguments": [encode_file_name(name) for name in self.data.corpus.arguments],
            "corpus_files": _recorded_files(self.data.corpus),
            "val_argument": encode_file_name(val.arguments[0]) if val and val.arguments else None,
            "val_files": _recorded_files(val) if val else None,
            "val_sha256": val.sha256 if val else None,
            "tokenizer": self.data.tokenizer.to_json(),
            "data": self.data.config.to_json(),
            "model": self.model.to_json(),
            "train": self.train.to_json(),
            "trainer": trainer.counters(),
            "best": [self.best_loss if self.best_weights else None, self.best_step],
            "total_steps": budget.total_steps,
            "elapsed_s": budget.elapsed_s(),
            "first_step_s": budget.first_step_s,
            "history": list(history),
            "keep_state": self.keep_state,
        }
        if self.job:
            described[JOB] = self.job
        self._check_folder()
        path = self.run.state_path
        self.background.start(lambda: save_tensors(path, tensors, described, format_version(self.model)))

    def remove_state(self, is_done: bool) -> None:
        """Remove the training state if it is no longer to be kept.

        Args:
            is_done: Whether the run has made its last step, so that it cannot be continued within its length.

        Raises:
            StorageError: If the file cannot be removed.
        """
        if self.keep_state == "never" or (is_done and self.keep_state == "until-done"):
            try:
                self.run.state_path.unlink(missing_ok=True)
            except OSError as error:
                raise make_storage_error(self.run.state_path, error) from error

    def restore(self, saved: TrainingState) -> None:
        """Restore the best weights of a training state.

        Raises:
            ModelError: If the state was trained on another corpus.
        """
        if not self.data.corpus.has_sha256(saved.corpus_sha256):
            raise ModelError(
                f"the run {self.run.name!r} was trained on another text than this one",
                "Resume it with its own text and the same data settings. To train its model on another text, start a "
                f"new run: --init-from {self.run.name}.",
            )
        self._drop_incomplete_line()
        self._run_writer.is_worth_keeping = saved.trainer["step"] > 0
        self.best_loss = saved.best_loss
        self.best_step = saved.best_step
        self.best_weights = {
            name.removeprefix("best."): t for name, t in saved.tensors.items() if name.startswith("best.")
        }

    def _check_weights(self, weights: Tensors, step: int) -> None:
        problem = find_invalid_weight(weights.items())
        if problem:
            saved = f"The best model before that is {self.run.model_path}. " if self.best_weights else ""
            raise DivergenceError(
                f"{problem} (step {step:,})",
                f"{saved}Use a lower learning rate (--lr) or a lower gradient clipping norm (--clip).",
            )

    def log(self, report: Report) -> None:
        """Append a report to the metrics file of the run.

        Raises:
            StorageError: If the file cannot be written.
        """
        self._check_folder()
        try:
            with open(self.run.metrics_path, "a", encoding="utf-8") as file:
                file.write(to_json_line(report.to_json()) + "\n")
        except OSError as error:
            raise make_storage_error(self.run.metrics_path, error) from error

    def _drop_incomplete_line(self) -> None:
        """Remove the last line of the metrics if it is incomplete because the process was killed while writing it."""
        if not self.run.metrics_path.exists():
            return
        try:
            with open(self.run.metrics_path, "r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        except OSError as error:
            raise make_storage_error(self.run.metrics_path, error) from error

    def _check_folder(self) -> None:
        if not self.run.folder.is_dir():
            raise StorageError(
                f"the run's folder {self.run.folder} was deleted or renamed during training",
                "Start the run again, and do not move its folder while it is training.",
            )


def _recorded_files(corpus: Corpus) -> list[tuple[str, int | None]]:
    """Return the name and size in bytes of everything that a corpus was read from; a resumed run reads it again."""
    return [(encode_file_name(name), size) for name, size in corpus.parts]
