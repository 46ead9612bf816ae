"""The models of a server: each one is opened once, and keeps its weights in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError, CorpusError
from chargen.lm import LanguageModel, Notify
from chargen.registry import did_you_mean
from chargen.runs import MODEL_FILE
from chargen.sampling.prefix_cache import model_fingerprint
from chargen.schema import format_value
from chargen.server.batch.jobs import StoppableEngine
from chargen.server.batch.log_probs import TokenLogProbs
from chargen.server.batch.worker import BatchWorker
from chargen.server.errors import ApiError
from chargen.server.limits import Limits
from chargen.server.tokens import ServedTokenizer

if TYPE_CHECKING:
    from chargen.sampling.copy_filter import CopyFilter, CopyIndex

MAX_COPY_INDEXES = 4  # indexes of the training text that are kept, one per value of max_copy
CHECK_INTERVAL_S = 2.0  # how often the file of a model is compared with the one that was opened


class ServedModel:
    """A model with the thread that runs it.

    Args:
        lm: The model, opened from a file.
        limits: The limits of the server.

    Raises:
        ConfigError: If the protocol cannot express what the model generates.
    """

    def __init__(self, lm: LanguageModel, limits: Limits) -> None:
        path = lm.path or Path(MODEL_FILE)
        self.id = path.absolute().parent.name if path.name == MODEL_FILE else path.stem
        check_servable(lm, self.id)
        self.lm, self.checkpoint = lm, lm.checkpoint
        self.tokenizer = ServedTokenizer(lm.checkpoint)
        self.engine = NumpyEngine(lm.checkpoint.config, lm.checkpoint.weights)
        log_probs = TokenLogProbs(lm.tokenizer.unknown_id, self.tokenizer.unknown_nats())
        self.worker = BatchWorker(self.engine, log_probs, limits.max_waiting)
        self.created = int(time.time())
        self._path, self._opened = path, _file_status(path)
        self._copy_indexes: dict[int, CopyIndex] = {}
        self._lock = Lock()
        self._next_check, self._is_replaced = 0.0, False

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the weights, which says whether two answers come from the same model."""
        return f"fp_{model_fingerprint(self.checkpoint)[:12]}"

    @cached_property
    def job_engine(self) -> StoppableEngine:
        """The engine of the thread that runs jobs."""
        return StoppableEngine(self.checkpoint.config, self.checkpoint.weights)

    @property
    def is_replaced(self) -> bool:
        """Whether the file of the model has changed since it was opened; the server keeps the model that it opened."""
        now = time.monotonic()
        if not self._is_replaced and now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL_S
            self._is_replaced = _file_status(self._path) != self._opened
        return self._is_replaced

    @property
    def is_deleted(self) -> bool:
        """Whether the file of the model cannot be found any more."""
        return _file_status(self._path) is None

    def to_json(self) -> dict[str, Any]:
        """Return the model as OpenAI's protocol describes one."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": "chargen"}

    def copy_filter(self, max_copy: int, notify: Notify | None) -> CopyFilter:
        """Return the processor that forbids copies of the training text.

        Raises:
            ApiError: If the training text cannot be found; the message does not say where it was searched.
            ConfigError: If `max_copy` is too large.
        """
        from chargen.sampling.copy_filter import CopyFilter, load_copy_index  # imports the readers of corpora

        with self._lock:
            if max_copy not in self._copy_indexes:
                try:
                    index = load_copy_index(self.checkpoint, max_copy, (), self.lm.path, notify)
                except CorpusError as error:
                    raise ApiError(
                        422, "max_copy needs the training text of the model, which this server cannot find", "max_copy"
                    ) from error
                while len(self._copy_indexes) >= MAX_COPY_INDEXES:
                    del self._copy_indexes[next(iter(self._copy_indexes))]
                self._copy_indexes[max_copy] = index
            return CopyFilter(self._copy_indexes[max_copy])


def check_servable(lm: LanguageModel, name: str) -> None:
    """Check that a model continues texts.

    Raises:
        ConfigError: If it writes texts backward, or is of a series of numbers.
    """
    if lm.checkpoint.data.is_backward:
        raise ConfigError(
            f"{name} is a backward model, which writes the text before a prompt; the server continues prompts",
            f"Use chargen sample -m {name} --prompt TEXT, or serve a forward model.",
        )
    if lm.tokenizer.quantizer:
        raise ConfigError(
            f"{name} is a model of {lm.tokenizer.quantizer.describe()}; the server writes texts",
            f"Use chargen sample -m {name} --output FILE.wav, or serve a model of texts.",
        )


class ServedModels:
    """All models of a server, by their ids.

    Args:
        models: At least one model; the first is used where a request names none.

    Raises:
        ConfigError: If two models have the same id.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._by_id: dict[str, ServedModel] = {}
        for model in models:
            if model.id in self._by_id:
                raise ConfigError(f"two models have the name {model.id}", "Give each model once, or rename a folder.")
            self._by_id[model.id] = model

    def __iter__(self) -> Any:
        return iter(self._by_id.values())

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all models, in the order of the command line."""
        return tuple(self._by_id)

    def find(self, name: str | None) -> ServedModel:
        """Return the model of an id; the first one for None.

        Raises:
            ApiError: If there is no such model.
        """
        if name is None:
            return next(iter(self._by_id.values()))
        if name not in self._by_id:
            shown = name if name and len(name) <= 100 and name.isprintable() else format_value(name)
            hint = did_you_mean(name[:100], self._by_id) or f"Models: {', '.join(self._by_id)}."
            raise ApiError(404, f"there is no model {shown}. {hint}", "model", "model_not_found")
        return self._by_id[name]


def open_models(names: Sequence[str], limits: Limits, notify: Notify | None = None) -> ServedModels:
    """Open models by their names or paths; the newest one without any.

    Raises:
        ChargenError: If a model cannot be opened or served, or two have the same name.
    """
    from chargen.api import load

    return ServedModels(ServedModel(load(name, "cpu", notify), limits) for name in names or (None,))


def _file_status(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced or written; None if it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
