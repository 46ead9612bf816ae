"""What a run and its files survive: kills at random moments, and files with random damage.

    python -m benchmarks.survival --kills 50 --mutations 10000 --schema 10000

A run that saves its state all the time is killed (SIGKILL) at a random moment after its folder was made; then its
training state is opened and trained on from, and its best model opened. A model's file is damaged at random; it must
be refused with a clear error or be the same model, bit for bit, and must not take more memory than twice its size.
Malformed files with correct checksums are `schema_attack.py`'s.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import click
import numpy as np

from benchmarks.schema_attack import attack_all
from chargen.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from chargen.config import ModelConfig
from chargen.errors import ModelError
from chargen.tokenizers.tokenizer import build_tokenizer

TEXT = "Trăm năm trong cõi người ta,\nChữ tài chữ mệnh khéo là ghét nhau.\n" * 400
OVERHEAD = 1 << 18  #: bytes that opening any file takes: parsed JSON, error messages
SLOW_S = 2.0  #: longer is called a hang


@click.command()
@click.option("--kills", default=50, show_default=True)
@click.option("--mutations", default=10_000, show_default=True)
@click.option("--schema", default=0, show_default=True, help="Malformed files with correct checksums, of each kind.")
@click.option("--seed", default=0, show_default=True)
def main(kills: int, mutations: int, schema: int, seed: int) -> None:
    """Kill runs and damage files; print what came of it."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("verse.txt").write_text(TEXT, encoding="utf-8")
        results = [killed(f"run{i}", rng) for i in range(kills)]
        if kills:
            mid_write = sum(partial for _, partial in results)
            print(
                f"{kills} kills, {mid_write} of them while a file was written:", sum(ok for ok, _ in results), "resumed"
            )
        if mutations:
            print(f"{mutations:,} damaged files:", damaged(mutations, np.random.default_rng(seed)))
        if schema:
            for kind, outcome in attack_all(schema, seed, TEXT[:4000], Path()).items():
                print(f"{schema:,} × {kind}: {outcome}")
                for failure in outcome.failures[:20]:
                    print(f"  {failure}")


def killed(name: str, rng: random.Random) -> tuple[bool, bool]:
    """Kill a run; return (whether it could be resumed with its best model whole, whether a file was being written)."""
    command = [sys.executable, "-m", "chargen", "train", "verse.txt", "--name", name, "--steps", "100000"]
    process = subprocess.Popen(
        [*command, "--hidden", "384", "--save-every", "0.02s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    run = Path("checkpoints") / name
    while not (run / "training_state.safetensors").exists():
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended before it was killed")
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 3.0))
    process.kill()
    process.wait()
    partial = bool(list(run.glob(".*.part")))
    try:
        _, described = load_tensors(run / "training_state.safetensors")
        if (run / "model.safetensors").exists():
            load_checkpoint(run / "model.safetensors")
    except ModelError as error:
        print(f"{name}: {error}")
        return False, partial
    steps = described["trainer"]["step"] + 3
    resumed = subprocess.run(
        [sys.executable, "-m", "chargen", "train", "--resume", name, "--stop-after", str(steps)], capture_output=True
    )
    if resumed.returncode != 130:
        print(f"{name}: {resumed.stderr.decode()}")
    return resumed.returncode == 130, partial


def damaged(count: int, rng: np.random.Generator) -> str:
    """Damage a model's file in `count` ways; return what came of it, in words."""
    path, copy = Path("whole.safetensors"), Path("damaged.safetensors")
    tokenizer = build_tokenizer("char", TEXT)
    config = ModelConfig(tokenizer.vocab_size, hidden_size=16, embedding_dim=8)
    from chargen.cells.weights import parameter_shapes
    from chargen.checkpoint import Checkpoint

    weights = {n: rng.normal(size=shape).astype(np.float32) for n, shape in parameter_shapes(config).items()}
    checkpoint = Checkpoint(config, tokenizer, weights, {})  # masks the ids that cannot come
    save_checkpoint(path, checkpoint)
    whole, same, refused, worst, slowest = path.read_bytes(), 0, 0, 0, 0.0
    for _ in range(count):
        data = mutated(whole, rng)
        copy.write_bytes(data)
        tracemalloc.start()
        begin = time.perf_counter()
        try:
            found = load_checkpoint(copy)
        except ModelError:
            refused += 1
        else:
            if any(not np.array_equal(found.weights[name], weight) for name, weight in checkpoint.weights.items()):
                raise RuntimeError("a damaged file was taken for a model")
            same += 1
        slowest = max(slowest, time.perf_counter() - begin)
        worst = max(worst, tracemalloc.get_traced_memory()[1] - 2 * len(data))
        tracemalloc.stop()
    hangs = "a hang" if slowest > SLOW_S else "no hang"
    large = "too large an allocation" if worst > OVERHEAD else "no large allocation"
    return f"{refused:,} refused, {same:,} the same model, no crash, {hangs} (longest {slowest:.3f} s), {large}"


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """Return a file's bytes with damage: bits, bytes, pieces lost, doubled or moved, numbers in the header changed."""
    data = bytearray(whole)
    header = int.from_bytes(whole[:8], "little")
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(7))
        place = int(rng.integers(8 + header if rng.random() < 0.5 else len(data)))
        size = int(rng.integers(1, 64))
        if kind == 0:
            data[place % len(data)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[place : place + size] = rng.bytes(size)
        elif kind == 2:
            del data[place : place + size]
        elif kind == 3:
            data[place:place] = data[place : place + size]
        elif kind == 4:
            del data[place:]
        elif kind == 5:
            data[:8] = int(rng.integers(1 << 62)).to_bytes(8, "little")
        else:
            digits = [i for i in range(8, min(8 + header, len(data))) if 48 <= data[i] <= 57]
            if digits:
                data[digits[int(rng.integers(len(digits)))]] = int(rng.integers(48, 58))
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


if __name__ == "__main__":
    main()
