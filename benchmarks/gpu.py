"""Measure chargen on a GPU with one command: training, adaptation, generation, agreement with a CPU, and its tests.

    python -m benchmarks.gpu --text tinyshakespeare.txt --out gpu-results

Each part (`gpu_parts.py`) runs in a process of its own with a time limit, the most important one first, so that an
error in a part does not affect the others. Its rows are read as they are measured: a part that reaches its time
limit keeps the rows that it has. The default sizes are chosen so that everything together takes about seven minutes on
an H100, of which three are the training run. After `--limit` seconds no further part is started.

The result folder gets `results.json`, with all rows, details and tracebacks, and `results.md`, a table that is also
printed at the end. The work folder gets a log file for each part. With `--device cpu` every part runs with small sizes;
its figures then mean nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu_parts import TIME_LIMITS_S, Row, Settings

ROOT = Path(__file__).parent.parent
DEFAULT_SECONDS = 180.0  #: the training time that the limit of the part "train" is for


@dataclass
class PartResult:
    """What a part has measured, and how its process ended."""

    name: str
    elapsed_s: float
    problem: str = ""  #: why the part is incomplete; empty if it is complete
    traceback: str = ""
    rows: list[Row] = field(default_factory=list)


@click.command()
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The corpus.")
@click.option("--out", default="gpu-results", show_default=True, type=click.Path(path_type=Path), help="Result folder.")
@click.option(
    "--work",
    default=Path(tempfile.gettempdir()) / "chargen-gpu",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the models, texts and logs that the parts make.",
)
@click.option(
    "--parts",
    default=",".join(TIME_LIMITS_S),
    show_default=True,
    help="Parts to run, in this order. 'adapted' needs the model of 'train' in the work folder.",
)
@click.option("--seconds", default=DEFAULT_SECONDS, show_default=True, help="Time budget of the part 'train'.")
@click.option("--options", default="", help="Additional options of `chargen train` for the part 'train'.")
@click.option("--limit", default=560.0, show_default=True, help="Time limit of all parts together, in seconds.")
@click.option(
    "--device", default="cuda", show_default=True, type=click.Choice(["cuda", "cpu"]), help="Device to measure."
)
def main(
    text: Path, out: Path, work: Path, parts: str, seconds: float, options: str, limit: float, device: str
) -> None:
    """Run the parts one after another, and print a table of what they have measured."""
    names = parts.split(",")
    unknown = set(names) - set(TIME_LIMITS_S)
    if unknown:
        raise click.BadParameter(f"no part {', '.join(sorted(unknown))}; there are {', '.join(TIME_LIMITS_S)}")
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(device, str(text.resolve()), str(work.resolve()), seconds, options)
    deadline = time.monotonic() + limit
    results = []
    for number, name in enumerate(names, 1):
        time_limit_s = TIME_LIMITS_S[name] + (seconds - DEFAULT_SECONDS if name == "train" else 0.0)
        remaining_s = deadline - time.monotonic()
        report(f"{number}/{len(names)} {name}: at most {max(0.0, min(time_limit_s, remaining_s)):.0f} s")
        results.append(run_part(name, settings, min(time_limit_s, remaining_s)))
        for row in results[-1].rows:
            report(f"    {row.what}: {format_value(row)}")
        report(f"    {results[-1].problem or 'done'}, {results[-1].elapsed_s:.1f} s")
        write_results(out, settings, results)
    print((out / "results.md").read_text(encoding="utf-8"), flush=True)


def report(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


def run_part(name: str, settings: Settings, time_limit_s: float) -> PartResult:
    """Run a part in a process of its own, and return the rows that it has measured."""
    if time_limit_s <= 0:
        return PartResult(name, 0.0, "not started: the time of all parts is used up")
    rows_path, log_path = (Path(settings.work) / f"{name}.{ending}" for ending in ("jsonl", "log"))
    rows_path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_parts", name, json.dumps(asdict(settings)), str(rows_path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONFAULTHANDLER": "1",  # a segmentation fault prints where it happened
        "CHARGEN_CACHE": str(Path(settings.work) / "cache"),
        "NUMBA_CACHE_DIR": str(Path(settings.work) / "cache" / "numba"),
    }
    start = time.perf_counter()
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            status = None
            end_group(process)
    result = PartResult(name, time.perf_counter() - start)
    if rows_path.exists():
        result.rows = [Row(**json.loads(line)) for line in rows_path.read_text(encoding="utf-8").splitlines()]
    if status is None:
        result.problem = f"stopped at its time limit of {time_limit_s:.0f} s"
    elif status:
        result.traceback = log_path.read_text(encoding="utf-8", errors="replace")[-6000:]
        errors = re.findall(r"^[\w.]+(?:Error|Exception|Interrupt)\b.*$", result.traceback, re.MULTILINE)
        fatal = re.findall(r"^Fatal Python error: (.*)$", result.traceback, re.MULTILINE)
        ended = f"exit status {status}" + "".join(f", {error}" for error in fatal[:1])
        result.problem = f"failed: {errors[-1][:300] if errors else ended}"
    return result


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and the processes that it has started; it was started in a session of its own."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, 9)
    else:
        process.kill()
    process.wait()


def write_results(out: Path, settings: Settings, results: list[PartResult]) -> None:
    """Write `results.json` and `results.md`."""
    values: dict[str, Any] = {"settings": asdict(settings), "parts": [asdict(result) for result in results]}
    (out / "results.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    (out / "results.md").write_text(format_table(results), encoding="utf-8")


def format_table(results: list[PartResult]) -> str:
    """Return a Markdown table with a row for each measured value, and one for each part that is incomplete."""
    lines = ["| part | what | measured | bar | met |", "|---|---|---|---|---|"]
    for result in results:
        for row in result.rows:
            lines.append(f"| {result.name} | {row.what} | {format_value(row)} | {format_bar(row)} | {is_met(row)} |")
        if result.problem:
            problem = result.problem.replace("|", "\\|")
            lines.append(f"| {result.name} | {problem} | | | no |")
    total_s = sum(result.elapsed_s for result in results)
    times = ", ".join(f"{result.name} {result.elapsed_s:.0f}" for result in results)
    return "\n".join([*lines, "", f"Seconds of each part: {times}; together {total_s:.0f}.", ""])


def format_value(row: Row) -> str:
    """Return the measured value with its unit."""
    return f"{format_number(row.value)} {row.unit}".strip()


def format_bar(row: Row) -> str:
    """Return the bar of a row; empty if it has none."""
    if row.bar is None or isinstance(row.bar, str):
        return row.bar or ""
    return f"{'≤' if row.is_upper else '≥'} {format_number(row.bar)}"


def is_met(row: Row) -> str:
    """Return "yes" or "no" for a row with a bar; empty for others."""
    if row.bar is None:
        return ""
    if isinstance(row.bar, str) or isinstance(row.value, str):
        return "yes" if row.value == row.bar else "no"
    return "yes" if (row.value <= row.bar if row.is_upper else row.value >= row.bar) else "no"


def format_number(value: float | str) -> str:
    """Return a value with as many digits as can be read in a table."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.5g}"


if __name__ == "__main__":
    main()
