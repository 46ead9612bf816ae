"""Check what a training run and its files survive: kills at random moments, and random damage to files.

    python -m benchmarks.survival --kills 50 --mutations 10000 --schema 10000

Kills: a run that saves its state continuously is killed (SIGKILL) at a random moment after its first training state was
written. Then its best model is opened, and the run is resumed for a few steps. Mutations: a model file is damaged at
random. Opening it must end in a clear error or give the same model, bit for bit, and must not take more memory than
twice the size of the file. `schema_attack.py` makes malformed files with correct checksums.
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
OVERHEAD_BYTES = 1 << 18  #: memory that opening any file takes: parsed JSON, error messages
MAX_SECONDS = 2.0  #: opening a file that takes longer counts as a hang


@click.command()
@click.option("--kills", default=50, show_default=True, help="Number of runs to kill.")
@click.option("--mutations", default=10_000, show_default=True, help="Number of damaged model files.")
@click.option(
    "--schema", default=0, show_default=True, help="Number of malformed files with correct checksums, for each kind."
)
@click.option("--seed", default=0, show_default=True, help="Random seed.")
def main(kills: int, mutations: int, schema: int, seed: int) -> None:
    """Kill runs and damage files; print the outcomes."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("verse.txt").write_text(TEXT, encoding="utf-8")
        results = [kill_and_resume(f"run{i}", rng) for i in range(kills)]
        if kills:
            num_resumed = sum(is_resumed for is_resumed, _ in results)
            num_writing = sum(was_writing for _, was_writing in results)
            print(f"{kills} kills, {num_writing} of them while a file was written: {num_resumed} resumed")
        if mutations:
            print(f"{mutations:,} damaged files:", open_damaged_files(mutations, np.random.default_rng(seed)))
        if schema:
            for kind, outcome in attack_all(schema, seed, TEXT[:4000], Path()).items():
                print(f"{schema:,} × {kind}: {outcome}")
                for failure in outcome.failures[:20]:
                    print(f"  {failure}")


def kill_and_resume(name: str, rng: random.Random) -> tuple[bool, bool]:
    """Kill a run, open its best model, and resume it.

    Args:
        name: Name of the run.
        rng: Chooses the moment of the kill.

    Returns:
        (whether the model was intact and the run could be resumed, whether it was killed while it wrote a file).
    """
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
    was_writing = bool(list(run.glob(".*.part")))
    try:
        _, described = load_tensors(run / "training_state.safetensors")
        if (run / "model.safetensors").exists():
            load_checkpoint(run / "model.safetensors")
    except ModelError as error:
        print(f"{name}: {error}")
        return False, was_writing
    steps = described["trainer"]["step"] + 3
    resumed = subprocess.run(
        [sys.executable, "-m", "chargen", "train", "--resume", name, "--stop-after", str(steps)], capture_output=True
    )
    if resumed.returncode != 130:
        print(f"{name}: {resumed.stderr.decode()}")
    return resumed.returncode == 130, was_writing


def open_damaged_files(count: int, rng: np.random.Generator) -> str:
    """Open damaged copies of a model file.

    Args:
        count: Number of copies.
        rng: Chooses the damage.

    Returns:
        The outcomes in words.

    Raises:
        RuntimeError: If a damaged file gives another model.
    """
    path = Path("whole.safetensors")
    copy = Path("damaged.safetensors")
    tokenizer = build_tokenizer("char", TEXT)
    config = ModelConfig(tokenizer.vocab_size, hidden_size=16, embedding_dim=8)
    from chargen.cells.weights import parameter_shapes
    from chargen.checkpoint import Checkpoint

    weights = {n: rng.normal(size=shape).astype(np.float32) for n, shape in parameter_shapes(config).items()}
    checkpoint = Checkpoint(config, tokenizer, weights, {})  # masks the ids that cannot occur
    save_checkpoint(path, checkpoint)
    original = path.read_bytes()
    num_same = 0
    num_refused = 0
    max_extra_bytes = 0
    longest_s = 0.0
    for _ in range(count):
        data = damage(original, rng)
        copy.write_bytes(data)
        tracemalloc.start()
        begin = time.perf_counter()
        try:
            loaded = load_checkpoint(copy)
        except ModelError:
            num_refused += 1
        else:
            if any(not np.array_equal(loaded.weights[name], weight) for name, weight in checkpoint.weights.items()):
                raise RuntimeError("a damaged file was opened as another model")
            num_same += 1
        longest_s = max(longest_s, time.perf_counter() - begin)
        max_extra_bytes = max(max_extra_bytes, tracemalloc.get_traced_memory()[1] - 2 * len(data))
        tracemalloc.stop()
    hang = "a hang" if longest_s > MAX_SECONDS else "no hang"
    memory = "too large an allocation" if max_extra_bytes > OVERHEAD_BYTES else "no large allocation"
    return (
        f"{num_refused:,} refused, {num_same:,} the same model, no crash, {hang} (longest {longest_s:.3f} s), {memory}"
    )


def damage(original: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes of a file with one to three random kinds of damage.

    A bit is flipped, bytes are overwritten, deleted or doubled, the end is cut off, or the length of the header or a
    digit in it is changed.
    """
    data = bytearray(original)
    header_size = int.from_bytes(original[:8], "little")
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(7))
        position = int(rng.integers(8 + header_size if rng.random() < 0.5 else len(data)))
        size = int(rng.integers(1, 64))
        if kind == 0:
            data[position % len(data)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[position : position + size] = rng.bytes(size)
        elif kind == 2:
            del data[position : position + size]
        elif kind == 3:
            data[position:position] = data[position : position + size]
        elif kind == 4:
            del data[position:]
        elif kind == 5:
            data[:8] = int(rng.integers(1 << 62)).to_bytes(8, "little")
        else:
            digits = [i for i in range(8, min(8 + header_size, len(data))) if 48 <= data[i] <= 57]
            if digits:
                data[digits[int(rng.integers(len(digits)))]] = int(rng.integers(48, 58))
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


if __name__ == "__main__":
    main()
