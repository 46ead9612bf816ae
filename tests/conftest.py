"""Fixtures and helpers: a small text, models with random weights, running a command line or a training."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from chargen.cells.ngram_features import NO_WORD
from chargen.cells.ngram_index import build_index
from chargen.cells.weights import FIXED_DTYPES, NGRAM_INDEX, NGRAM_WORDS, parameter_shapes
from chargen.checkpoint import Checkpoint
from chargen.config import DataConfig, ModelConfig
from chargen.folders import cache_folder
from chargen.text.corpus import Corpus
from chargen.text.long_text import LongText
from chargen.tokenizers.tokenizer import Tokenizer, build_tokenizer
from chargen.training.events import Finished, Report
from chargen.training.run import Plan, train
from tests.programs import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401, hooks of pytest

# Compiled code is kept between the tests; encoded texts are not (see `own_cache`).
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "numba"))

VERSE = (
    "Trăm năm trong cõi người ta,\n"
    "Chữ tài chữ mệnh khéo là ghét nhau.\n"
    "The quick brown fox jumps over the lazy dog; 0123456789.\n"
)
NUM_RANDOM_IDS = 2000  #: token ids from which the index of random weights is built


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let each test and its child processes use a cache folder of their own, which is created when it is needed."""
    with pytest.MonkeyPatch.context() as patch:
        name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
        patch.setenv("CHARGEN_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{name}"))
        yield


@pytest.fixture
def verse() -> str:
    """Return lines in two scripts, long enough for training."""
    return VERSE * 20


def random_weights(config: ModelConfig, seed: int = 0, scale: float | None = None) -> dict[str, np.ndarray]:
    """Return normally distributed weights for a network; smaller ones if nothing bounds the state of its cell.

    An index has rows for the frequent n-grams of random token ids.
    """
    scale = scale or (0.2 if "rnn-relu" in config.cell_names else 0.5)
    rng = np.random.default_rng(seed)
    shapes = {name: shape for name, shape in parameter_shapes(config).items() if name not in FIXED_DTYPES}
    weights = {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}
    if not config.ngram_index:
        return weights
    kinds = rng.integers(0, 3, config.vocab_size, dtype=np.uint8)
    kinds[0] = NO_WORD
    index = build_index(config, rng.integers(0, config.vocab_size, NUM_RANDOM_IDS), kinds)
    return {**weights, NGRAM_INDEX: index, NGRAM_WORDS: kinds}


def random_model(
    text: str = VERSE, tokenizer: str = "char", seed: int = 0, documents: str = "none", **shape: Any
) -> Checkpoint:
    """Return a model with random weights, and a tokenizer built from `text`."""
    built: Tokenizer = build_tokenizer(tokenizer, text)
    sizes = {"hidden_size": 12, "embedding_dim": 8, **shape}
    config = ModelConfig(vocab_size=built.vocab_size, **sizes)
    return Checkpoint(config, built, random_weights(config, seed), {"data": DataConfig(documents=documents).to_json()})


@dataclass
class Result:
    """The exit status and the output of a command line."""

    status: int
    out: str
    err: str


@pytest.fixture
def chargen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Return a function that runs a command line in this process, in an empty folder."""
    from chargen.cli.main import run

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        status = run(list(arguments))
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


class WindowsNumPy:
    """NumPy as it is before 2.0 on Windows: an array of whole numbers is int32 if no other type is stated."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if name not in ("arange", "array", "full"):
            return function

        def make(*args: Any, **kwargs: Any) -> np.ndarray:
            array: np.ndarray = function(*args, **kwargs)
            return array.astype(np.int32) if array.dtype == np.int64 and "dtype" not in kwargs else array

        return make


@pytest.fixture
def use_windows_numpy(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], None]:
    """Return a function that lets a module use `WindowsNumPy`."""
    return lambda module: monkeypatch.setattr(module, "np", WindowsNumPy())


def run_plan(plan: Plan, stop: Callable[[], bool] = lambda: False) -> tuple[list[Report], Finished]:
    """Run a training and return its reports and the last one."""
    reports = list(train(plan, stop))
    finished = reports[-1]
    assert isinstance(finished, Finished)
    return reports, finished


def wait_for_file(path: str, process: subprocess.Popen[Any]) -> None:
    """Wait until a process has made a file; fail if the process ends before that."""
    while not Path(path).exists():
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)


def corpus_of(text: str, **more: Any) -> Corpus:
    """Return a corpus with this text."""
    return Corpus(LongText.from_string(text), "verse", ("verse.txt",), 1, **more)
