"""Write the parts of a job: read a slice, run the task, and write the result atomically.

A worker has the model in memory, and one open file. It writes each part itself, under the name that the part has in the
job. So a part that is written twice, because a worker was lost or a job was started again, has the same name and the
same content: nothing is lost, and nothing is doubled.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chargen.bulk.job import JOB_FILE, Counts, Part
from chargen.bulk.reading.rows import open_rows
from chargen.bulk.reading.slices import Failure, FilePlan, Rows, RowSource, take_rows
from chargen.bulk.storage import check_unchanged, open_folder
from chargen.bulk.task import Output, Task
from chargen.errors import ChargenError, ConfigError, StorageError, TokenizerError
from chargen.registry import import_extra

if TYPE_CHECKING:
    from chargen.lm import LanguageModel

METADATA_KEY = b"chargen"
MAX_FAILURES = 100  #: failed rows of a part that are named; all are counted


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs besides the model."""

    task: Task
    output: str  #: folder of the output
    job_sha256: str  #: SHA-256 of the file of the job, by which a worker recognises the folder
    fields: Mapping[str, str] = field(default_factory=dict)  #: the fields of the JSON lines of all files: name → kind


@dataclass(frozen=True)
class PartResult:
    """The result of a part that is written, or why it is not."""

    number: int
    counts: Counts = Counts()
    failures: tuple[Failure, ...] = ()  #: rows that could not be read
    error: Failure | None = None  #: why the part is not written; the other parts can still be
    is_fatal: bool = False  #: whether no other part can be written, either: the disk is full

    def to_json(self) -> str:
        """Return the result as JSON."""
        error = self.error.to_json() if self.error else None
        return json.dumps({**asdict(self), "failures": [each.to_json() for each in self.failures], "error": error})

    @classmethod
    def from_json(cls, text: str | bytes) -> PartResult:
        """Return the result that `to_json` described."""
        value = json.loads(text)
        error = Failure.from_json(value["error"]) if value["error"] else None
        failures = tuple(Failure.from_json(each) for each in value["failures"])
        return cls(value["number"], Counts(**value["counts"]), failures, error, value["is_fatal"])


class PartWriter:
    """Writes parts with a model that was loaded once.

    Args:
        lm: The model.
        spec: What the job is.

    Raises:
        ConfigError: If the folder of the output is not that of the job on this machine.
    """

    def __init__(self, lm: LanguageModel, spec: WorkerSpec) -> None:
        from hashlib import sha256

        self._lm, self._spec = lm, spec
        self._folder = open_folder(spec.output)
        try:
            is_shared = sha256(self._folder.read(JOB_FILE)).hexdigest() == spec.job_sha256
        except StorageError:
            is_shared = False
        if not is_shared:
            raise ConfigError(
                f"a worker does not find the job in {spec.output}: its machine has another folder, or none",
                "Give a folder that all machines share, or a URL, with --out.",
            )
        self._source: tuple[str, RowSource] | None = None

    def write(self, part: Part) -> PartResult:
        """Write a part, and return what it contains. A part that cannot be written is a result with an error."""
        try:
            rows = self._read(part)
            output, rows = self._run(part, rows)
        except ChargenError as error:
            self.close()
            return PartResult(part.number, error=Failure.of(part.path, error.message))
        counts = replace(output.counts, rows_failed=len(rows.failures))
        result = PartResult(part.number, counts, tuple(rows.failures[:MAX_FAILURES]))
        try:
            self._folder.write(part.name, encode_part(rows, output, self._spec.task, result))
        except StorageError as error:
            return PartResult(part.number, error=Failure(error.message, error.hint), is_fatal=True)
        return result

    def _read(self, part: Part) -> Rows:
        if self._source is None or self._source[0] != part.path:
            self.close()
            task = self._spec.task
            self._source = part.path, open_rows(part.path, task.text_column, tuple(task.columns), self._spec.fields)
        try:
            rows = self._source[1].read(part.slice)
        except Exception:  # a file with other content gives errors of many types
            check_unchanged(part.file)
            raise
        check_unchanged(part.file)
        return rows

    def _run(self, part: Part, rows: Rows) -> tuple[Output, Rows]:
        """Run the task; rows that the model cannot read become failures."""
        numbers = [part.first_row + number for number in rows.numbers]
        try:
            return self._spec.task.run(self._lm, rows.texts, numbers), rows
        except TokenizerError:
            rows = _without_unreadable(self._lm, part.path, rows)
            numbers = [part.first_row + number for number in rows.numbers]
            return self._spec.task.run(self._lm, rows.texts, numbers), rows

    def close(self) -> None:
        """Close the file that is open."""
        if self._source is not None:
            self._source[1].close()
            self._source = None


def _without_unreadable(lm: LanguageModel, path: str, rows: Rows) -> Rows:
    """Return the rows whose texts the tokenizer of a model can encode; the others are failures."""
    kept: list[int] = []
    failures = list(rows.failures)
    for k, text in enumerate(rows.texts):
        try:
            lm.tokenizer.encode(lm.checkpoint.reorder(lm.checkpoint.normalize(text or "")))
            kept.append(k)
        except TokenizerError as error:
            failures.append(Failure(f"{path}, row {rows.numbers[k] + 1:,}", error.message))
    texts, numbers = [rows.texts[k] for k in kept], [rows.numbers[k] for k in kept]
    return Rows(take_rows(rows.table, kept), texts, numbers, failures)


def encode_part(rows: Rows, output: Output, task: Task, result: PartResult) -> bytes:
    """Return the Parquet file of a part: the columns of the rows, and the added ones."""
    arrow = import_extra("pyarrow", "parquet", "bulk work")
    parquet = import_extra("pyarrow.parquet", "parquet", "bulk work")
    table = rows.table
    if list(output.rows) != list(range(table.num_rows)):
        table = take_rows(table, output.rows)
    for name, kind in task.columns.items():
        table = table.append_column(name, arrow.array(output.columns[name], arrow.type_for_alias(kind)))
    metadata = {**(table.schema.metadata or {}), METADATA_KEY: result.to_json().encode()}
    sink = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()


def read_result(stream: Any, where: str) -> PartResult:
    """Return the result that a part contains.

    Args:
        stream: The open file of the part.
        where: Its name, for the error message.

    Raises:
        StorageError: If it is damaged.
    """
    arrow = import_extra("pyarrow", "parquet", "bulk work")
    parquet = import_extra("pyarrow.parquet", "parquet", "bulk work")
    try:
        metadata = parquet.read_schema(stream).metadata or {}
        return PartResult.from_json(metadata[METADATA_KEY])
    except (arrow.lib.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{where} is damaged ({error})", "Remove this file, and start the job again: it is written again."
        ) from error


def plan_file(path: str, task: Task) -> FilePlan | str:
    """Return the plan of a file, or why it cannot be read: the message and the hint on two lines."""
    source = open_rows(path, task.text_column, tuple(task.columns))
    try:
        return source.plan()
    except ChargenError as error:
        return str(error)
    finally:
        source.close()
