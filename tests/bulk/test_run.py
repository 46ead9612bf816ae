"""A job is the same whether it runs at once or is stopped anywhere, and another job's folder is refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from chargen.bulk.local_engine import LocalEngine
from chargen.bulk.run import Finished, Report, Writing, run_job
from chargen.bulk.sample_rows import SampleTask
from chargen.bulk.score_rows import ScoreTask
from chargen.bulk.storage import RemoteFolder, find_inputs
from chargen.bulk.task import Task
from chargen.errors import ChargenError, ConfigError, CorpusError, StorageError
from chargen.lm import LanguageModel
from tests.conftest import VERSE, random_model

HASH = "0" * 64
LINES = [f"{line} {n}" for n in range(12) for line in VERSE.splitlines()]


@pytest.fixture
def lm() -> LanguageModel:
    return LanguageModel(random_model(), "cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with three files of several slices each."""
    monkeypatch.chdir(tmp_path)
    for module in ("line_rows", "table_rows", "parquet_rows"):
        monkeypatch.setattr(f"chargen.bulk.reading.{module}.MAX_SLICE_ROWS", 8)
    monkeypatch.setattr("chargen.bulk.reading.line_rows.READ_BYTES", 64)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("\n".join(LINES))
    (tmp_path / "in" / "b.csv").write_text("id,text\n" + "".join(f'{n},"{line}"\n' for n, line in enumerate(LINES)))
    pyarrow.parquet.write_table(pyarrow.table({"text": LINES, "id": range(len(LINES))}), tmp_path / "in" / "c.parquet")
    return tmp_path


def run(lm: LanguageModel, task: Task, out: str = "out", inputs: tuple[str, ...] = ("in",)) -> dict[str, Any]:
    return list_reports(lm, task, out, inputs)[-1].summary


def list_reports(lm: LanguageModel, task: Task, out: str, inputs: tuple[str, ...]) -> list[Any]:
    reports: list[Report] = list(run_job(inputs, out, task, HASH, LocalEngine(lm)))
    assert isinstance(reports[-1], Finished)
    return reports


def parts(out: str = "out") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("part-*.parquet"))}


def rows(out: str = "out") -> list[dict[str, Any]]:
    return [row for path in sorted(Path(out).glob("part-*")) for row in pyarrow.parquet.read_table(path).to_pylist()]


def test_the_scores_are_those_of_the_model_and_all_columns_are_kept(lm: LanguageModel, folder: Path) -> None:
    summary = run(lm, ScoreTask())
    found = rows()
    assert [row["text"] for row in found] == LINES * 3
    for row, score in zip(found, lm.score([row["text"] for row in found]), strict=True):
        assert row["log_prob_nats"] == pytest.approx(score.log_prob_nats, abs=1e-4)
        assert row["bits_per_char"] == pytest.approx(score.bits_per_char, abs=1e-5)
        assert (row["chars"], row["unknown_chars"]) == (score.chars, score.unknown_chars)
    assert [row["id"] for row in found if "id" in row] == [*map(str, range(36)), *range(36)]
    assert summary["rows_read"] == summary["rows_written"] == 108
    assert summary["chars"] == 3 * sum(map(len, LINES))
    assert summary["is_complete"]
    assert json.loads(Path("out/_summary.json").read_text()) == summary


class StoppedError(Exception):
    """The process ends here."""


def stop_after(count: int, lm: LanguageModel, task: Task) -> None:
    """Run a job until some parts are written, and end as a process that is killed does."""
    reports = run_job(("in",), "out", task, HASH, LocalEngine(lm))
    for report in reports:
        if isinstance(report, Writing) and report.num_finished >= count:
            break
    reports.close()  # type: ignore[attr-defined]
    (Path("out") / f".part-000099.parquet.00000000-{2**30}.part").write_bytes(b"what was being written")


@pytest.mark.parametrize("task", [ScoreTask(), SampleTask(number=2, settings={"length": 9, "seed": 1})])
def test_a_job_that_is_stopped_anywhere_gives_the_same_parts(lm: LanguageModel, folder: Path, task: Task) -> None:
    run(lm, task, "whole")
    expected = parts("whole")
    assert len(expected) >= 12
    for count in (0, 1, 5, len(expected) - 1):
        stop_after(count, lm, task)
        assert len(parts()) == count if count == 0 else len(parts()) >= count
        before = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("part-*")}
    summary = run(lm, task)
    assert parts() == expected
    assert all(Path("out", name).stat().st_mtime_ns == time for name, time in before.items())
    assert summary["parts_written_now"] == len(expected) - len(before)
    assert {key: summary[key] for key in ("rows_read", "rows_written", "chars")} == {
        key: json.loads(Path("whole/_summary.json").read_text())[key] for key in ("rows_read", "rows_written", "chars")
    }
    assert run(lm, task)["parts_written_now"] == 0


