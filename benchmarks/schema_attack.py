"""Open malformed files with correct checksums: random changes to a model header, a training state and a classifier.

    python -m benchmarks.survival --kills 0 --mutations 0 --schema 10000

A checksum detects damage, but not malice: a person who writes a file can also write its checksum. Here, a random node
of the JSON is replaced by another type, an extreme value or something nested, or it is removed or doubled; or a tensor
is renamed, reshaped, or given another type or extreme numbers. Then the file is written with the matching checksum.
Opening it must end in a `ModelError`, or give the same result as the original file, or, if a setting has another valid
value, something else that works.
"""

from __future__ import annotations

import json
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from chargen.checkpoint import FORMAT, PLAIN_VERSION, _checksum
from chargen.errors import DivergenceError, ModelError
from chargen.storage.stored_weights import Tensors

RAW = "@@RAW@@"  #: placeholder for text that `json.dumps` cannot write
RAW_VALUES = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 200_000, "[" * 50 + "]" * 50, "9" * 5000, "1" * 400, "01")
EXTREMES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 255, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**9, 10**30, -(10**30), 0.5, -0.5,
    1e-308, 5e-324, 1e308, -1e308, 1e6, "", "x", "0", "char", "\ud800", "a\udfffb", "x" * 100_000, "../..", "/dev/zero",
    "\0", "\x1b[2J", "-", [], {}, [[]], [None], {"a": 1}, [0] * 1000, ["x"] * 1000, {"x": {"x": {"x": {}}}},
)  # fmt: skip
SAME, OTHER, REFUSED, DIVERGED = "the same", "another valid value", "refused", "diverged"
MAX_SECONDS = 2.0  #: opening a file that takes longer is a failure
MAX_EXTRA_BYTES = 1 << 25  #: taking more memory than this plus eight times the size of the file is a failure


@dataclass
class Outcome:
    """The outcomes for many malformed files of the same kind."""

    counts: Counter[str] = field(default_factory=Counter)  #: number of files for each allowed outcome
    failures: list[str] = field(default_factory=list)  #: a description of each outcome that is not allowed
    longest_s: float = 0.0  #: time of the slowest file
    max_extra_bytes: int = 0  #: memory that Python and NumPy allocated beyond eight times the size of the file

    def __str__(self) -> str:
        counts = ", ".join(f"{self.counts[name]:,} {name}" for name in (REFUSED, SAME, OTHER, DIVERGED))
        return (
            f"{counts}, {len(self.failures):,} failures; longest {self.longest_s:.3f} s, "
            f"maximum memory {max(0, self.max_extra_bytes) / 2**20:.1f} MiB"
        )


