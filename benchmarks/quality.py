"""Measure quality for time: train with each time budget and seed, and add a table of the losses to RESULTS.md.

    python -m benchmarks.quality --corpus tinyshakespeare.txt --budgets 90s,300s,600s --seeds 3

Each run is a process of its own, which is timed from outside. The runs of all budgets take turns, so a slow period of a
busy machine affects all budgets. Both protocols use the whole validation text: "carried" (the state is carried from the
first character to the last) is what the run reports; "windows" (256 characters each, from the initial state) is what
`chargen eval` reports. The table is printed and appended to `benchmarks/RESULTS.md`, with machine, commit and corpus.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from chargen import load, read_corpus
from chargen.config import DataConfig, ModelConfig
from chargen.data.dataset import split
from chargen.graph import numba_installed

RESULTS = Path(__file__).parent / "RESULTS.md"


@click.command()
@click.option("--corpus", default="python-docs", show_default=True, help="A file, or the name of a built-in corpus.")
@click.option("--budgets", default="90s,300s,600s", show_default=True, help="Time budgets of `chargen train`.")
@click.option("--seeds", default=3, show_default=True, help="Number of runs for each budget.")
@click.option("--options", default="", help="Additional options of `chargen train`.")
@click.option("--out", default=RESULTS, show_default=True, type=Path, help="File that the table is appended to.")
def main(corpus: str, budgets: str, seeds: int, options: str, out: Path) -> None:
    """Print a table of budget, loss (median and range over the seeds) and wall clock time, and append it to a file."""
    argument = str(Path(corpus).resolve()) if Path(corpus).exists() else corpus
    text = read_corpus([argument], DataConfig())
    val = split(text, None, DataConfig())[1].read()
    rows: dict[str, list[dict[str, Any]]] = {budget: [] for budget in budgets.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, seeds + 1):
            for budget, results in rows.items():
                arguments = [argument, "--budget", budget, "--seed", str(seed), *options.split()]
                results.append(run_training(folder, arguments, val))
    lines = [
        f"## {date.today()} · {text.name}, {text.num_chars:,} characters, sha256 {text.sha256[:8]}…",
        "",
        f"Commit {describe_commit()}{', ' + options if options else ''}; {seeds} seeds; {describe_machine()}. "
        f"Nats per character on {len(val):,} characters that are held out.",
        "",
        "| budget | carried, median (range) | second half | windows of 256 | wall clock, longest | network |",
        "|---|---|---|---|---|---|",
    ]
    for budget, results in rows.items():
        losses = [r["val_loss_nats_per_char"] for r in results]
        lines.append(
            f"| {budget} | {statistics.median(losses):.4f} ({min(losses):.4f}–{max(losses):.4f}) "
            f"| {statistics.median(r['val_second_half_nats_per_char'] for r in results):.4f} "
            f"| {statistics.median(r['windows'] for r in results):.4f} "
            f"| {max(r['wall_s'] for r in results):.1f} s | {results[0]['network']} |"
        )
    print("\n".join(lines))
    with out.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")


def run_training(folder: str, arguments: list[str], val: str) -> dict[str, Any]:
    """Train a model in a process of its own.

    Args:
        folder: Working directory of the process.
        arguments: Arguments of `chargen train`.
        val: Validation text.

    Returns:
        The JSON that the run prints, with three more keys: its wall clock time in seconds ("wall_s"), its loss in
        windows ("windows") and a description of its network ("network").
    """
    command = [sys.executable, "-m", "chargen", "train", *arguments, "--name", "bench", "--force", "--json"]
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    result["wall_s"] = time.perf_counter() - begin
    result["windows"] = load(Path(folder) / result["model_path"]).evaluate(val).windows_256_nats_per_char
    result["network"] = str(ModelConfig.from_json(result["model"]))
    return result


def describe_commit() -> str:
    """Return the commit of the code, with "-dirty" if files were changed since; "unknown" without git."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(git, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def describe_machine() -> str:
    """Return the number of threads, the processor, the speed of a matrix product, and the versions of the packages."""
    a = torch.randn(2048, 2048)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    speed = 2 * 2048**3 / statistics.median(times) / 1e9
    return (
        f"{torch.get_num_threads()} threads of {platform.machine()}, {speed:.0f} GFLOP/s in a 2048³ float32 product, "
        f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
        f"{'with' if numba_installed() else 'without'} numba"
    )


if __name__ == "__main__":
    main()
