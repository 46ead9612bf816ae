"""The summary of a job: counts, throughput and failures, as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from chargen.bulk.job import Counts, Job
from chargen.bulk.reading.slices import Failure
from chargen.bulk.worker import PartResult
from chargen.config import LN2
from chargen.io import encode_file_name

MAX_NAMED_FAILURES = 1_000


def summarize(
    job: Job, output: str, results: Iterable[PartResult], written: Sequence[PartResult], elapsed_s: float
) -> dict[str, Any]:
    """Return the summary of a job. Names of files that are not UTF-8 are encoded (`io.encode_file_name`).

    Args:
        job: The job.
        output: The folder of its output.
        results: The results of all its parts.
        written: Those that were written since the job was started this time.
        elapsed_s: The time since then, in seconds.
    """
    total, recent = Counts(), Counts()
    files = job.failures()
    rows: list[Failure] = []
    unwritten: list[Failure] = []
    for result in results:
        total = total.plus(result.counts)
        unwritten += [result.error] if result.error else []
        rows += result.failures[: max(0, MAX_NAMED_FAILURES - len(rows))]
    for result in written:
        recent = recent.plus(result.counts)
    num_chars = recent.chars + recent.generated_chars
    return {
        "output": encode_file_name(output),
        "is_complete": not (unwritten or files),
        "files": len(job.files),
        "files_failed": len(files),
        "parts": sum(len(each.plan.slices) for each in job.files),
        "parts_unwritten": len(unwritten),
        **asdict(total),
        "bits_per_char": (0.0 - total.log_prob_nats) / LN2 / total.chars if total.chars else None,
        "elapsed_s": elapsed_s,
        "parts_written_now": sum(each.error is None for each in written),
        "chars_per_s": num_chars / elapsed_s if elapsed_s else None,
        "rows_per_s": recent.rows_read / elapsed_s if elapsed_s else None,
        "failures": [each.to_json() for each in dict.fromkeys([*files, *unwritten, *rows])][:MAX_NAMED_FAILURES],
    }
