"""Malformed files with correct checksums: random changes to a model's header, a training state and a classifier's file.

    python -m benchmarks.survival --kills 0 --mutations 0 --schema 10000

A checksum finds damage, but not malice: anyone who writes a file can write its checksum too. Here a random node of the
JSON is replaced by another type, an extreme, something nested, is removed or doubled, or a tensor is renamed, reshaped,
given another type or extreme numbers, and the file is written again with the checksum that belongs to it. Opening it
must end in a `ModelError`, or give what the whole file gives, or (a setting with another valid value) something else
that works.
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

from chargen.checkpoint import FORMAT, Tensors, _checksum
from chargen.errors import DivergenceError, ModelError

RAW = "@@RAW@@"  #: stands for text that `json.dumps` does not write
RAW_VALUES = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 200_000, "[" * 50 + "]" * 50, "9" * 5000, "1" * 400, "01")
EXTREMES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 255, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**9, 10**30, -(10**30), 0.5, -0.5,
    1e-308, 5e-324, 1e308, -1e308, 1e6, "", "x", "0", "char", "\ud800", "a\udfffb", "x" * 100_000, "../..", "/dev/zero",
    "\0", "\x1b[2J", "-", [], {}, [[]], [None], {"a": 1}, [0] * 1000, ["x"] * 1000, {"x": {"x": {"x": {}}}},
)  # fmt: skip
SAME, OTHER, REFUSED, DIVERGED = "the same", "another valid value", "refused", "diverged"
SLOW_S = 2.0  #: longer is called a hang
MAX_EXTRA_BYTES = 1 << 25  #: more than that, beside eight times the file's size, is called too much memory


@dataclass
class Outcome:
    """What came of many malformed files of one kind."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)  #: what ended in anything else than is allowed
    longest_s: float = 0.0
    most_bytes: int = 0  #: allocated by Python and NumPy beyond eight times the file's size

    def __str__(self) -> str:
        counts = ", ".join(f"{self.counts[name]:,} {name}" for name in (REFUSED, SAME, OTHER, DIVERGED))
        return (
            f"{counts}, {len(self.failures):,} failures; longest {self.longest_s:.3f} s, "
            f"most memory {max(0, self.most_bytes) / 2**20:.1f} MiB"
        )


def attack(count: int, write: Callable[[], str], size: Callable[[], int], use: Callable[[], str]) -> Outcome:
    """Write a malformed file and use it, `count` times.

    Args:
        count: how often.
        write: writes the file and returns what was changed.
        size: returns the file's size in bytes.
        use: opens it and returns SAME, OTHER or DIVERGED.
    """
    outcome = Outcome()
    for _ in range(count):
        change = write()
        tracemalloc.start()
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # NumPy's too: an overflow is a fault
                outcome.counts[use()] += 1
        except ModelError as error:
            outcome.counts[REFUSED] += 1
            if len(str(error)) > 1000 or not str(error).isprintable() and "\x1b" in str(error):
                outcome.failures.append(f"{change}: an error message of {len(str(error)):,} characters")
        except DivergenceError:
            outcome.counts[DIVERGED] += 1
        except BaseException as error:  # whatever it is, it is what is looked for
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome.failures.append(f"{change}: {type(error).__name__}: {str(error)[:200]}")
        seconds = time.perf_counter() - begin
        extra = tracemalloc.get_traced_memory()[1] - 8 * size()
        tracemalloc.stop()
        outcome.longest_s, outcome.most_bytes = max(outcome.longest_s, seconds), max(outcome.most_bytes, extra)
        if seconds > SLOW_S:
            outcome.failures.append(f"{change}: {seconds:.1f} s")
        if extra > MAX_EXTRA_BYTES:
            outcome.failures.append(f"{change}: {extra / 2**20:.0f} MiB")
    return outcome


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def changed_json(value: Any, rng: np.random.Generator) -> tuple[str, str]:
    """Return a JSON value's text with one to three random changes, and what they were."""
    value, raws, changes = json.loads(json.dumps(value)), [], []
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