def attack(count: int, write: Callable[[], str], size: Callable[[], int], use: Callable[[], str]) -> Outcome:
    """Write a malformed file and open it, `count` times.

    Args:
        count: Number of files.
        write: Writes the file and returns a description of the change.
        size: Returns the size of the file in bytes.
        use: Opens the file and returns SAME, OTHER or DIVERGED.
    """
    outcome = Outcome()
    for _ in range(count):
        change = write()
        tracemalloc.start()
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # also those of NumPy: an overflow is a failure
                outcome.counts[use()] += 1
        except ModelError as error:
            outcome.counts[REFUSED] += 1
            if len(str(error)) > 1000 or not str(error).isprintable() and "\x1b" in str(error):
                outcome.failures.append(f"{change}: an error message of {len(str(error)):,} characters")
        except DivergenceError:
            outcome.counts[DIVERGED] += 1
        except BaseException as error:  # any other exception is a failure
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome.failures.append(f"{change}: {type(error).__name__}: {str(error)[:200]}")
        elapsed_s = time.perf_counter() - begin
        extra_bytes = tracemalloc.get_traced_memory()[1] - 8 * size()
        tracemalloc.stop()
        outcome.longest_s = max(outcome.longest_s, elapsed_s)
        outcome.max_extra_bytes = max(outcome.max_extra_bytes, extra_bytes)
        if elapsed_s > MAX_SECONDS:
            outcome.failures.append(f"{change}: {elapsed_s:.1f} s")
        if extra_bytes > MAX_EXTRA_BYTES:
            outcome.failures.append(f"{change}: {extra_bytes / 2**20:.0f} MiB")
    return outcome


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def change_json(value: Any, rng: np.random.Generator) -> tuple[str, str]:
    """Make one to three random changes to a JSON value.

    Returns:
        (text of the changed value, description of the changes).
    """
    value = json.loads(json.dumps(value))
    raws = []
    changes = []
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 1):
        path = _random_path(value, rng)
        if not path:
            continue
        parent = _at(value, path[:-1])
        kind = int(rng.integers(8))
        changes.append(f"{'.'.join(map(str, path))} ({kind})")
        old = parent[path[-1]]
        if kind <= 2:
            parent[path[-1]] = deepcopy(EXTREMES[int(rng.integers(len(EXTREMES)))])
        elif kind == 3:
            parent[path[-1]] = RAW
            raws.append(RAW_VALUES[int(rng.integers(len(RAW_VALUES)))])
        elif kind == 4:
            del parent[path[-1]]
        elif kind == 5:
            parent[path[-1]] = [old] if rng.random() < 0.5 else {str(path[-1]): old}
        elif kind == 6:
            parent[path[-1]] = deepcopy(_at(value, _random_path(value, rng)))
        elif isinstance(parent, list):
            parent.insert(path[-1], deepcopy(old))
        else:  # the same key twice
            extreme = json.dumps(EXTREMES[int(rng.integers(len(EXTREMES)))])
            parent[path[-1]] = RAW
            raws.append(f"{json.dumps(old)}, {json.dumps(path[-1])}: {extreme}")
    text = json.dumps(value)
    for raw in raws:
        text = text.replace(f'"{RAW}"', raw, 1)
    return text, ", ".join(changes)


def _random_path(value: Any, rng: np.random.Generator) -> list[Any]:
    paths: list[list[Any]] = []

    def walk(item: Any, path: list[Any]) -> None:
        entries = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for key, below in entries:
            paths.append([*path, key])
            walk(below, [*path, key])

    walk(value, [])
    return paths[int(rng.integers(len(paths)))] if paths else []


