"""One piece of work at a time on another thread, so that a step need not wait for the disk.

What a run puts on disk: the best model, the training state, and a line for each report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from chargen import __version__
from chargen.cells.weights import find_invalid_weight
from chargen.checkpoint import Checkpoint, Tensors, save_checkpoint, save_tensors
from chargen.config import ModelConfig, TrainConfig
from chargen.data.dataset import Dataset
from chargen.errors import DivergenceError, ModelError, StorageError
from chargen.io import encode_file_name, make_storage_error, to_json_line
from chargen.run_writer import RunWriter
from chargen.runs import Run
from chargen.text.corpus import Corpus
from chargen.training.budget import Budget
from chargen.training.events import Finished, Report
from chargen.training.state import State

if TYPE_CHECKING:
    from chargen.training.trainer import Trainer


class Background:
    """A thread that does what it is given; what goes wrong there is raised at the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="chargen-writer")
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, once the one before has ended."""
        self.wait()
        self._work = self._pool.submit(work)

    def wait(self) -> None:
        """Return when nothing is left to do; raise what the work raised."""
        work, self._work = self._work, None
        if work is not None:
            work.result()


WITHOUT_TIMES = ("elapsed_s", "chars_per_s", "interrupted", "run", "model_path")


class RunSaver:
    """Keeps the best weights, in memory and on disk.

    What it writes into a model file holds no times and no places: the same seed and steps give the same bytes.
    """

    def __init__(self, place: RunWriter, data: Dataset, model: ModelConfig, train: TrainConfig) -> None:
        self._place, self.data, self.model, self.train = place, data, model, train
        self.best_loss = math.inf
        self.best_step = 0
        self.best_weights: Tensors = {}
        self.writer = Background()

    @property
    def run(self) -> Run:
        """Where the run is now; it moves with its first model if it replaces another run."""
        return self._place.run

    @property
    def is_replacing(self) -> bool:
        """Whether the run that this one replaces is still in its place."""
        return self._place.is_replacing

    def offer(self, loss: float, step: int, weights: Tensors) -> bool:
        """Keep these weights, in memory and as the model file, if their loss is the lowest so far; say whether it is.

        Raises:
            DivergenceError: a weight is too large for a model file.
            StorageError: the model file cannot be written.
        """
        if not loss < self.best_loss:
            return False
        self._check_weights(weights, step)
        self.best_loss, self.best_step, self.best_weights = loss, step, weights
        self.write_best()
        if self.is_replacing:
            self.writer.wait()  # for the training state, which is being written to the folder that is renamed
            self._place.commit()
        return True

    def write_best(self, result: Finished | None = None) -> None:
        """Write the best weights as the model file, with a run's numbers beside them once it has them."""
        numbers = {} if result is None else {k: v for k, v in result.to_json().items() if k not in WITHOUT_TIMES}
        self._check_folder()
        save_checkpoint(
            self.run.model_path, self.checkpoint(self.best_weights, {"step": self.best_step, "result": numbers})
        )

    def checkpoint(self, weights: Tensors, more: Mapping[str, Any]) -> Checkpoint:
        """Return weights as a model, with where they come from."""
        about = {
            "chargen": __version__,
            "corpus": self.data.corpus.name,
            "corpus_sha256": self.data.corpus.sha256,
            "train_chars": self.data.train.num_chars,
            "choice_loss_nats_per_char": self.best_loss,
            "data": self.data.config.to_json(),
            "train": self.train.to_json(),
            **more,
        }
        return Checkpoint(self.model, self.data.tokenizer, weights, about)

    def save_state(self, trainer: Trainer, clock: Budget, history: list[dict[str, float]]) -> None:
        """Write all that a resumed run needs, on another thread; `writer.wait()` returns when it is on disk.

        Raises:
            DivergenceError: a weight is too large for a file that can be read again.
            StorageError: the one before could not be written; the last that could be is as it was.
        """
        best = {f"best.{name}": weight for name, weight in self.best_weights.items()}
        tensors = {**trainer.tensors(), **best}  # copies: the next step changes none of them
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self._check_weights(weights, trainer.step)
        val = self.data.val_corpus
        described = {
            "corpus_sha256": self.data.corpus.sha256,
            "corpus_arguments": [encode_file_name(name) for name in self.data.corpus.arguments],
            "corpus_files": _files(self.data.corpus),
            "val_argument": encode_file_name(val.arguments[0]) if val else None,
            "val_files": _files(val) if val else None,
            "val_sha256": val.sha256 if val else None,
            "tokenizer": self.data.tokenizer.to_json(),
            "data": self.data.config.to_json(),
            "model": self.model.to_json(),
            "train": self.train.to_json(),
            "trainer": trainer.numbers(),
            "best": [self.best_loss if self.best_weights else None, self.best_step],
            "elapsed_s": clock.elapsed_s(),
            "first_step_s": clock.first_step_s,
            "history": list(history),
        }
        self._check_folder()
        path = self.run.state_path
        self.writer.start(lambda: save_tensors(path, tensors, described))

    def restore(self, saved: State) -> None:
        """Put back the best of a saved state.

        Raises:
            ModelError: the corpus is another one than the state was trained on.
        """
        if not self.data.corpus.has_sha256(saved.corpus_sha256):
            raise ModelError(
                f"the run {self.run.name!r} was trained on another text than this one",
                "Resume it with the text it began with, read in the same way; to go on from its model with another, "
                f"start a new run: --init-from {self.run.name}.",
            )
        self._drop_torn_line()
        self.best_loss, self.best_step = saved.best_loss, saved.best_step
        best = {name.removeprefix("best."): t for name, t in saved.tensors.items() if name.startswith("best.")}
        self.best_weights = best

    def _check_weights(self, weights: Tensors, step: int) -> None:
        found = find_invalid_weight(weights.items())
        if found:
            kept = f"The best model before that is {self.run.model_path}. " if self.best_weights else ""
            raise DivergenceError(f"{found} (step {step:,})", f"{kept}Lower the rate (--lr) or clip harder (--clip).")

    def log(self, report: Report) -> None:
        """Add a line to the run's metrics.

        Raises:
            StorageError: the file cannot be written.
        """
        self._check_folder()
        try:
            with open(self.run.metrics_path, "a", encoding="utf-8") as file:
                file.write(to_json_line(report.to_json()) + "\n")
        except OSError as error:
            raise make_storage_error(self.run.metrics_path, error) from error

    def _drop_torn_line(self) -> None:
        """Cut off the last line of the metrics if a kill in the middle of writing it has left it without its end."""
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
                "Begin again, and leave the folder in its place while the run is training.",
            )


def _files(corpus: Corpus) -> list[tuple[str, int | None]]:
    """Return what a corpus was read from, so that it is found again: names, and sizes of files in bytes."""
    return [(encode_file_name(name), size) for name, size in corpus.parts]