def changed_tensors(tensors: Tensors, rng: np.random.Generator) -> tuple[Tensors, str]:
    """Return tensors of which one is changed, and how."""
    changed, names = dict(tensors), sorted(tensors)
    name = names[int(rng.integers(len(names)))]
    tensor, kind = changed[name].copy(), int(rng.integers(6))
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
        with np.errstate(invalid="ignore", over="ignore"):  # a mask of -1e30 is no whole number
            changed[name] = tensor.astype(wanted) if tensor.dtype != wanted else tensor.astype(np.float32)
    else:
        extremes = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e7, -1e30] if tensor.dtype.kind == "f" else [255, 0, 127]
        value = extremes[int(rng.integers(len(extremes)))]
        place = slice(None) if rng.random() < 0.5 or not tensor.size else int(rng.integers(tensor.size))
        tensor.reshape(-1)[place] = value
        changed[name] = tensor
    return changed, f"tensor {name} ({kind})"


def write_tensors(path: Path, tensors: Tensors, text: str) -> None:
    """Write tensors and a JSON text with the checksum that belongs to them; any, where the text has none."""
    try:
        sha256 = _checksum(json.loads(text), tensors)
    except (ValueError, RecursionError, TypeError):
        sha256 = "0" * 64
    header = f'{{"format_version": 1, "sha256": "{sha256}", "model": {text}}}'
    path.write_bytes(save({k: np.ascontiguousarray(t) for k, t in tensors.items()}, metadata={FORMAT: header}))


def change_file(path: Path, tensors: Tensors, described: Any, rng: np.random.Generator) -> str:
    """Write a file as `save_tensors` does, with its JSON (three times of four) or a tensor changed; say how."""
    if rng.random() < 0.75:
        text, change = changed_json(described, rng)
        write_tensors(path, tensors, text)
    else:
        other, change = changed_tensors(tensors, rng)
        write_tensors(path, other, json.dumps(described))
    return change


# ── the three kinds of files ─────────────────────────────────────────────────────────────────────────────────────────


def attack_models(count: int, rng: np.random.Generator, whole: Path) -> Outcome:
    """Change a model file in `count` ways; an accepted one must score and write."""
    from chargen.checkpoint import load_checkpoint, load_tensors
    from chargen.lm import LanguageModel

    tensors, described = load_tensors(whole)
    path = whole.with_name("changed.safetensors")

    def told(file: Path) -> tuple[float, str]:
        model = LanguageModel(load_checkpoint(file), path=file)
        return model.score("Trăm năm").log_prob_nats, model.sample(length=20, seed=1)

    expected = told(whole)

    def use() -> str:
        found = told(path)
        if not np.isfinite(found[0]):
            raise ArithmeticError(f"log p is {found[0]}")
        return SAME if found == expected else OTHER

    return attack(count, lambda: change_file(path, tensors, described, rng), lambda: path.stat().st_size, use)


def attack_states(count: int, rng: np.random.Generator, whole: Path, text: str) -> Outcome:
    """Change a training state in `count` ways; from an accepted one a training step must be possible."""
    from chargen.checkpoint import load_tensors
    from chargen.data.dataset import prepare_dataset
    from chargen.run_writer import RunLock, RunWriter
    from chargen.runs import Run
    from chargen.text.corpus import Corpus
    from chargen.text.long_text import LongText
    from chargen.training.budget import Budget
    from chargen.training.loop import build_loop
    from chargen.training.run import build_batch_source
    from chargen.training.saving import RunSaver
    from chargen.training.state import load_state

    tensors, described = load_tensors(whole)
    run = Run(whole.parent / "changed", "changed")
    run.folder.mkdir(exist_ok=True)
    start = load_state(whole)
    data = prepare_dataset(Corpus(LongText.of(text), "verse", ("verse.txt",), 1), None, start.data, start.tokenizer)

    def step() -> Tensors:
        state = load_state(run.state_path)
        config = replace(state.train, device="cpu")  # as `train` replaces it by a device of this machine
        saver = RunSaver(RunWriter(RunLock(run.folder), run), data, state.model, config)
        batches = build_batch_source(data, config)
        loop = build_loop(batches, saver, Budget(0.0, None, 100, 0), state, None, 60.0)
        loop.trainer.train_step(0.5)
        return loop.trainer.network.export_weights()

    run.state_path.write_bytes(whole.read_bytes())
    expected = step()

    def use() -> str:
        found = step()
        same = found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)
        return SAME if same else OTHER

    return attack(
        count, lambda: change_file(run.state_path, tensors, described, rng), lambda: run.state_path.stat().st_size, use
    )


