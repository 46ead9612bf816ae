"""Compare cells at equal parameters and equal time: `chargen bench cells`.

The cells are trained one after the other, each in a process of its own, so that the peak memory is that of the cell
alone, and none of them finds caches that another one has filled:

    hidden size        the one with which the whole network has as many parameters as the others
    time               the training stops after the same time, which starts when the process has loaded torch
    network            one network without n-gram features: they would hide what the cell cannot remember
    everything else    as `chargen train` chooses it

    process of a cell  {text, cell, hidden size, …} on stdin ─▶ train ─▶ measure the gradient ─▶ result on stdout
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chargen.cells import CELLS
from chargen.cells.weights import count_parameters
from chargen.child import run_child
from chargen.config import DataConfig, ModelConfig
from chargen.errors import ChargenError, ConfigError, DivergenceError
from chargen.schema import format_count
from chargen.text.corpus import Corpus

EMBEDDING_DIM = 64  # of every network
MAX_HIDDEN_SIZE = 8192
MAX_LAG = 200  # tokens; a gradient that has not vanished at this lag has no horizon
GRADIENT_POSITIONS = 64  # positions in the text at which the gradient is measured
GRADIENT_CHARS = 100_000  # at the end of the text, where it is held out
EXTRA_S = 600.0  # how long a process may take beyond the budget


@dataclass(frozen=True)
class CellBenchmark:
    """What is compared.

    Attributes:
        cells: Names of the cells.
        budget_s: Training time of each, in seconds.
        num_parameters: Number of parameters of each network, as exactly as a hidden size allows.
        num_layers: Number of recurrent layers.
        seed: Random seed.
        device: "cpu", "cuda", "mps" or "auto".
    """

    cells: tuple[str, ...]
    budget_s: float = 60.0
    num_parameters: int = 250_000
    num_layers: int = 1
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class CellResult:
    """What was measured of a cell. The fields but `cell` and `error` are None if it could not be trained."""

    cell: str
    hidden_size: int | None = None
    parameters: int | None = None
    steps: int | None = None
    loss_nats_per_char: float | None = None  #: on the whole held-out text, with carried state
    chars_per_s: float | None = None  #: training speed
    peak_memory_bytes: int | None = None  #: peak memory of the whole process; None if the system does not measure it
    gradient_horizon: int | None = None  #: smallest lag at which the gradient is below 1 % of the largest one
    max_lag: int | None = None  #: largest lag that was measured; None for a cell without a hidden state
    curve: tuple[tuple[float, float], ...] = field(default=(), repr=False)  #: (seconds, training loss in nats per char)
    error: str = ""  #: why it could not be trained

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values = {key: value for key, value in asdict(self).items() if key not in ("curve", "error")}
        curve = [{"elapsed_s": elapsed_s, "loss_nats_per_char": loss} for elapsed_s, loss in self.curve]
        return {**values, "training_curve": curve, **({"error": self.error} if self.error else {})}


def equal_hidden_size(cell: str, vocab_size: int, num_layers: int, num_parameters: int) -> int:
    """Return the hidden size with which the parameters of a network are closest in number to a given one.

    Raises:
        ConfigError: If there is no such cell, or if its smallest network has more than 1.5 times as many parameters.
    """
    low, high = 1, MAX_HIDDEN_SIZE
    while low < high:  # the smallest size with at least as many parameters
        middle = (low + high) // 2
        if _count(cell, vocab_size, num_layers, middle) < num_parameters:
            low = middle + 1
        else:
            high = middle
    sizes = [size for size in (low - 1, low) if size]
    best = min(sizes, key=lambda size: abs(_count(cell, vocab_size, num_layers, size) - num_parameters))
    smallest = _count(cell, vocab_size, num_layers, best)
    if smallest > 1.5 * num_parameters:
        raise ConfigError(
            f"{format_count(num_parameters, 'parameter')} are too few: a {cell} with a single unit for {vocab_size:,} "
            f"characters has {smallest:,}",
            "Give more --parameters.",
        )
    return best


def _count(cell: str, vocab_size: int, num_layers: int, hidden_size: int) -> int:
    return count_parameters(
        ModelConfig(
            vocab_size=vocab_size,
            cell=cell,
            num_layers=num_layers,
            hidden_size=hidden_size,
            embedding_dim=EMBEDDING_DIM,
        )
    )


def benchmark_cells(benchmark: CellBenchmark, corpus: Corpus) -> Iterator[CellResult]:
    """Train each cell in a process of its own, and yield its result.

    Args:
        benchmark: What is compared.
        corpus: The text, of which the last tenth is held out.

    Raises:
        ConfigError: If there is no such cell, or the network would be too small.
        ChargenError: If the text is too short, or no cell can be trained for another reason.
    """
    text = corpus.text
    vocab_size = len(set(text)) + 2  # the boundary, and the unknown id
    sizes = [equal_hidden_size(cell, vocab_size, benchmark.num_layers, benchmark.num_parameters)
             for cell in benchmark.cells]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="chargen-bench-") as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(text.encode("utf-8"))
        for cell, hidden_size in zip(benchmark.cells, sizes, strict=True):
            yield _run_process(cell, hidden_size, benchmark, corpus.name, path)


def _run_process(cell: str, hidden_size: int, benchmark: CellBenchmark, name: str, path: Path) -> CellResult:
    """Train a cell in a process, and return its result."""
    settings = {
        "cell": cell, "hidden_size": hidden_size, "num_layers": benchmark.num_layers, "budget_s": benchmark.budget_s,
        "seed": benchmark.seed, "device": benchmark.device, "name": name, "path": str(path),
    }  # fmt: skip
    timeout_s = benchmark.budget_s * 1.5 + EXTRA_S
    try:
        done = run_child(f"{__name__}:measure_in_child", json.dumps(settings).encode(), timeout_s)
    except TimeoutError:
        return CellResult(cell, error=f"it was not done after {timeout_s:,.0f} s")
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:  # for example, the system has ended it because memory ran out
        reasons = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return CellResult(cell, error=f"its process ended with status {done.returncode}: {reasons[-1]}")
    values = json.loads(lines[-1])
    if "refused" in values:
        raise ChargenError(*values["refused"])
    return CellResult(**{**values, "curve": tuple(map(tuple, values.get("curve", ())))})


# ── in the process of a cell ──────────────────────────────────────────────────────────────────────────────────────────


def measure_in_child() -> None:
    """Read the settings of a cell from stdin, train it, and write the result to stdout, as one line of JSON."""
    settings = json.loads(sys.stdin.buffer.read())
    try:
        values = asdict(_measure(**settings))
    except DivergenceError as error:  # the other cells may not diverge
        values = {"cell": settings["cell"], "error": error.message}
    except ChargenError as error:
        values = {"refused": [error.message, error.hint]}
    sys.stdout.write(json.dumps(values) + "\n")


def _measure(
    *, cell: str, hidden_size: int, num_layers: int, budget_s: float, seed: int, device: str, name: str, path: str
) -> CellResult:
    from chargen.training.choices import ModelChoices, RunLength, TrainChoices
    from chargen.training.events import Finished, Progress
    from chargen.training.loop import TrainingLoop  # noqa: F401 - loads torch, before the clock starts
    from chargen.training.run import Plan, train

    text = Path(path).read_bytes().decode("utf-8")
    unchanged = DataConfig(newline="keep", normalize="none")  # the text is clean already
    corpus = Corpus.from_text(text, name, unchanged)
    model = ModelChoices(
        cell=cell, hidden_size=hidden_size, num_layers=num_layers, embedding_dim=EMBEDDING_DIM, ensemble_size=1,
        ngrams=0, tie_weights=False,
    )  # fmt: skip
    plan = Plan(
        corpus=corpus, name="run", length=RunLength(budget_s=budget_s), data=unchanged, model=model,
        train=TrainChoices(seed=seed), device=device, root=Path(path).parent / cell, keep_state="never",
        started=time.perf_counter(),
    )  # fmt: skip
    curve: list[tuple[float, float]] = []
    for report in train(plan):
        if isinstance(report, Progress) and math.isfinite(report.loss_nats_per_char):
            curve.append((round(report.elapsed_s, 2), round(report.loss_nats_per_char, 4)))
    assert isinstance(report, Finished), "the last report of a run without an error is Finished"
    memory = peak_memory_bytes()
    horizon, max_lag, parameters = _measure_gradient(report.model_path, text)
    return CellResult(
        cell=cell, hidden_size=hidden_size, parameters=parameters, steps=report.steps,
        loss_nats_per_char=report.val_loss_nats_per_char, chars_per_s=report.chars_per_s, peak_memory_bytes=memory,
        gradient_horizon=horizon, max_lag=max_lag, curve=tuple(curve),
    )  # fmt: skip


def _measure_gradient(model_path: str, text: str) -> tuple[int | None, int | None, int]:
    """Return the gradient horizon of a trained model, the largest lag that was measured, and its parameters."""
    from chargen.checkpoint import load_checkpoint
    from chargen.networks.network import Network
    from chargen.probe.gradients import carries_state, measure_gradients

    checkpoint = load_checkpoint(Path(model_path))
    parameters = count_parameters(checkpoint.config)
    ids = checkpoint.tokenizer.encode(text[-GRADIENT_CHARS:])
    max_lag = min(MAX_LAG, len(ids) // 2)
    if not carries_state(CELLS.get(checkpoint.config.cell)):
        return None, None, parameters
    network = Network(checkpoint.config)
    network.import_weights(checkpoint.weights)
    return measure_gradients(network, ids, max_lag, GRADIENT_POSITIONS).horizon, max_lag, parameters


def peak_memory_bytes() -> int | None:
    """Return the largest resident memory of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
