"""Run a job: plan it or find it again, write the parts that are missing, and summarize. Read this file first.

    inputs ─▶ files ─▶ slices ─▶ parts without a file ─▶ engine ─▶ part-….parquet ─▶ summary
                         │                                  ▲
                    _job.json                 one process, or workers on a Ray cluster

The functions yield reports; nothing is printed here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from chargen.bulk.job import JOB_FILE, SUMMARY_FILE, Counts, Job, Part, new_job, open_job, part_numbers
from chargen.bulk.reading.slices import FilePlan
from chargen.bulk.storage import Folder, LocalFolder, find_inputs, open_folder
from chargen.bulk.summary import summarize
from chargen.bulk.task import Task
from chargen.bulk.worker import PartResult, WorkerSpec, read_result
from chargen.errors import ConfigError, CorpusError, StorageError
from chargen.io import to_json_line

HOW_TO_GO_ON = "Then run the same command again: it goes on where it stopped."


class BulkEngine(Protocol):
    """What plans the files and writes the parts of a job."""

    def plan(self, paths: Sequence[str], task: Task) -> Iterator[tuple[str, FilePlan | str]]:
        """Yield (path, plan or the reason why there is none) of each file, in any order."""

    def write(self, parts: Sequence[Part], spec: WorkerSpec) -> Iterator[PartResult]:
        """Yield the result of each part as soon as it is written, in any order."""

    def close(self) -> None:
        """End other processes."""


@dataclass(frozen=True)
class Planning:
    """Files are being read, to find their slices."""

    num_files: int
    num_planned: int


@dataclass(frozen=True)
class Writing:
    """Parts are being written."""

    num_parts: int
    num_finished: int  #: with those of earlier starts
    num_rows: int  #: rows of the parts that were written since this start
    num_chars: int
    elapsed_s: float  #: since the first of them was started


@dataclass(frozen=True)
class Finished:
    """The job has ended."""

    summary: dict[str, Any]


Report = Planning | Writing | Finished


def run_job(inputs: Sequence[str], output: str, task: Task, model_sha256: str, engine: BulkEngine) -> Iterator[Report]:
    """Run a job, and yield reports; the last one is Finished.

    Args:
        inputs: Files, folders, patterns and URLs.
        output: Folder of the output, a path or a URL.
        task: What is done with the rows.
        model_sha256: Hash of the model file.
        engine: What does the work. It is not closed.

    Raises:
        ConfigError: If the output folder contains another job.
        CorpusError: If no file can be read, or the files have no rows.
        StorageError: If the output cannot be written.
    """
    files = find_inputs(inputs)
    _check_output(inputs, output)
    folder = open_folder(output)
    if isinstance(folder, LocalFolder):  # a pattern such as 'data/*' also matches an output from an earlier start
        files = [file for file in files if not is_inside(file.path, folder.path)]
    new = new_job({**task.identity(), "model_sha256": model_sha256}, files)
    with folder.lock():
        folder.remove_partial_files()
        job = open_job(folder, new) or new
        job = yield from _plan(job, task, engine)
        data = job.to_bytes()
        folder.write(JOB_FILE, data)
        spec = WorkerSpec(task, folder.path, sha256(data).hexdigest(), job.fields)
        finished = _read_results(folder)
        yield from _write(job, folder, spec, engine, finished)


def _plan(job: Job, task: Task, engine: BulkEngine) -> Generator[Report, None, Job]:
    """Plan the files that have no plan, and return the job with their plans."""
    missing = [each.file.path for each in job.files if not each.plan.slices]
    plans: dict[str, FilePlan | str] = {}
    if missing:
        yield Planning(len(job.files), len(job.files) - len(missing))
        for path, plan in engine.plan(missing, task):
            plans[path] = plan
            yield Planning(len(job.files), len(job.files) - len(missing) + len(plans))
    job = job.with_plans(plans)
    failures = [each.failure for each in job.files if each.failure is not None]
    if len(failures) == len(job.files):
        message, _, hint = failures[0].partition("\n")
        others = f" And {len(failures) - 1:,} more cannot be read." if len(failures) > 1 else ""
        raise CorpusError(message, f"{hint}{others}".strip())
    if not any(each.plan.slices for each in job.files):
        raise CorpusError(f"there are no rows in {job.files[0].file.path}", "Name files that have text.")
    return job


def _write(
    job: Job, folder: Folder, spec: WorkerSpec, engine: BulkEngine, finished: dict[int, PartResult]
) -> Iterator[Report]:
    """Write the parts that are missing, and the summary."""
    parts = list(job.parts())
    started_s = time.monotonic()
    results = {part.number: finished[part.number] for part in parts if part.number in finished}
    missing = [part for part in parts if part.number not in results]
    written: list[PartResult] = []
    recent = Counts()
    yield Writing(len(parts), len(results), 0, 0, 0.0)
    for result in engine.write(missing, spec) if missing else ():
        if result.error and result.is_fatal:
            raise StorageError(result.error.where, f"{result.error.reason} {HOW_TO_GO_ON}".strip())
        results[result.number] = result
        written.append(result)
        recent = recent.plus(result.counts)
        num_chars = recent.chars + recent.generated_chars
        yield Writing(len(parts), len(results), recent.rows_read, num_chars, time.monotonic() - started_s)
    summary = summarize(job, folder.path, results.values(), written, time.monotonic() - started_s)
    folder.write(SUMMARY_FILE, f"{to_json_line(summary)}\n".encode())
    yield Finished(summary)


def _read_results(folder: Folder) -> dict[int, PartResult]:
    """Return the results of the parts that are there. A damaged part counts as missing, and is written again."""
    results = {}
    for name in folder.names():
        for number in part_numbers([name]):
            try:
                with folder.open(name) as stream:
                    results[number] = read_result(stream, name)
            except StorageError:
                continue
    return results


def is_inside(path: str, folder: str) -> bool:
    """Return whether a path is inside a folder, after links were followed."""
    inner, outer = os.path.realpath(path), os.path.realpath(folder)
    return inner != outer and os.path.commonpath([inner, outer]) == outer


def _check_output(inputs: Sequence[str], output: str) -> None:
    """Refuse an output folder inside a folder that is read, and an input that is named inside the output folder.

    Raises:
        ConfigError: If there is one.
    """
    folder = open_folder(output)
    if not isinstance(folder, LocalFolder):
        return
    if os.path.lexists(folder.path) and not os.path.isdir(folder.path):
        raise ConfigError(f"--out {output} is a file, not a folder", "Give the name of a folder.")
    for each in inputs:
        if os.path.exists(each) and is_inside(each, folder.path):
            raise ConfigError(f"{each} is inside the folder --out {output}", "Give another folder with --out.")
        if os.path.isdir(each) and (
            is_inside(folder.path, each) or os.path.realpath(each) == os.path.realpath(folder.path)
        ):
            raise ConfigError(f"--out {output} is inside the folder {each}, which is read", "Give a folder beside it.")