def attack_classifiers(count: int, rng: np.random.Generator, folder: Path) -> Outcome:
    """Change a classifier's file in `count` ways; an accepted one must classify."""
    from chargen.runs import CLASSIFIER_FILE
    from chargen.tasks.classifier import load_classifier

    path = folder / CLASSIFIER_FILE
    described = json.loads(path.read_text(encoding="utf-8"))

    def told() -> np.ndarray:
        return load_classifier([str(folder)]).log_probs(["Trăm năm"])

    expected = told()

    def write() -> str:
        text, change = changed_json(described, rng)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return change

    def use() -> str:
        found = told()
        if not np.isfinite(found).all():
            raise ArithmeticError(f"log p is {found}")
        return SAME if np.array_equal(found, expected) else OTHER

    return attack(count, write, lambda: path.stat().st_size, use)


def examples(folder: Path, text: str) -> tuple[Path, Path, Path]:
    """Make a model, a training state and a classifier of two models in a folder.

    Returns:
        (the model's file, the state's file, the classifier's folder).
    """
    import shutil

    from chargen.config import DataConfig
    from chargen.io import to_json_line, write_atomically
    from chargen.runs import CLASSIFIER_FILE
    from chargen.text.corpus import Corpus
    from chargen.text.long_text import LongText
    from chargen.training.run import Plan, train

    corpus = Corpus(LongText.of(text), "verse", ("verse.txt",), 1)
    model = {"cell": "lstm", "hidden_size": 8, "embedding_dim": 8, "num_layers": 2, "ensemble_size": 2, "ngrams": 3,
             "ngram_rows": 32, "ngram_dim": 4, "dropout": 0.1}  # fmt: skip
    settings = {"batch_size": 4, "seq_len": 8, "seed": 3}
    plan = Plan(corpus, "example", {"steps": 60}, DataConfig(), model, settings, device="cpu", stop_after=55)
    finished = list(train(plan))[-1]
    run = Path(getattr(finished, "model_path")).parent  # noqa: B009 (the last report is `Finished`)
    classifier = folder / "classifier"
    for name in ("a", "b"):
        (classifier / name).mkdir(parents=True)
        shutil.copy(run / "model.safetensors", classifier / name)
    priors = [float(x) for x in np.log([0.25, 0.75])]
    values = {"labels": ["a", "là"], "folders": ["a", "b"], "log_priors": priors, "temperature": 2.5, "held_out": {}}
    write_atomically(classifier / CLASSIFIER_FILE, [to_json_line(values).encode()])
    return run / "model.safetensors", run / "training_state.safetensors", classifier


def attack_all(count: int, seed: int, text: str, folder: Path) -> dict[str, Outcome]:
    """Attack the three kinds of files, `count` times each."""
    model, state, classifier = examples(folder, text)
    return {
        "model header": attack_models(count, np.random.default_rng([seed, 0]), model),
        "training state": attack_states(count, np.random.default_rng([seed, 1]), state, text),
        "classifier file": attack_classifiers(count, np.random.default_rng([seed, 2]), classifier),
    }
