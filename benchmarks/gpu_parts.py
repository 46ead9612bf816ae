"""The parts of `benchmarks/gpu.py` that run whole programs: training, evaluation, resuming, a long text, the tests.

    python -m benchmarks.gpu_parts PART SETTINGS ROWS     run a part; SETTINGS is JSON, ROWS is the file for its rows
    python -m benchmarks.gpu_parts steps SETTINGS RUN     train for some steps; a part starts it as another process

A part is a generator of rows. Each row is written to the file at once, so it is kept if the part fails later.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
#: the parts, the most important ones first, and how many seconds each may take; "train" is for 180 s of training
TIME_LIMITS_S = {
    "train": 220.0,
    "sampling": 60.0,
    "throughput": 45.0,
    "launches": 30.0,
    "adapted": 110.0,
    "resume": 70.0,
    "agreement": 50.0,
    "long": 80.0,
    "precision": 45.0,
    "tests": 110.0,
    "graph_loop": 30.0,
}
RUN_NAME = "timed"  #: the run of the part "train", which "adapted" evaluates
MAX_NATS = 1.36  #: bar for the loss after 180 s
LONG_TEXT_BYTES, LONG_BUDGET_S = 100_000_000, 30.0  #: several seconds of the budget pass before the first step
NUM_STEPS, STOP_AFTER = 200, 123  #: steps of the run that is resumed: in all, and before it is stopped
TESTS_S = 95.0  #: seconds after which the tests are stopped
MAX_FAILURE_LINES = 40  #: lines that the results keep of each failed test


@dataclass(frozen=True)
class Settings:
    """What all parts need to know."""

    device: str  #: "cuda" or "cpu"
    text: str  #: path of the corpus
    work: str  #: path of the folder for models and texts
    seconds: float  #: time budget of the part "train"
    options: str  #: additional options of its `chargen train`

    @property
    def is_small(self) -> bool:
        """Whether the sizes are only for trying the program."""
        return self.device == "cpu"


@dataclass(frozen=True)
class Row:
    """A measured value."""

    what: str
    value: float | str
    unit: str = ""
    bar: float | str | None = None  #: the value to reach
    is_upper: bool = False  #: whether the bar is an upper limit
    details: dict[str, Any] = field(default_factory=dict)


# ── training and evaluation ───────────────────────────────────────────────────


def run_chargen(settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run a command in the work folder, and return the JSON that it prints."""
    command = [sys.executable, "-m", "chargen", *arguments, "--device", settings.device, "--json"]
    done = subprocess.run(command, cwd=settings.work, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"chargen {' '.join(arguments)} ended with status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def train(settings: Settings) -> Iterator[Row]:
    """Train with a time budget, and return the loss on the whole validation text."""
    start = time.perf_counter()
    arguments = ["--budget", f"{settings.seconds}s", "--seed", "1", "--name", RUN_NAME, "--force"]
    result = run_chargen(settings, "train", settings.text, *arguments, *settings.options.split())
    wall_s = time.perf_counter() - start
    what = f"loss after {settings.seconds:g} s, static, whole validation text"
    yield Row(what, result["val_loss_nats_per_char"], "nats/char", MAX_NATS, True, result)
    yield Row("the same, second half", result["val_second_half_nats_per_char"], "nats/char")
    yield Row("wall clock of the whole process", wall_s, "s")
    yield Row("steps; best step", f"{result['steps']:,}; {result['best_step']:,}")
    yield Row("training speed", result["chars_per_s"], "characters/s")
    yield Row("network", describe_network(result["model"]))
    yield Row("diagnosis", result["diagnosis"])


def describe_network(model: dict[str, Any]) -> str:
    """Return the settings of a network that differ from the defaults, on one line."""
    from chargen.config import ModelConfig

    return str(ModelConfig.from_json(model))


def adapted(settings: Settings) -> Iterator[Row]:
    """Evaluate the model of `train` on its validation text, unchanged and with the default dynamic evaluation."""
    from chargen import read_corpus
    from chargen.config import DataConfig
    from chargen.data.dataset import split

    val = split(read_corpus([settings.text], DataConfig()), None, DataConfig())[1].read()
    path = Path(settings.work) / "validation.txt"
    path.write_text(val[:2000] if settings.is_small else val, encoding="utf-8", newline="")
    start = time.perf_counter()
    result = run_chargen(settings, "eval", "--model", RUN_NAME, str(path), "--adapt")
    elapsed_s = time.perf_counter() - start
    yield Row("loss with dynamic evaluation", result["adapted"]["loss_nats_per_char"], "nats/char", details=result)
    yield Row("static loss of the same model", result["loss_nats_per_char"], "nats/char", MAX_NATS, True)
    yield Row("static loss in windows of 256", result["windows_256_nats_per_char"], "nats/char")
    yield Row("time of both evaluations", elapsed_s, "s")


# ── a long text ───────────────────────────────────────────────────────────────


def long(settings: Settings) -> Iterator[Row]:
    """Train on a long text for a short time: the time to the first step, and the speed with everything included."""
    from chargen.runs import find_run
    from chargen.training.state import load_run_state

    size, budget_s = (2_000_000, 15.0) if settings.is_small else (LONG_TEXT_BYTES, LONG_BUDGET_S)
    start = time.perf_counter()
    path = Path(settings.work) / "long.txt"
    path.write_bytes(generate_text(size))
    yield Row(f"generating {size:,} characters", time.perf_counter() - start, "s")
    start = time.perf_counter()
    result = run_chargen(settings, "train", str(path), "--budget", f"{budget_s}s", "--name", "long", "--force")
    wall_s = time.perf_counter() - start
    first_step_s = load_run_state(find_run("long", Path(settings.work) / "checkpoints")).first_step_s
    num_chars = result["epochs"] * 0.9 * size
    yield Row("from the start of the process to the first step", first_step_s or 0.0, "s", details=result)
    yield Row("training speed", result["chars_per_s"], "characters/s")
    yield Row("characters per second of the whole process", num_chars / wall_s, "characters/s")
    yield Row("characters read; wall clock", f"{num_chars:,.0f}; {wall_s:.1f} s")
    yield Row("network", describe_network(result["model"]))


def generate_text(size: int, num_words: int = 4096, num_successors: int = 32, num_chains: int = 2048) -> bytes:
    """Return pseudo-text: Markov chains of words, one after another. The same size gives the same text.

    Args:
        size: Number of characters.
        num_words: Number of different words.
        num_successors: Number of words that can follow a word.
        num_chains: Number of chains, which are computed together.
    """
    rng = np.random.default_rng(0)
    letters = rng.choice(list("etaoinshrdlucmfwypvbgk"), (num_words, 10))
    lengths = np.clip(rng.poisson(3.5, num_words), 1, 10)
    words = ["".join(row[:length]) for row, length in zip(letters, lengths, strict=True)]
    words = [f"{word}{'.' if n % 16 == 0 else ''}{chr(10) if n % 32 == 0 else ' '}" for n, word in enumerate(words)]
    successors = rng.integers(0, num_words, (num_words, num_successors))
    state = rng.integers(0, num_words, num_chains)
    num_steps = 2 * size // (num_chains * 5)  # more than enough: words have five characters or more on average
    chains = np.empty((num_steps, num_chains), dtype=np.int64)
    for step in range(num_steps):
        chains[step] = state = successors[state, rng.integers(0, num_successors, num_chains)]
    text = "".join(map(words.__getitem__, chains.T[:, : num_steps // 2 + 1].ravel().tolist()))
    if len(text) < size:
        text += "".join(map(words.__getitem__, chains.T[:, num_steps // 2 + 1 :].ravel().tolist()))
    assert len(text) >= size
    return text[:size].encode("ascii")


# ── resuming ──────────────────────────────────────────────────────────────────

SAME_BYTES = "the same bytes"
#: name of a variant: (settings of the network, whether only deterministic algorithms are used)
RESUMED = {
    "deterministic": ({"ensemble_size": 2}, True),
    "deterministic, n-grams": ({"ensemble_size": 2, "ngrams": 4, "ngram_dropout": 0.3}, True),
    "default algorithms": ({"ensemble_size": 2}, False),
}


def resume(settings: Settings) -> Iterator[Row]:
    """Compare a run that was stopped and resumed with one that was not, byte for byte."""
    text = Path(settings.text).read_text(encoding="utf-8")
    resumed_text(settings).write_text(text[: 50_000 if settings.is_small else 300_000], encoding="utf-8", newline="")
    variants = list(RESUMED)[1:2] if settings.is_small else list(RESUMED)
    runs = [(variant, kind) for variant in variants for kind in ("whole", "cut")]
    first = [start_steps(settings, *run) for run in runs]
    problems = {run: wait_for(process) for run, process in zip(runs, first, strict=True)}
    second = {variant: start_steps(settings, variant, "resumed") for variant in variants}
    problems |= {(variant, "resumed"): wait_for(process) for variant, process in second.items()}
    for variant in variants:
        failed = [f"{kind}: {problem}" for (of, kind), problem in problems.items() if of == variant and problem]
        what = f"model file of {NUM_STEPS} steps, stopped and resumed after {STOP_AFTER}: {variant}"
        bar = SAME_BYTES if RESUMED[variant][1] else None
        yield Row(what, "; ".join(failed) or compare_runs(settings, variant), bar=bar)


def resumed_text(settings: Settings) -> Path:
    """Return the path of the text that the runs are trained on."""
    return Path(settings.work) / "resumed.txt"


def start_steps(settings: Settings, variant: str, kind: str) -> subprocess.Popen[str]:
    """Start a process that makes steps of a variant; see `make_steps`."""
    command = [sys.executable, "-m", "benchmarks.gpu_parts", "steps", json.dumps(asdict(settings)), f"{variant}/{kind}"]
    # cuBLAS computes the same bits again only with a workspace of a fixed size for each stream.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if RESUMED[variant][1]:
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(process: subprocess.Popen[str]) -> str:
    """Wait for a process, and return the last line that it printed if it failed, else an empty string."""
    output = process.communicate()[0]
    if not process.returncode:
        return ""
    print(output)
    return (output.strip().splitlines() or ["no output"])[-1][:300]


def make_steps(settings: Settings, run: str) -> None:
    """Train a variant for NUM_STEPS steps (whole), for STOP_AFTER of them (cut), or resume that run (resumed)."""
    import torch

    from chargen import ModelChoices, read_corpus
    from chargen.config import DataConfig
    from chargen.training.choices import RunLength, TrainChoices
    from chargen.training.run import Plan
    from chargen.training.run import train as train_plan

    variant, kind = run.split("/")
    shape, is_deterministic = RESUMED[variant]
    torch.use_deterministic_algorithms(is_deterministic)
    size = {"cell": "mgru", "hidden_size": 512, "dropout": 0.2, "weight_dropout": 0.2}
    if settings.is_small:
        size |= {"cell": "lstm", "hidden_size": 32}  # no compiled loops, which each process would compile
    plan = Plan(
        read_corpus([str(resumed_text(settings))], DataConfig()),
        name=run_name(variant, kind),
        length=RunLength() if kind == "resumed" else RunLength(steps=NUM_STEPS),
        model=ModelChoices() if kind == "resumed" else ModelChoices(**size, **shape),  # type: ignore[arg-type]
        train=TrainChoices() if kind == "resumed" else TrainChoices(seed=3),
        device=settings.device,
        resume=run_name(variant, "cut") if kind == "resumed" else "",
        stop_after=STOP_AFTER if kind == "cut" else None,
        root=Path(settings.work) / "checkpoints",
        force=kind != "resumed",
    )
    for _ in train_plan(plan):
        pass


def run_name(variant: str, kind: str) -> str:
    """Return the name of a run; "cut" is the one that is resumed."""
    return f"{variant.replace(', ', '-').replace(' ', '-')}-{'cut' if kind == 'resumed' else kind}"


def compare_runs(settings: Settings, variant: str) -> str:
    """Return whether the model files of the two runs have the same bytes, and else how many arrays differ."""
    from chargen.checkpoint import load_checkpoint

    root = Path(settings.work) / "checkpoints"
    paths = [root / run_name(variant, kind) / "model.safetensors" for kind in ("whole", "cut")]
    if paths[0].read_bytes() == paths[1].read_bytes():
        return SAME_BYTES
    whole, resumed = (load_checkpoint(path).weights for path in paths)
    differences = {name: float(np.abs(whole[name] - resumed[name]).max()) for name in whole}
    num_different = sum(difference > 0 for difference in differences.values())
    return f"differs: {num_different} of {len(whole)} arrays, by at most {max(differences.values()):.2g}"


# ── tests ─────────────────────────────────────────────────────────────────────


def tests(settings: Settings) -> Iterator[Row]:
    """Run the tests marked `gpu`, all files at the same time; what has not ended after TESTS_S seconds is stopped."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [path for path in files if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]
    # The ini file asks for plug-ins that need not be installed here, and without a GPU other tests are run instead.
    options = [
        "-v",
        "-rfE",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "-W",
        "ignore::pytest.PytestConfigWarning",
    ]
    options += ["-k", "members"] if settings.is_small else ["-m", "gpu"]
    running = {}
    for path in files:
        log = Path(settings.work) / f"{path.stem}.log"
        with log.open("w", encoding="utf-8") as file:
            command = [sys.executable, "-m", "pytest", *options, str(path)]
            running[log] = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    end = time.monotonic() + TESTS_S
    while running:
        time.sleep(0.2)
        for log, process in list(running.items()):
            if process.poll() is None and time.monotonic() < end:
                continue
            is_stopped = process.poll() is None
            process.kill()
            del running[log]
            output = log.read_text(encoding="utf-8")
            print(output)
            details = {"failures": failure_lines(output)}
            yield Row(log.stem, summarize_tests(output, is_stopped), details=details)


def failure_lines(output: str) -> list[str]:
    """Return the last MAX_FAILURE_LINES lines about each failed test, which end with the assertion or the error."""
    sections = re.split(r"^_{3,} (.+?) _{3,}$|^=+ short test summary", output, flags=re.MULTILINE)
    lines = []
    for name, text in zip(sections[1::2], sections[2::2], strict=True):
        if name:
            lines += [name, *text.strip().splitlines()[-MAX_FAILURE_LINES:]]
    return lines


def summarize_tests(output: str, is_stopped: bool) -> str:
    """Return the number of tests that passed and failed, the names of those that failed, and how pytest ended."""
    num_passed, failed = output.count(" PASSED "), re.findall(r"^FAILED \S+::(\S+)", output, re.MULTILINE)
    failed = failed or re.findall(r"^\S+::(\S+) (?:FAILED|ERROR) ", output, re.MULTILINE)
    end = "stopped before its end" if is_stopped else (output.strip().splitlines() or ["no output"])[-1].strip("= ")
    names = f" ({', '.join(failed[:20])})" if failed else ""
    return f"{num_passed} passed, {len(failed)} failed{names}; {end}"


def main() -> None:
    """Run a part, or the steps of a run."""
    name, settings_json, target = sys.argv[1:]
    settings = Settings(**json.loads(settings_json))
    if name == "steps":
        make_steps(settings, target)
        return
    here = {"train": train, "adapted": adapted, "long": long, "resume": resume, "tests": tests}
    part = here[name] if name in here else getattr(importlib.import_module("benchmarks.gpu_speed"), name)
    with open(target, "w", encoding="utf-8") as file:
        for row in part(settings):
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
