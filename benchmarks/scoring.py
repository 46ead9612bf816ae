"""How fast texts are scored, as a share of what this machine's products could do, and in how much memory.

    python -m benchmarks.scoring tinyshakespeare.txt --lines 20000 --stream 1000000

"Ceiling" is a float32 product of 2048³, the best of three, in turns with the rest; the work of a text is counted as
2 · (recurrent weights + head) for each id, nothing for gates, softmax, reading and sorting. Weights are random: how
fast a text is scored does not depend on what it says. The stream is a whole process, `chargen score --top 100`, fed
through a pipe, and its result is compared with a ranking of all the scores.
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
@click.option("--lines", default=20_000, show_default=True, help="Scored in this process.")
@click.option("--cell", default="gru", show_default=True)
@click.option("--hidden", default=384, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--stream", default=0, show_default=True, help="Lines for a process of its own; 0: none.")
@click.option("--stream-hidden", default=64, show_default=True, help="Of that process's model.")
@click.option("--stream-same", is_flag=True, help="Cut its lines short, so that many are equal.")
def main(
    corpus: str, lines: int, cell: str, hidden: int, rounds: int, stream: int, stream_hidden: int, stream_same: bool
) -> None:
    """Print a line of JSON for the speed, and one for the stream."""
    texts = [line for line in Path(corpus).read_text(encoding="utf-8").split("\n") if line]
    print(json.dumps(speed(texts, lines, cell, hidden, rounds)), flush=True)
    if stream:
        print(json.dumps(process(texts, stream, cell, stream_hidden, stream_same)))


def speed(texts: list[str], lines: int, cell: str, hidden: int, rounds: int) -> dict[str, Any]:
    """Measure scoring of the first lines; medians of rounds."""
    texts = texts[:lines]
    lm = _model("".join(texts), cell, hidden)
    ids = sum(map(len, set(texts)))  # a repeated line is read once
    weights = sum(w.size for name, w in lm.checkpoint.weights.items() if name.endswith(("weight_hh", "head.weight")))
    lm.score(texts[: lines // 20])  # imports torch and starts its threads
    found = []
    for _ in range(rounds):
        before, begin = _ceiling(), time.perf_counter()
        lm.score(texts)
        seconds, after = time.perf_counter() - begin, _ceiling()
        found.append((seconds, 2 * weights * ids / seconds / 1e9, (before + after) / 2))
    seconds, flops, ceiling = (statistics.median(values) for values in zip(*found, strict=True))
    return {
        "cell": cell, "hidden": hidden, "lines": len(texts), "distinct_ids": ids, "seconds": round(seconds, 2),
        "ids_per_s": round(ids / seconds), "gflops": round(flops, 1), "ceiling_gflops": round(ceiling, 1),
        "share_of_ceiling": round(statistics.median(f / c for _, f, c in found), 3),
        "shares": [round(f / c, 3) for _, f, c in found], "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def process(texts: list[str], lines: int, cell: str, hidden: int, same: bool) -> dict[str, Any]:
    """Feed lines to a process, each another one; its memory, and whether its best hundred are the best hundred."""
    rng = random.Random(0)
    cut = (lambda line: line[:3]) if same else (lambda line: f"{line} {rng.randrange(10**6)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        _model("".join(texts) + "\n0123456789", cell, hidden).save(path)
        source = Path(folder) / "lines.txt"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(cut(line) + "\n" for line in itertools.islice(itertools.cycle(texts), lines))
        best, seconds, peak = _run(path, source, "--top", "100")
        every, _, _ = _run(path, source, "--no-sort")
        rows = [json.loads(line) for line in every]
        expected = sorted(rows, key=lambda row: -row["log_prob_nats"] / row["chars"])[:100]
        places = [json.loads(line)["input"] for line in best]
        return {
            "stream_lines": lines, "stream_hidden": hidden, "seconds": round(seconds, 1),
            "lines_per_s": round(lines / seconds), "peak_resident_bytes": peak,
            "top_100_exact": places == [row["input"] for row in expected],
        }  # fmt: skip


def _run(model: Path, source: Path, *options: str) -> tuple[list[str], float, int]:
    """Return (the lines that were printed, seconds, the most memory that the process held)."""
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
    """Keep the largest resident size; of Linux, 0 elsewhere."""
    status = Path(f"/proc/{run.pid}/status")
    while run.poll() is None:
        if status.exists():
            sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak[0] = max(peak[0], *(int(size) * 1024 for size in sizes or ["0"]), 0)
        time.sleep(0.05)


def _model(text: str, cell: str, hidden: int):  # type: ignore[no-untyped-def]
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


def _ceiling() -> float:
    """Return the GFLOP/s of a product of 2048³, the best of three."""
    import torch

    a, out, best = torch.ones(2048, 2048), torch.empty(2048, 2048), 0.0
    for _ in range(3):
        begin = time.perf_counter()
        torch.mm(a, a, out=out)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begin) / 1e9)
    return best


if __name__ == "__main__":
    main()