def _at(value: Any, path: list[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def change_tensors(tensors: Tensors, rng: np.random.Generator) -> tuple[Tensors, str]:
    """Change one random tensor.

    Returns:
        (all tensors, description of the change).
    """
    changed = dict(tensors)
    names = sorted(tensors)
    name = names[int(rng.integers(len(names)))]
    tensor = changed[name].copy()
    kind = int(rng.integers(6))
    if kind == 0:
        changed[f"{name}{'x' * int(rng.integers(1, 3))}"] = changed.pop(name)
    elif kind == 1:
        del changed[name]
    elif kind == 2:
        changed[f"layers.{10 ** int(rng.integers(1, 30))}.weight_hh"] = tensor
    elif kind == 3:
        shapes = [tensor[None], tensor.reshape(-1)[:-1], tensor[:0], np.repeat(tensor, 2, 0), tensor.reshape(-1, 1)]
        changed[name] = shapes[int(rng.integers(len(shapes)))]
        if changed[name].shape == tensor.shape:
            del changed[name]
    elif kind == 4:
        types = [np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_, np.uint64]
        wanted = types[int(rng.integers(len(types)))]
        with np.errstate(invalid="ignore", over="ignore"):  # the masked bias of -1e30 does not fit into an integer
            changed[name] = tensor.astype(wanted) if tensor.dtype != wanted else tensor.astype(np.float32)
    else:
        integers = [-128 if tensor.dtype == np.int8 else 255, 0, 127]
        extremes = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e7, -1e30] if tensor.dtype.kind == "f" else integers
        value = extremes[int(rng.integers(len(extremes)))]
        position = slice(None) if rng.random() < 0.5 or not tensor.size else int(rng.integers(tensor.size))
        with np.errstate(over="ignore"):  # float16 has no 1e7, which becomes infinity
            tensor.reshape(-1)[position] = value
        changed[name] = tensor
    return changed, f"tensor {name} ({kind})"


def write_tensors(path: Path, tensors: Tensors, text: str, format_version: int = PLAIN_VERSION) -> None:
    """Write tensors and a JSON text with the matching checksum; with zeros if the text is not valid JSON."""
    try:
        sha256 = _checksum(json.loads(text), tensors)
    except (ValueError, RecursionError, TypeError):
        sha256 = "0" * 64
    header = f'{{"format_version": {format_version}, "sha256": "{sha256}", "model": {text}}}'
    path.write_bytes(save({k: np.ascontiguousarray(t) for k, t in tensors.items()}, metadata={FORMAT: header}))


def change_file(
    path: Path, tensors: Tensors, described: Any, rng: np.random.Generator, format_version: int = PLAIN_VERSION
) -> str:
    """Write a file as `save_tensors` does, with a change to its JSON (3 in 4) or to a tensor; return a description."""
    if rng.random() < 0.75:
        text, change = change_json(described, rng)
        write_tensors(path, tensors, text, format_version)
    else:
        other, change = change_tensors(tensors, rng)
        write_tensors(path, other, json.dumps(described), format_version)
    return change


# ── attacks on the kinds of files ────────────────────────────────────────────────────────────────────────────────────


def attack_models(count: int, rng: np.random.Generator, original: Path) -> Outcome:
    """Open `count` changed copies of a model file of version 3. A model that is accepted must score and sample."""
    from chargen.checkpoint import STORAGE_VERSION, load_checkpoint, load_tensors
    from chargen.lm import LanguageModel

    tensors, described = load_tensors(original)
    path = original.with_name("changed.safetensors")

    def score_and_sample(file: Path) -> tuple[float, str]:
        model = LanguageModel(load_checkpoint(file), path=file)
        return model.score("Trăm năm").log_prob_nats, model.sample(length=20, seed=1)

    expected = score_and_sample(original)

    def use() -> str:
        actual = score_and_sample(path)
        if not np.isfinite(actual[0]):
            raise ArithmeticError(f"the log probability is {actual[0]}")
        return SAME if actual == expected else OTHER

    def change() -> str:
        return change_file(path, tensors, described, rng, STORAGE_VERSION)

    return attack(count, change, lambda: path.stat().st_size, use)


def attack_states(count: int, rng: np.random.Generator, original: Path, text: str) -> Outcome:
    """Open `count` changed copies of a training state. From an accepted one, a training step must be possible."""
    from chargen.checkpoint import load_tensors
    from chargen.data.dataset import prepare_dataset
    from chargen.networks.torch_runtime import ThreadTuner
    from chargen.run_lock import RunLock
    from chargen.run_writer import RunWriter
    from chargen.runs import Run
    from chargen.text.corpus import Corpus
    from chargen.text.long_text import LongText
    from chargen.training.budget import Budget
    from chargen.training.loop import build_loop
    from chargen.training.run import build_batch_source
    from chargen.training.saving import RunSaver
    from chargen.training.state import load_state

    tensors, described = load_tensors(original)
    run = Run(original.parent / "changed", "changed")
    run.folder.mkdir(exist_ok=True)
    start = load_state(original)
    data = prepare_dataset(
        Corpus(LongText.from_string(text), "verse", ("verse.txt",), 1), None, start.data, start.tokenizer
    )

    def step() -> Tensors:
        state = load_state(run.state_path)
        config = replace(state.train, device="cpu")  # `train`, too, chooses a device of this machine
        saver = RunSaver(RunWriter(RunLock(run.folder), run), data, state.model, config)
        batches = build_batch_source(data, config)
        loop = build_loop(batches, saver, Budget(0.0, None, 100, 0), ThreadTuner(adapt=False), state, None, None, 60.0)
        loop.trainer.train_step(0.5)
        return loop.trainer.network.export_weights()

    run.state_path.write_bytes(original.read_bytes())
    expected = step()

    def use() -> str:
        actual = step()
        same = actual.keys() == expected.keys() and all(np.array_equal(actual[name], expected[name]) for name in actual)
        return SAME if same else OTHER

    return attack(
        count, lambda: change_file(run.state_path, tensors, described, rng), lambda: run.state_path.stat().st_size, use
    )


def attack_classifiers(count: int, rng: np.random.Generator, folder: Path) -> Outcome:
    """Open `count` changed copies of a classifier file. A classifier that is accepted must classify."""
    from chargen.runs import CLASSIFIER_FILE
    from chargen.tasks.classification.saved import load_classifier

    path = folder / CLASSIFIER_FILE
    described = json.loads(path.read_text(encoding="utf-8"))

    def classify() -> np.ndarray:
        return load_classifier([str(folder)]).log_probs(["Trăm năm"])

    expected = classify()

    def write() -> str:
        text, change = change_json(described, rng)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return change

    def use() -> str:
        actual = classify()
        if not np.isfinite(actual).all():
            raise ArithmeticError(f"the log probabilities are {actual}")
        return SAME if np.array_equal(actual, expected) else OTHER

    return attack(count, write, lambda: path.stat().st_size, use)


def create_examples(folder: Path, text: str) -> tuple[Path, Path, Path]:
    """Create a model, a training state, and a classifier of two models.

    Args:
        folder: Folder of the classifier. The run is created in the working directory.
        text: Text of the corpus.

    Returns:
        (file of the model, file of the training state, folder of the classifier).
    """
    import shutil

    from chargen.config import DataConfig
    from chargen.io import to_json_line, write_atomically
    from chargen.runs import CLASSIFIER_FILE
    from chargen.text.corpus import Corpus
    from chargen.text.long_text import LongText
    from chargen.training.choices import ModelChoices, RunLength, TrainChoices
    from chargen.training.run import Plan, train

    corpus = Corpus(LongText.from_string(text), "verse", ("verse.txt",), 1)
    model = ModelChoices(
        cell="lstm", hidden_size=8, embedding_dim=8, num_layers=2, ensemble_size=2, ngrams=3, ngram_rows=32,
        ngram_dim=4, dropout=0.1,
    )  # fmt: skip
    settings = TrainChoices(batch_size=4, seq_len=8, seed=3)
    plan = Plan(corpus, "example", RunLength(steps=60), DataConfig(), model, settings, device="cpu", stop_after=55)
    finished = list(train(plan))[-1]
    run = Path(getattr(finished, "model_path")).parent  # noqa: B009 (the last event is `Finished`)
    classifier = folder / "classifier"
    for name in ("a", "b"):
        (classifier / name).mkdir(parents=True)
        shutil.copy(run / "model.safetensors", classifier / name)
    priors = [float(x) for x in np.log([0.25, 0.75])]
    values = {"labels": ["a", "là"], "folders": ["a", "b"], "log_priors": priors, "temperature": 2.5, "held_out": {}}
    write_atomically(classifier / CLASSIFIER_FILE, [to_json_line(values).encode()])
    return run / "model.safetensors", run / "training_state.safetensors", classifier


def attack_all(count: int, seed: int, text: str, folder: Path) -> dict[str, Outcome]:
    """Open `count` malformed files of each kind; return the outcomes by the names of the kinds."""
    model, state, classifier = create_examples(folder, text)
    return {
        "model header": attack_models(count, np.random.default_rng([seed, 0]), model),
        "training state": attack_states(count, np.random.default_rng([seed, 1]), state, text),
        "classifier file": attack_classifiers(count, np.random.default_rng([seed, 2]), classifier),
    }
