"""A job on disk: what it is, which slices it has, and which of them are finished.

    OUTPUT/_job.json             what the job is: inputs, model, settings, and the slices of each file
    OUTPUT/part-000017.parquet   the rows of slice 17; its metadata has the counts of the slice
    OUTPUT/_summary.json         the counts of the whole job, after its end

Names that start with "_" are ignored by programs that read a folder of Parquet files. A part that is there is complete,
because it is written atomically. So a job that was stopped goes on with the slices that have no part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import chargen
from chargen.bulk.reading.json_fields import merge_fields
from chargen.bulk.reading.slices import Failure, FilePlan, Slice
from chargen.bulk.storage import Folder, InputFile
from chargen.errors import ConfigError
from chargen.io import escape_surrogates
from chargen.schema import Boolean, Integer, ListOf, Nullable, Record, Spec, String, format_count, parse_json

JOB_FILE, SUMMARY_FILE = "_job.json", "_summary.json"
PART_NAME = re.compile(r"part-(\d{6,})\.parquet")
JOB_FORMAT = 1
NEW_FOLDER = "Give another folder with --out, or remove this one."
MAX_PATH_CHARS = 40_000  #: a path has up to 4,096 bytes on Linux, and each may become an escape of 3 characters

FILE_SPEC = Record(
    {
        "path": String(MAX_PATH_CHARS),
        "size_bytes": Integer(),
        "version": String(1_000),
        "first_part": Integer(),
        "first_row": Integer(),
        "is_sequential": Boolean(),
        "slices": ListOf(ListOf(Integer(), 4, 4), high=10**8),
        "fields": Record(),
        "failure": Nullable(String(100_000)),
    }
)
JOB_SPEC: Spec = Record(
    {"format": Integer(1, JOB_FORMAT), "identity": Record(), "files": ListOf(FILE_SPEC, high=10**8)}
)


@dataclass(frozen=True)
class PlannedFile:
    """A file of a job, with its slices."""

    file: InputFile
    first_part: int = 0  #: number of its first part
    first_row: int = 0  #: number of rows of the job before its first row
    plan: FilePlan = FilePlan()
    failure: str | None = None  #: why it cannot be read

    @property
    def num_rows(self) -> int:
        """Number of its rows, with those that cannot be read."""
        return sum(part.num_rows for part in self.plan.slices)

    def to_json(self) -> dict[str, Any]:
        """Return the file as JSON values."""
        return {
            **self.file.to_json(),
            "first_part": self.first_part,
            "first_row": self.first_row,
            "is_sequential": self.plan.is_sequential,
            "slices": [[part.first_row, part.num_rows, part.start, part.end] for part in self.plan.slices],
            "fields": self.plan.fields,
            "failure": None if self.failure is None else escape_surrogates(self.failure),  # it names the file
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlannedFile:
        """Return the file that `to_json` described."""
        plan = FilePlan(tuple(Slice(*numbers) for numbers in value["slices"]), value["is_sequential"], value["fields"])
        return cls(InputFile.from_json(value), value["first_part"], value["first_row"], plan, value["failure"])


@dataclass(frozen=True)
class Part:
    """A part of the output: a slice of a file."""

    number: int
    file: InputFile  #: as it was when the job was planned
    first_row: int  #: number of rows of the job before those of its file
    slice: Slice
    is_sequential: bool = False  #: see `FilePlan`

    @property
    def path(self) -> str:
        """The path or the URL of the file that is read."""
        return self.file.path

    @property
    def name(self) -> str:
        """The name of the file of the part."""
        return f"part-{self.number:06}.parquet"


@dataclass(frozen=True)
class Job:
    """A job: what makes it this job and no other, and its files."""

    identity: Mapping[str, Any]
    files: tuple[PlannedFile, ...]

    def parts(self) -> Iterator[Part]:
        """Yield all parts, in the order of their numbers."""
        for each in self.files:
            for k, part in enumerate(each.plan.slices):
                yield Part(each.first_part + k, each.file, each.first_row, part, each.plan.is_sequential)

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the JSON lines of all files, with types that fit all of them."""
        return merge_fields(each.plan.fields for each in self.files)

    def failures(self) -> list[Failure]:
        """Return the files that cannot be read."""
        return [Failure.of(each.file.path, each.failure) for each in self.files if each.failure is not None]

    def with_plans(self, plans: Mapping[str, FilePlan | str]) -> Job:
        """Return the job with the plans of files that had none, or with the reasons why there is none.

        Their parts and rows get the numbers after those of all other files.
        """
        planned = [each for each in self.files if each.plan.slices]
        next_part = max((each.first_part + len(each.plan.slices) for each in planned), default=0)
        next_row = max((each.first_row + each.num_rows for each in planned), default=0)
        files = []
        for each in self.files:
            plan = plans.get(each.file.path)
            if isinstance(plan, str):
                each = replace(each, failure=plan)
            elif plan is not None:
                each = PlannedFile(each.file, next_part, next_row, plan)
                next_part, next_row = next_part + len(plan.slices), next_row + each.num_rows
            files.append(each)
        return Job(self.identity, tuple(files))

    def to_bytes(self) -> bytes:
        """Return the content of JOB_FILE."""
        value = {"format": JOB_FORMAT, "identity": self.identity, "files": [each.to_json() for each in self.files]}
        return json.dumps(value, ensure_ascii=True).encode()


