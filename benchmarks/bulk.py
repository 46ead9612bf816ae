"""Throughput and memory of `chargen bulk score`: Ray workers with a core each, against one process with threads.

    python -m benchmarks.bulk MODEL TEXT --lines 1000000 --workers 2

Lines are drawn from TEXT with a fixed seed; a number is added to each, so that no line is scored from the cache. Both
engines run in processes of their own, one after the other, on the same number of cores. The output must be the same to
the byte. Memory is the largest resident set of a single worker process, read from /proc while the job runs. Files are
written into a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SAMPLE_EVERY_S = 0.5


def write_lines(text: Path, count: int, target: Path) -> int:
    """Write a number of lines drawn from a text, and return the number of their characters."""
    lines = [line for line in text.read_text(encoding="utf-8").splitlines() if line]
    rng = random.Random(0)
    drawn = [f"{rng.choice(lines)} {number % 1000}" for number in range(count)]
    target.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    return sum(map(len, drawn))


class WorkerMemory(threading.Thread):
    """Samples the resident memory of the worker processes of a job, and keeps the largest."""

    def __init__(self, process_id: int, name: str) -> None:
        super().__init__(daemon=True)
        self._process_id, self._name = process_id, name
        self._stop_event = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        """Sample until `stop` is called."""
        while not self._stop_event.wait(SAMPLE_EVERY_S):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self._read(entry)

    def stop(self) -> int:
        """Stop, and return the largest resident memory in bytes."""
        self._stop_event.set()
        self.join()
        return self.peak_bytes

    def _read(self, entry: Path) -> None:
        try:
            is_worker = entry.name == str(self._process_id) if not self._name else None
            if is_worker is None:
                is_worker = self._name in (entry / "cmdline").read_text(errors="replace")
            status = (entry / "status").read_text() if is_worker else ""
        except OSError:  # the process has ended
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)


def run_engine(model: str, lines: Path, out: Path, words: list[str], worker: str) -> dict[str, Any]:
    """Run a job, and return its summary with the whole time and the memory of a worker."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "chargen", "bulk", "score", str(lines), "-m", model, "--out", str(out), "--json"]
    process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
    memory = WorkerMemory(process.pid, worker)
    memory.start()
    result, _ = process.communicate()
    peak = memory.stop()
    if process.returncode:
        raise SystemExit(f"the job ended with status {process.returncode}")
    return {**json.loads(result), "whole_s": time.perf_counter() - start, "worker_peak_bytes": peak}


ENGINES = {"local": (["--engine", "local", "--threads"], ""), "ray": (["--engine", "ray", "--workers"], "RayWriter")}


def measure(engine: str, model: str, workers: int, folder: Path) -> dict[str, Any]:
    """Run a job with an engine on a number of cores, and return its figures."""
    words, worker = ENGINES[engine]
    found = run_engine(model, folder / "lines.txt", folder / engine, [*words, str(workers)], worker)
    return {
        "engine": engine,
        "elapsed_s": round(found["elapsed_s"], 1),
        "whole_s": round(found["whole_s"], 1),
        "chars_per_s": round(found["chars_per_s"]),
        "rows_per_s": round(found["rows_per_s"]),
        "rows_written": found["rows_written"],
        "worker_peak_gb": round(found["worker_peak_bytes"] / 1e9, 3),
    }


def are_equal(first: Path, second: Path) -> bool:
    """Return whether two folders have the same parts with the same content."""
    parts = [sorted(folder.glob("part-*")) for folder in (first, second)]
    return [part.name for part in parts[0]] == [part.name for part in parts[1]] and all(
        one.read_bytes() == two.read_bytes() for one, two in zip(*parts, strict=True)
    )


def main() -> None:
    """Run the engines and print their figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engines", default="local,ray", help="engines to run, separated by commas")
    parser.add_argument("--folder", type=Path, help="folder that is kept, to run the engines one by one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "lines.txt").exists():
            write_lines(args.text, args.lines, folder / "lines.txt")
        for engine in args.engines.split(","):
            print(json.dumps(measure(engine, args.model, args.workers, folder)), flush=True)
        if all((folder / engine).exists() for engine in ENGINES):
            print(json.dumps({"identical": are_equal(folder / "local", folder / "ray")}))


if __name__ == "__main__":
    main()
