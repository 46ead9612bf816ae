"""Measure how long commands take to start: whole processes, beside a process that only imports NumPy.

    python -m benchmarks.cold_start --model checkpoints/shakespeare/model.safetensors --turns 15
    python -m benchmarks.cold_start --corpus corpus.txt --turns 5

All commands take turns. For each one, a line of JSON has the shortest and the median time in seconds, and the shortest
time as a multiple of that of `python -c "import numpy"`. A first turn is not measured: it writes the compiled modules,
which an installed package has, and reads all files into memory. `train` is measured from the start of the process to
the line that is printed before the first training step; the process is then ended.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import click

from benchmarks.quality import describe_machine

CHARGEN = [sys.executable, "-m", "chargen"]
REFERENCE = "import numpy"
UNUSUAL_VARIABLES = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")  #: with these, Python starts or prints more slowly
FIRST_STEP = "; batch size "  #: a part of the line that `chargen train` prints before the first step
SENTENCE = "To be, or not to be, that is the question."


@click.command()
@click.option("--model", type=click.Path(exists=True, resolve_path=True), help="Model file for sample and score.")
@click.option("--corpus", type=click.Path(exists=True, resolve_path=True), help="Text for train.")
@click.option("--turns", default=15, show_default=True, help="Number of processes of each command.")
def main(model: str | None, corpus: str | None, turns: int) -> None:
    """Print one line of JSON for each command."""
    print(json.dumps({"machine": describe_machine()}))
    commands = {REFERENCE: [sys.executable, "-c", REFERENCE], "--help": [*CHARGEN, "--help"]}
    if model:
        commands["sample"] = [*CHARGEN, "sample", "-m", model, "--length", "1000", "--seed", "1"]
        commands["score"] = [*CHARGEN, "score", "-m", model, SENTENCE]
    if corpus:
        commands["train"] = [*CHARGEN, "train", corpus, "--budget", "60s", "--seed", "1"]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(turns + 1):
        for name, command in commands.items():
            elapsed_s = measure_process(command, until=FIRST_STEP if name == "train" else None)
            if turn:
                times[name].append(elapsed_s)
    for name, seconds in times.items():
        ratio = min(seconds) / min(times[REFERENCE])
        median = statistics.median(seconds)
        line = {"command": name, "best_s": min(seconds), "median_s": median, "ratio": ratio}
        print(json.dumps({key: value if isinstance(value, str) else round(value, 3) for key, value in line.items()}))


def measure_process(command: list[str], until: str | None) -> float:
    """Return the seconds until a process ends, or until it prints a line with these words on stderr.

    Raises:
        RuntimeError: If the process fails, or ends before it prints such a line.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name not in UNUSUAL_VARIABLES}
        environment |= {"CHARGEN_CHECKPOINTS": folder, "PYTHONPATH": os.getcwd()}
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if until else subprocess.DEVNULL,
        )  # fmt: skip
        if until is None:
            if process.wait():
                raise RuntimeError(f"{command} failed")
            return time.perf_counter() - started
        assert process.stderr is not None, "it is a pipe"
        found = any(until in line for line in process.stderr)
        elapsed_s = time.perf_counter() - started
        process.kill()
        process.wait()
        process.stderr.close()
        if not found:
            raise RuntimeError(f"{command} ended before its first step")
        return elapsed_s


if __name__ == "__main__":
    main()