def new_job(identity: Mapping[str, Any], files: Iterable[InputFile]) -> Job:
    """Return a job whose files have no plans yet."""
    versioned = json.loads(json.dumps({**identity, "chargen": chargen.__version__}))  # as it is read again
    return Job(versioned, tuple(PlannedFile(file) for file in files))


def open_job(folder: Folder, new: Job) -> Job | None:
    """Return the job of a folder if it is the same as a new one; None if the folder is empty.

    Files that could not be read before may have changed since; they have no plan in the job that is returned.

    Raises:
        ConfigError: If the folder contains another job, or something else.
        StorageError: If it cannot be read.
    """
    names = folder.names()
    if JOB_FILE not in names:
        others = sorted(name for name in names if not name.startswith("."))
        if others:
            raise ConfigError(f"{folder.path} is not empty, and contains no job: there is {others[0]!r}", NEW_FOLDER)
        return None
    try:
        value = parse_json(folder.read(JOB_FILE))
        JOB_SPEC.check(value, "job")
    except ConfigError as error:
        raise ConfigError(f"{folder.path}/{JOB_FILE} is damaged ({error.message})", NEW_FOLDER) from error
    job = Job(value["identity"], tuple(PlannedFile.from_json(each) for each in value["files"]))
    difference = _difference(job, new)
    if difference:
        raise ConfigError(f"{folder.path} contains the parts of another job: {difference}", NEW_FOLDER)
    current = {each.file.path: each.file for each in new.files}
    files = (each if each.failure is None else PlannedFile(current[each.file.path]) for each in job.files)
    return Job(job.identity, tuple(files))


def _difference(old: Job, new: Job) -> str:
    """Return how two jobs differ, as a clause; "" if they are the same."""
    for name in {**new.identity, **old.identity}:
        before, now = old.identity.get(name), new.identity.get(name)
        if before != now:
            return f"{name.replace('_', ' ')} was {_shown(before)}, and is now {_shown(now)}"
    before_files = {each.file.path: each for each in old.files}
    now_files = {each.file.path: each.file for each in new.files}
    for verb, names in (
        ("is new", now_files.keys() - before_files.keys()),
        ("is missing", before_files.keys() - now_files.keys()),
    ):
        if names:
            others = f", and {format_count(len(names) - 1, 'other file')}" if len(names) > 1 else ""
            return f"the input {min(names)} {verb}{others}"
    for path, each in before_files.items():
        if each.failure is None and each.file != now_files[path]:
            return f"the input {path} has changed since"
    return ""


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"


def part_numbers(names: Iterable[str]) -> set[int]:
    """Return the numbers of the parts among the names of a folder."""
    return {int(match[1]) for name in names if (match := PART_NAME.fullmatch(name))}


@dataclass(frozen=True)
class Counts:
    """What a part, or all parts together, contain."""

    rows_read: int = 0  #: rows of the input, without those that failed
    rows_written: int = 0
    rows_failed: int = 0
    null_texts: int = 0  #: rows whose text is null
    chars: int = 0  #: characters of the texts that were scored
    unknown_chars: int = 0
    log_prob_nats: float = 0.0  #: sum of the log probabilities of all scored texts, in nats
    generated_chars: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum of two counts."""
        return Counts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))
