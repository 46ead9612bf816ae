"""Measure large corpora: how fast a long text is read and encoded, and how much memory training on it needs.

    python -m benchmarks.scale --gigabytes 1 --steps 3000 --files 20000

Each part runs in a process of its own, so its peak of resident memory is its own. The long text consists of lines of
Python's standard library in a random order. The text with thousands of distinct characters consists of random Chinese,
Vietnamese and other characters.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

PARTS = ("encode", "train", "folder", "vocabulary", "noise")


@click.command()
@click.option("--gigabytes", default=1.0, show_default=True, help="Size of the long text.")
@click.option("--steps", default=3000, show_default=True, help="Training steps on the long text.")
@click.option("--files", default=20_000, show_default=True, help="Number of small files.")
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Parts to measure.")
@click.option("--part", hidden=True, help="Measure this part in this process, in the working directory.")
def main(gigabytes: float, steps: int, files: int, parts: str, part: str | None) -> None:
    """Print one line of JSON for each part."""
    if part:
        functions = {
            "encode": measure_encoding,
            "train": lambda: measure_training(steps),
            "folder": measure_small_files,
            "vocabulary": measure_large_vocabulary,
            "noise": measure_refusals,
        }
        print(json.dumps({"part": part, **functions[part]()}))
        return
    root = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_texts(int(gigabytes * 1e9), files)
        for name in parts.split(","):
            command = [sys.executable, "-m", "benchmarks.scale", "--part", name, "--steps", str(steps)]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": root})


def write_texts(size_bytes: int, num_files: int) -> None:
    """Write the texts that the parts read into the working directory."""
    from chargen.text.builtin_corpora import read_builtin

    rng = random.Random(0)
    lines = read_builtin("python-source").text.splitlines(keepends=True)
    with open("long.txt", "w", encoding="utf-8") as file:
        while file.tell() < size_bytes:
            file.write("".join(rng.choices(lines, k=20_000)))
    Path("many").mkdir()
    for i in range(num_files):
        Path(f"many/{i:06}.txt").write_text("".join(rng.choices(lines, k=8)), encoding="utf-8")
    alphabet = [chr(c) for c in (*range(0x4E00, 0x4E00 + 4600), *range(0x1EA0, 0x1EFA), *range(0x1F300, 0x1F436))]
    weights = [1 / (rank + 3) for rank in range(len(alphabet))]
    Path("letters.txt").write_text(
        "\n".join("".join(rng.choices(alphabet, weights, k=40)) for _ in range(50_000)), encoding="utf-8"
    )
    Path("noise.txt").write_bytes(rng.randbytes(2_000_000))


def peak_mb() -> float:
    """Return the peak of the resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_encoding() -> dict[str, Any]:
    """Read and check the long text, and encode it."""
    from chargen.config import DataConfig
    from chargen.data.dataset import prepare_dataset
    from chargen.text.corpus import read_corpus

    begin = time.perf_counter()
    corpus = read_corpus(["long.txt"])
    read_s = time.perf_counter() - begin
    data = prepare_dataset(corpus, None, DataConfig())
    seconds = time.perf_counter() - begin
    size = os.path.getsize("long.txt") / 1e6
    return {"mb": size, "mb_per_s": size / seconds, "read_s": read_s, "peak_mb": peak_mb(), "ids": len(data.train.ids)}


def measure_training(steps: int) -> dict[str, Any]:
    """Train on the long text, and measure the memory and the share of the time that batches take."""
    from chargen.text.corpus import read_corpus
    from chargen.training.choices import ModelChoices, RunLength
    from chargen.training.run import Plan, train
    from chargen.training.trainer import DeviceLoader, Trainer

    times_s = {"batch": 0.0, "step": 0.0}

    def add_timer(owner: Any, method: str, key: str) -> None:
        original = getattr(owner, method)

        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            try:
                return original(*args)
            finally:
                times_s[key] += time.perf_counter() - begin

        setattr(owner, method, call)

    add_timer(DeviceLoader, "get_batch", "batch")
    add_timer(Trainer, "train_step", "step")
    plan = Plan(read_corpus(["long.txt"]), "long", RunLength(steps=steps), model=ModelChoices(hidden_size=256))
    resident: list[float] = []
    for event in train(plan):
        if event.to_json()["event"] == "progress":
            resident.append(_resident_mb())
    quarter = len(resident) // 4
    return {
        "data_share_of_step": times_s["batch"] / times_s["step"],
        "resident_mb_first_quarter": max(resident[:quarter]),
        "resident_mb_last_quarter": max(resident[-quarter:]),
        "peak_mb": peak_mb(),
    }


def measure_small_files() -> dict[str, Any]:
    """Read a folder of small files twice."""
    from chargen.text.corpus import read_corpus

    begin = time.perf_counter()
    first = read_corpus(["many"])
    elapsed_s = time.perf_counter() - begin
    second = read_corpus(["many"])
    return {"files": first.files, "seconds": elapsed_s, "same": first.sha256 == second.sha256, "peak_mb": peak_mb()}


def measure_large_vocabulary() -> dict[str, Any]:
    """Train for 30 seconds on a text with about 5,000 distinct characters; then sample and score."""
    from chargen import load
    from chargen.text.corpus import read_corpus
    from chargen.training.choices import RunLength
    from chargen.training.run import Plan, train

    *_, finished = train(Plan(read_corpus(["letters.txt"]), "letters", RunLength(budget_s=30.0)))
    model = load("letters")
    begin = time.perf_counter()
    text = model.sample(length=500, seed=0)
    sample_s = time.perf_counter() - begin
    score = model.score(text[:100])
    result = finished.to_json()
    return {
        "vocabulary": model.tokenizer.vocab_size,
        "chars_per_s": result["chars_per_s"],
        "loss_nats_per_char": result["val_loss_nats_per_char"],
        "sample_500_s": sample_s,
        "score_bits_per_char": score.bits_per_char,
    }


def measure_refusals() -> dict[str, Any]:
    """Read random bytes, and a text with 180,000 distinct characters; both must be refused quickly."""
    from chargen.errors import ChargenError
    from chargen.text.corpus import read_corpus
    from chargen.tokenizers.tokenizer import build_tokenizer

    data = random.Random(0).randbytes(4_000_000)
    text = "".join(
        chr(0x10000 + int.from_bytes(data[i : i + 3], "little") % 180_000) for i in range(0, len(data) - 3, 3)
    )
    Path("noise-letters.txt").write_text(text, encoding="utf-8")
    answers = {}
    for name in ("noise.txt", "noise-letters.txt"):
        begin = time.perf_counter()
        try:
            build_tokenizer("char", read_corpus([name]).content.span())
            answers[name] = "accepted"
        except ChargenError as error:
            answers[name] = f"{error.message} {error.hint} ({time.perf_counter() - begin:.1f} s)"
    return answers


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
