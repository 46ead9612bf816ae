"""A job that is written to its folder is found again, with the files that it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargen.bulk.job import JOB_FILE, PlannedFile, new_job, open_job
from chargen.bulk.reading.slices import Failure, FilePlan, Slice
from chargen.bulk.storage import InputFile, LocalFolder
from chargen.bulk.worker import PartResult
from chargen.schema import parse_json

NOT_UTF8 = "caf\udce9"  #: a name with the byte E9, as Python reads it from the disk
NAMES: dict[str, str] = {
    "plain": "a.txt",
    "Vietnamese": "Truyện Kiều.txt",
    "percent": "100%25.txt",
    "newline": "a\nb.txt",
    "not UTF-8": f"{NOT_UTF8}.txt",
    "long": "/".join(["\udce9" * 240] * 16),  # a path of almost 4,000 bytes
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_job_is_found_again_with_its_files(tmp_path: Path, kind: str) -> None:
    name = NAMES[kind]
    good, broken = InputFile(f"/in/{name}", 3, "1"), InputFile(f"/broken/{name}", 4, "2")
    new = new_job({"command": "bulk score"}, [good, broken])
    plan = FilePlan((Slice(0, 1, 0, 3),), fields={"text": "text"})
    job = new.with_plans({good.path: plan, broken.path: f"{broken.path} has no column 'text'\nName the column."})
    folder = LocalFolder(str(tmp_path))
    folder.write(JOB_FILE, job.to_bytes())
    found = open_job(folder, new)
    assert found is not None
    assert found.identity == job.identity
    assert found.files == (PlannedFile(good, 0, 0, plan), PlannedFile(broken))  # a file that failed is planned again
    described = parse_json(folder.read(JOB_FILE))["files"][1]
    assert described["failure"].endswith("has no column 'text'\nName the column.")


@pytest.mark.parametrize("name", ["a.txt", f"{NOT_UTF8}.txt"])
def test_the_result_of_a_part_is_strict_json_and_can_be_read_again(name: str) -> None:
    result = PartResult(3, failures=(Failure(f"/in/{name}, line 2", "is no object"),), error=Failure(name, "is gone"))
    described = parse_json(result.to_json())
    assert described["failures"][0]["where"].startswith("\0") == (NOT_UTF8 in name)
    found = PartResult.from_json(result.to_json())
    assert found == result
    assert found.failures[0].to_line() == f"/in/{name}, line 2: is no object"


def test_a_reason_that_names_a_file_whose_name_is_not_utf8_is_readable() -> None:
    values = Failure("a", f"is not {NOT_UTF8}").to_json()
    assert values == {"where": "a", "reason": "is not caf\\udce9"}