def test_a_damaged_part_is_written_again(lm: LanguageModel, folder: Path) -> None:
    run(lm, ScoreTask())
    expected = parts()
    Path("out/part-000003.parquet").write_bytes(b"PAR1 damaged")
    assert run(lm, ScoreTask())["parts_written_now"] == 1
    assert parts() == expected


def change_text(folder: Path) -> None:
    (folder / "in" / "a.txt").write_text("another text\n")


def add_file(folder: Path) -> None:
    (folder / "in" / "d.txt").write_text("more\n")


DIFFERENCES = {
    "task": (lambda folder: None, ScoreTask(keep_below=3.0), "keep below was null, and is now 3.0"),
    "kind": (lambda folder: None, SampleTask(), 'command was "bulk score", and is now "bulk sample"'),
    "input": (change_text, ScoreTask(), "a.txt has changed since"),
    "new file": (add_file, ScoreTask(), "d.txt is new"),
    "removed": (lambda folder: (folder / "in" / "a.txt").unlink(), ScoreTask(), "a.txt is missing"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_folder_of_another_job_is_refused_with_the_difference(lm: LanguageModel, folder: Path, name: str) -> None:
    change, task, message = DIFFERENCES[name]
    run(lm, ScoreTask())
    expected = parts()
    change(folder)
    with pytest.raises(
        ConfigError, match="(?s)contains the parts of another job: .*Give another folder with --out"
    ) as e:
        run(lm, task)
    assert message in str(e.value)
    assert parts() == expected


def test_another_model_and_a_folder_with_other_files_are_refused(lm: LanguageModel, folder: Path) -> None:
    run(lm, ScoreTask())
    with pytest.raises(ConfigError, match="model sha256 was"):
        list(run_job(("in",), "out", ScoreTask(), "1" * 64, LocalEngine(lm)))
    with pytest.raises(ConfigError, match="is not empty, and contains no job: there is 'a.txt'"):
        run(lm, ScoreTask(), "in", ("out/part-000000.parquet",))
    with pytest.raises(ConfigError, match="is inside the folder in, which is read"):
        run(lm, ScoreTask(), "in/out")
    Path("file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        run(lm, ScoreTask(), "file")
    Path("out/_job.json").write_text("{")
    with pytest.raises(ConfigError, match="_job.json is damaged"):
        run(lm, ScoreTask())


def test_a_pattern_that_also_matches_the_output_reads_the_same_files_at_each_start(
    lm: LanguageModel, folder: Path
) -> None:
    run(lm, ScoreTask(), "in/out", ("in/*",))
    expected = parts("in/out")
    assert run(lm, ScoreTask(), "in/out", ("in/*",))["parts_written_now"] == 0
    assert parts("in/out") == expected
    with pytest.raises(ConfigError, match="part-000000.parquet is inside the folder --out in/out"):
        run(lm, ScoreTask(), "in/out", ("in/a.txt", "in/out/part-000000.parquet"))


def test_two_jobs_cannot_write_one_folder_at_a_time(lm: LanguageModel, folder: Path) -> None:
    reports = run_job(("in",), "out", ScoreTask(), HASH, LocalEngine(lm))
    next(reports)
    with pytest.raises(StorageError, match="another process runs a job in"):
        run(lm, ScoreTask())
    reports.close()  # type: ignore[attr-defined]
    assert run(lm, ScoreTask())["is_complete"]


def test_a_broken_file_is_named_and_the_others_are_unharmed_and_it_is_added_later(
    lm: LanguageModel, folder: Path
) -> None:
    for n in range(97):
        (folder / "in" / f"{n:02}.jsonl").write_text(json.dumps({"text": f"text {n}", "n": n}))
    (folder / "in" / "50.jsonl").write_text('{"n": 50}\n')
    summary = run(lm, ScoreTask())
    assert (summary["files"], summary["files_failed"], summary["is_complete"]) == (100, 1, False)
    (failure,) = summary["failures"]
    assert failure["where"].endswith("50.jsonl")
    assert "has no column 'text'" in failure["reason"]
    assert sorted(row["n"] for row in rows() if row.get("n") is not None) == [n for n in range(97) if n != 50]
    before = parts()
    (folder / "in" / "50.jsonl").write_text('{"text": "text 50", "n": 50}\n')
    summary = run(lm, ScoreTask())
    assert summary["is_complete"]
    assert sorted(row["n"] for row in rows() if row.get("n") is not None) == list(range(97))
    assert before.items() <= parts().items()


def test_a_job_without_a_readable_file_ends_with_the_error_of_the_first(lm: LanguageModel, folder: Path) -> None:
    with pytest.raises(CorpusError, match="has no column 'body'\nName the column .* And 1 more cannot be read"):
        run(lm, ScoreTask("body"), inputs=("in/b.csv", "in/c.parquet"))
    Path("empty.txt").write_text("")
    with pytest.raises(CorpusError, match="there are no rows in"):
        run(lm, ScoreTask(), inputs=("empty.txt",))
    assert not Path("out/_job.json").exists()


def test_a_full_disk_leaves_no_part_behind_and_the_job_goes_on_later(
    lm: LanguageModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lm, ScoreTask(), "whole")
    calls = iter(range(100))

    def fsync(descriptor: int) -> None:
        if next(calls) == 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        with pytest.raises(
            StorageError, match="(?s)No space left on device\nThe disk is full.*it goes on where it stopped"
        ):
            run(lm, ScoreTask())
    assert 0 < len(parts()) < 12
    assert not [path for path in Path("out").iterdir() if path.suffix == ".part"]
    assert parts().items() <= parts("whole").items()
    run(lm, ScoreTask())
    assert parts() == parts("whole")


def test_a_file_that_disappears_during_the_job_is_named_and_done_later(lm: LanguageModel, folder: Path) -> None:
    stop_after(1, lm, ScoreTask())
    status = Path("in/c.parquet").stat()
    data = Path("in/c.parquet").read_bytes()
    reports = run_job(("in",), "out", ScoreTask(), HASH, LocalEngine(lm))
    next(reports)
    Path("in/c.parquet").unlink()
    *_, last = reports
    assert isinstance(last, Finished)
    assert not last.summary["is_complete"]
    assert last.summary["parts_unwritten"] == 5
    assert "c.parquet" in last.summary["failures"][0]["where"]
    Path("in/c.parquet").write_bytes(data)
    os.utime("in/c.parquet", ns=(status.st_atime_ns, status.st_mtime_ns))
    run(lm, ScoreTask())
    assert [row["text"] for row in rows()] == LINES * 3


@pytest.mark.parametrize("name", ["a.txt", "b.csv"])
def test_a_file_that_changes_during_the_job_is_named_and_its_rows_are_not_mixed(
    lm: LanguageModel, folder: Path, name: str
) -> None:
    reports = run_job((f"in/{name}", "in/c.parquet"), "out", ScoreTask(), HASH, LocalEngine(lm))
    for report in reports:
        if isinstance(report, Writing) and report.num_finished == 1:
            (folder / "in" / name).write_text("other\n" * 200)
        last = report
    assert isinstance(last, Finished)
    assert not last.summary["is_complete"]
    assert last.summary["failures"][0]["where"].endswith(name)
    assert last.summary["failures"][0]["reason"] == "has changed since the job was started"
    assert not any(row["text"] == "other" for row in rows())
    with pytest.raises(ConfigError, match=f"{name} has changed since"):
        run(lm, ScoreTask(), inputs=(f"in/{name}", "in/c.parquet"))


def test_fields_of_another_type_in_a_file_that_has_changed_are_no_traceback(lm: LanguageModel, folder: Path) -> None:
    Path("n.jsonl").write_text("".join(f'{{"text": "t", "n": {n}}}\n' for n in range(40)))
    reports = run_job(("n.jsonl",), "out", ScoreTask(), HASH, LocalEngine(lm))
    for report in reports:
        if isinstance(report, Writing) and report.num_finished == 1:
            Path("n.jsonl").write_text('{"text": "t", "n": "x"}\n' * 40)
        last = report
    assert isinstance(last, Finished)
    assert last.summary["parts_unwritten"] >= 1


def test_rows_can_be_filtered_and_compared_with_a_reference(lm: LanguageModel, folder: Path) -> None:
    from chargen.bulk.score_rows import score_reference

    Path("null.jsonl").write_text(
        '{"text": null}\n{"text": ""}\n' + "".join(json.dumps({"text": t}) + "\n" for t in LINES)
    )
    run(lm, ScoreTask(), "all", ("null.jsonl",))
    everything = rows("all")
    assert [row["log_prob_nats"] for row in everything[:2]] == [None, 0.0]
    assert [row["bits_per_char"] for row in everything[:2]] == [None, None]
    rates = sorted(row["bits_per_char"] for row in everything[2:])
    limit = rates[10]
    summary = run(lm, ScoreTask(keep_below=limit), "kept", ("null.jsonl",))
    assert sorted(row["bits_per_char"] for row in rows("kept")) == pytest.approx(rates[:10])
    assert (summary["rows_read"], summary["rows_written"], summary["null_texts"]) == (38, 10, 1)
    Path("reference.txt").write_text("\n".join(LINES[:20]))
    task = score_reference(ScoreTask(prefix="x_"), lm, "reference.txt")
    run(lm, task, "compared", ("null.jsonl",))
    reference = sorted(row["bits_per_char"] for row in everything[2:22])
    for row in rows("compared")[2:]:
        expected = 100 * sum(rate <= row["x_bits_per_char"] + 1e-9 for rate in reference) / 20
        assert row["x_percentile"] == pytest.approx(expected)
    assert rows("compared")[0]["x_percentile"] is None


def test_the_names_of_all_parts_of_a_folder_are_one_table(lm: LanguageModel, folder: Path) -> None:
    """JSON lines whose fields differ between parts and files have the same columns everywhere."""
    for name, start in (("a", 0), ("b", 40)):
        records = [
            {"text": f"t{n}", **({"n": n} if n < 60 else {"n": n / 2, "extra": [n]})} for n in range(start, start + 40)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    run(lm, ScoreTask(), inputs=("a.jsonl", "b.jsonl"))
    table = pyarrow.parquet.read_table("out")
    assert table.num_rows == 80
    assert table.schema.field("n").type == "double"
    assert table.schema.field("extra").type == "string"


def test_samples_do_not_depend_on_how_rows_are_divided(
    lm: LanguageModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = SampleTask(number=3, settings={"length": 12, "seed": 5})
    run(lm, task, "one", ("in/a.txt",))
    monkeypatch.setattr("chargen.bulk.reading.line_rows.MAX_SLICE_ROWS", 1000)
    run(lm, task, "two", ("in/a.txt",))
    assert len(parts("one")) > len(parts("two")) == 1
    assert rows("one") == rows("two")
    assert len({row["generated_text"] for row in rows("one")}) > 100
    assert [row["sample_number"] for row in rows("one")[:4]] == [0, 1, 2, 0]
    row = rows("one")[3 * 7 + 2]  # the text with number 7 · 3 + 2 under the seed
    (sample,) = lm.generator(LINES[7], length=12, seed=5).samples([23])
    assert row["generated_text"] == sample.text


def test_a_null_prompt_is_written_once(lm: LanguageModel, folder: Path) -> None:
    Path("p.jsonl").write_text('{"text": null}\n{"text": "a"}\n')
    summary = run(lm, SampleTask(number=2, settings={"length": 3, "seed": 0}), inputs=("p.jsonl",))
    assert [row["sample_number"] for row in rows()] == [None, 0, 1]
    assert (summary["generated_chars"], summary["bits_per_char"]) == (6, None)


def test_inputs_are_found_by_file_folder_pattern_and_url(folder: Path) -> None:
    (folder / "in" / ".hidden").write_text("x")
    (folder / "in" / "_job.json").write_text("x")
    names = ["a.txt", "b.csv", "c.parquet"]
    for arguments in (["in"], ["in/*"], ["in/a.txt", "in/b.*", "in/a.txt", "in/c.parquet"], [f"file://{folder}/in"]):
        found = find_inputs(arguments)
        assert [Path(file.path).name for file in found if not Path(file.path).name.startswith("_")] == names
    for argument, message in (
        ("in/d.txt", "there is no such file or folder"), ("in/x*", "no file matches"), ("x://y", "has the scheme 'x'"),
    ):  # fmt: skip
        with pytest.raises(ChargenError, match=message):
            find_inputs([argument])
    with pytest.raises(ConfigError, match="standard input cannot be read by parts"):
        find_inputs(["-"])


@pytest.fixture
def bucket() -> Iterator[Any]:
    """Return a remote file system, which is empty."""
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def test_inputs_and_outputs_can_be_remote(lm: LanguageModel, folder: Path, bucket: Any) -> None:
    for path in Path("in").iterdir():
        bucket.pipe_file(f"/data/{path.name}", path.read_bytes())
    run(lm, ScoreTask(), "here")
    summary = run(lm, ScoreTask(), "memory://out", ("memory://data",))
    assert summary["rows_written"] == 108
    remote = RemoteFolder("memory://out")
    assert {name: remote.read(name) for name in remote.names() if name.startswith("part")} == parts("here")
    bucket.rm("/out/part-000002.parquet")
    assert run(lm, ScoreTask(), "memory://out", ("memory://data/*",))["parts_written_now"] == 1
