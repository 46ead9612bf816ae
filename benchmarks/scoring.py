"""Measure the speed of scoring, as a share of the speed of matrix products, and its memory.

    python -m benchmarks.scoring tinyshakespeare.txt --lines 20000 --stream 1000000

The ceiling is the speed of a 2048³ float32 product, the best of three, measured in turns with scoring. The work of a
text is counted as 2 · (recurrent weights + head) for each id, without gates, softmax, reading and sorting. The weights
are random, because the speed does not depend on the text. The stream is a whole process, `chargen score --top 100`,
which reads lines from a pipe; its result is compared with a ranking of all scores.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np


@click.command()
@click.argument("corpus", type=click.Path(exists=True, dir_okay=False))
@click.option("--lines", default=20_000, show_default=True, help="Number of lines that this process scores.")
@click.option("--cell", default="gru", show_default=True, help="Cell of the models.")
@click.option("--hidden", default=384, show_default=True, help="Hidden size of the model in this process.")
@click.option("--rounds", default=3, show_default=True, help="Number of measurements for each median.")
@click.option("--stream", default=0, show_default=True, help="Number of lines for a process of its own; 0 for none.")
@click.option("--stream-hidden", default=64, show_default=True, help="Hidden size of the model in that process.")
@click.option("--stream-same", is_flag=True, help="Shorten the lines of that process, so that many are equal.")
def main(
    corpus: str, lines: int, cell: str, hidden: int, rounds: int, stream: int, stream_hidden: int, stream_same: bool
) -> None:
    """Print one line of JSON for the speed, and one for the stream."""
    texts = [line for line in Path(corpus).read_text(encoding="utf-8").split("\n") if line]
    print(json.dumps(measure_speed(texts, lines, cell, hidden, rounds)), flush=True)
    if stream:
        print(json.dumps(measure_stream(texts, stream, cell, stream_hidden, stream_same)))


def measure_speed(texts: list[str], lines: int, cell: str, hidden: int, rounds: int) -> dict[str, Any]:
    """Measure the speed of scoring the first lines; the results are medians over the rounds."""
    texts = texts[:lines]
    lm = _create_model("".join(texts), cell, hidden)
    ids = sum(map(len, set(texts)))  # a line that occurs twice is scored once
    weights = sum(w.size for name, w in lm.checkpoint.weights.items() if name.endswith(("weight_hh", "head.weight")))
    lm.score(texts[: lines // 20])  # warm-up: imports torch and starts the threads
    rows = []  # (seconds, GFLOP/s of scoring, GFLOP/s of a product) of each round
    for _ in range(rounds):
        before = _measure_ceiling()
        begin = time.perf_counter()
        lm.score(texts)
        seconds = time.perf_counter() - begin
        after = _measure_ceiling()
        rows.append((seconds, 2 * weights * ids / seconds / 1e9, (before + after) / 2))
    seconds, gflops, ceiling = (statistics.median(values) for values in zip(*rows, strict=True))
    return {
        "cell": cell, "hidden": hidden, "lines": len(texts), "distinct_ids": ids, "seconds": round(seconds, 2),
        "ids_per_s": round(ids / seconds), "gflops": round(gflops, 1), "ceiling_gflops": round(ceiling, 1),
        "share_of_ceiling": round(statistics.median(f / c for _, f, c in rows), 3),
        "shares": [round(f / c, 3) for _, f, c in rows], "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def measure_stream(texts: list[str], lines: int, cell: str, hidden: int, same: bool) -> dict[str, Any]:
    """Measure a process that ranks lines from a pipe: its speed, its memory, and whether its best hundred are correct.

    Args:
        texts: Lines to choose from, repeated as often as needed.
        lines: Number of lines that the process reads.
        cell: Name of the cell.
        hidden: Hidden size of the model.
        same: Whether to shorten the lines, so that many are equal. Otherwise each line gets a random number.
    """
    rng = random.Random(0)
    change = (lambda line: line[:3]) if same else (lambda line: f"{line} {rng.randrange(10**6)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        _create_model("".join(texts) + "\n0123456789", cell, hidden).save(path)
        source = Path(folder) / "lines.txt"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(change(line) + "\n" for line in itertools.islice(itertools.cycle(texts), lines))
        best, seconds, peak = _run(path, source, "--top", "100")
        unsorted, _, _ = _run(path, source, "--no-sort")
        rows = [json.loads(line) for line in unsorted]
        expected = sorted(rows, key=lambda row: -row["log_prob_nats"] / row["chars"])[:100]
        inputs = [json.loads(line)["input"] for line in best]
        return {
            "stream_lines": lines, "stream_hidden": hidden, "seconds": round(seconds, 1),
            "lines_per_s": round(lines / seconds), "peak_resident_bytes": peak,
            "top_100_exact": inputs == [row["input"] for row in expected],
        }  # fmt: skip


def _run(model: Path, source: Path, *options: str) -> tuple[list[str], float, int]:
    """Return (the lines that the process printed, seconds, its peak of resident memory in bytes)."""
    command = [sys.executable, "-m", "chargen", "score", "-m", str(model), "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    begin = time.perf_counter()
    with (
        source.open("rb") as lines,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as run,
    ):
        assert run.stdin
        assert run.stdout
        peak = [0]
        watch = threading.Thread(target=_watch, args=(run, peak))
        watch.start()
        feed = threading.Thread(target=_feed, args=(lines, run.stdin))
        feed.start()
        out = run.stdout.read().decode().splitlines()
        feed.join()
    watch.join()
    assert run.returncode == 0, command
    return out, time.perf_counter() - begin, peak[0]


def _feed(lines: Any, pipe: Any) -> None:
    while block := lines.read(1 << 16):
        pipe.write(block)
    pipe.close()


def _watch(run: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Update `peak[0]` with the peak of the resident memory in bytes, on Linux; elsewhere it stays 0."""
    status = Path(f"/proc/{run.pid}/status")
    while run.poll() is None:
        if status.exists():
            sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak[0] = max(peak[0], *(int(size) * 1024 for size in sizes or ["0"]), 0)
        time.sleep(0.05)


def _create_model(text: str, cell: str, hidden: int):  # type: ignore[no-untyped-def]
    from chargen.cells.weights import parameter_shapes
    from chargen.checkpoint import Checkpoint
    from chargen.config import ModelConfig
    from chargen.lm import LanguageModel
    from chargen.tokenizers.tokenizer import build_tokenizer

    tokenizer = build_tokenizer("char", text + "\n")
    config = ModelConfig(tokenizer.vocab_size, cell, hidden_size=hidden, embedding_dim=256)
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(0, 1 / hidden**0.5, s).astype(np.float32) for n, s in parameter_shapes(config).items()}
    return LanguageModel(Checkpoint(config, tokenizer, weights), device="cpu")


def _measure_ceiling() -> float:
    """Return the speed of a 2048³ product in GFLOP/s, the best of three."""
    import torch

    a = torch.ones(2048, 2048)
    out = torch.empty(2048, 2048)
    best = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        torch.mm(a, a, out=out)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begin) / 1e9)
    return best


if __name__ == "__main__":
    main()
