"""Text of any size: how fast a long one is read and encoded, and what training on it holds in memory.

    python -m benchmarks.scale --gigabytes 1 --steps 3000 --files 20000

Each part is a process of its own, whose peak of resident memory is its own. The text is made of the lines of Python's
library in a random order; the vocabulary of thousands is made of Chinese, Vietnamese and other letters at random.
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
@click.option("--gigabytes", default=1.0, show_default=True)
@click.option("--steps", default=3000, show_default=True)
@click.option("--files", default=20_000, show_default=True)
@click.option("--parts", default=",".join(PARTS), show_default=True)
@click.option("--part", hidden=True, help="Do this one here, in the folder that stands ready.")
def main(gigabytes: float, steps: int, files: int, parts: str, part: str | None) -> None:
    """Print a line of JSON for each part."""
    if part:
        found = {"encode": encode, "train": lambda: train(steps), "folder": folder, "vocabulary": vocabulary}
        print(json.dumps({"part": part, **(noise() if part == "noise" else found[part]())}))
        return
    root = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        make(int(gigabytes * 1e9), files)
        for name in parts.split(","):
            command = [sys.executable, "-m", "benchmarks.scale", "--part", name, "--steps", str(steps)]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": root})


def make(size: int, files: int) -> None:
    """Write the texts that the parts read."""
    from chargen.text.builtin_corpora import read_source

    rng = random.Random(0)
    lines = read_source("python-source").text.splitlines(keepends=True)
    with open("long.txt", "w", encoding="utf-8") as file:
        while file.tell() < size:
            file.write("".join(rng.choices(lines, k=20_000)))
    Path("many").mkdir()
    for i in range(files):
        Path(f"many/{i:06}.txt").write_text("".join(rng.choices(lines, k=8)), encoding="utf-8")
    alphabet = [chr(c) for c in (*range(0x4E00, 0x4E00 + 4600), *range(0x1EA0, 0x1EFA), *range(0x1F300, 0x1F436))]
    weights = [1 / (rank + 3) for rank in range(len(alphabet))]
    Path("letters.txt").write_text(
        "\n".join("".join(rng.choices(alphabet, weights, k=40)) for _ in range(50_000)), encoding="utf-8"
    )
    Path("noise.txt").write_bytes(rng.randbytes(2_000_000))


def peak_mb() -> float:
    """Return the most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def encode() -> dict[str, Any]:
    """Read the long text, survey it, encode nine tenths of it."""
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


def train(steps: int) -> dict[str, Any]:
    """Train on the long text, with an eye on memory and on how long batches take."""
    from chargen.text.corpus import read_corpus
    from chargen.training import trainer
    from chargen.training import trainer as feed
    from chargen.training.run import Plan
    from chargen.training.run import train as run

    spent = {"batch": 0.0, "step": 0.0}

    def timed(owner: Any, name: str, key: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            try:
                return original(*args)
            finally:
                spent[key] += time.perf_counter() - begin

        setattr(owner, name, call)

    timed(feed.DeviceLoader, "get_batch", "batch")
    timed(trainer.Trainer, "train_step", "step")
    plan = Plan(read_corpus(["long.txt"]), "long", {"steps": steps}, model={"hidden_size": 256})
    resident: list[float] = []
    for report in run(plan):
        if report.to_json()["event"] == "progress":
            resident.append(_resident_mb())
    quarter = len(resident) // 4
    return {
        "data_share_of_step": spent["batch"] / spent["step"],
        "resident_mb_first_quarter": max(resident[:quarter]),
        "resident_mb_last_quarter": max(resident[-quarter:]),
        "peak_mb": peak_mb(),
    }


def folder() -> dict[str, Any]:
    """Read a folder of small files twice."""
    from chargen.text.corpus import read_corpus

    begin = time.perf_counter()
    first = read_corpus(["many"])
    seconds = time.perf_counter() - begin
    again = read_corpus(["many"])
    return {"files": first.files, "seconds": seconds, "same": first.sha256 == again.sha256, "peak_mb": peak_mb()}


def vocabulary() -> dict[str, Any]:
    """Train for 30 seconds on a text of about 5,000 characters; sample and score."""
    from chargen import load
    from chargen.text.corpus import read_corpus
    from chargen.training.run import Plan
    from chargen.training.run import train as run

    *_, finished = run(Plan(read_corpus(["letters.txt"]), "letters", {"budget_s": 30.0}))
    model = load("letters")
    begin = time.perf_counter()
    text = model.sample(length=500, seed=0)
    sample_s = time.perf_counter() - begin
    score = model.score(text[:100])
    found = finished.to_json()
    return {
        "vocabulary": model.tokenizer.vocab_size,
        "chars_per_s": found["chars_per_s"],
        "loss_nats_per_char": found["val_loss_nats_per_char"],
        "sample_500_s": sample_s,
        "score_bits_per_char": score.bits_per_char,
    }


def noise() -> dict[str, Any]:
    """Random bytes, called text in an encoding that takes any of them two by two, must be refused soon."""
    from chargen.errors import ChargenError
    from chargen.text.corpus import read_corpus
    from chargen.tokenizers.tokenizer import build_tokenizer

    data = random.Random(0).randbytes(4_000_000)
    text = "".join(
        chr(0x10000 + int.from_bytes(data[i : i + 3], "little") % 180_000) for i in range(0, len(data) - 3, 3)
    )
    Path("noise-letters.txt").write_text(text, encoding="utf-8")
    said = {}
    for name in ("noise.txt", "noise-letters.txt"):
        begin = time.perf_counter()
        try:
            build_tokenizer("char", read_corpus([name]).content.span())
            said[name] = "taken"
        except ChargenError as error:
            said[name] = f"{error.message} {error.hint} ({time.perf_counter() - begin:.1f} s)"
    return said


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
