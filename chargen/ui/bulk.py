"""How a job of many files is shown: its progress on stderr, and its summary on stdout."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console

from chargen.bulk.reading.slices import Failure
from chargen.bulk.run import Planning, Writing
from chargen.config import LN2
from chargen.io import decode_file_name
from chargen.schema import format_count, format_number, format_significant
from chargen.ui.console import (
    PLAIN_EVERY_S,
    ProgressBar,
    can_redraw,
    format_duration,
    print_line,
    stdout_console,
)
from chargen.ui.output import abandon_output
from chargen.ui.tables import key_value_table

MAX_SHOWN_FAILURES = 5


class BulkDisplay:
    """Shows the progress of a job: a bar on a terminal, a line every PLAIN_EVERY_S seconds elsewhere.

    A job of hours must not end because stderr was closed: then nothing is shown any more.

    Args:
        console: The console on stderr.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = ProgressBar(console, 1.0) if can_redraw(console) else None
        self._printed_s = time.monotonic()
        self._is_closed = False

    def __enter__(self) -> BulkDisplay:
        if self._bar:
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.__exit__(kind, error, trace)

    def show(self, report: Planning | Writing) -> None:
        """Show a report."""
        if isinstance(report, Planning):
            label = f"reading the files: {report.num_planned:,} of {report.num_files:,}"
            self._show(label, report.num_planned / max(1, report.num_files), False)
            return
        label = f"{format_count(report.num_finished, 'part')} of {report.num_parts:,}"
        if report.elapsed_s:
            label += f", {report.num_chars / report.elapsed_s:,.0f} chars/s"
        self._show(label, report.num_finished / max(1, report.num_parts), report.num_finished == report.num_parts)

    def _show(self, label: str, completed: float, is_last: bool) -> None:
        if self._is_closed:
            return
        try:
            if self._bar:
                self._bar.show(label, completed)
            elif is_last or time.monotonic() - self._printed_s >= PLAIN_EVERY_S:
                self._printed_s = time.monotonic()
                print_line(self._console, f"{completed:4.0%}  {label}")
        except OSError:
            self._is_closed = True
            abandon_output()


def print_summary(summary: dict[str, Any]) -> None:
    """Print the summary of a job as a table, with its first failures."""
    output = decode_file_name(summary["output"])
    rows = [
        ("output", output),
        (
            "files",
            f"{summary['files']:,}" + (f", {summary['files_failed']:,} failed" if summary["files_failed"] else ""),
        ),
        ("parts", f"{summary['parts']:,}, {summary['parts_written_now']:,} of them written now"),
        ("rows read", f"{summary['rows_read']:,}" + _more(summary["null_texts"], "without a text")),
        ("rows written", f"{summary['rows_written']:,}"),
    ]
    if summary["rows_failed"]:
        rows.append(("rows failed", f"{summary['rows_failed']:,}"))
    if summary["chars"]:
        rows.append(("characters", f"{summary['chars']:,}" + _more(summary["unknown_chars"], "unknown")))
        rows.append(("bits/char", format_number(-summary["log_prob_nats"] / LN2 / summary["chars"], 3)))
    if summary["generated_chars"]:
        rows.append(("generated", format_count(summary["generated_chars"], "character")))
    speed = f", {format_significant(summary['chars_per_s'])} chars/s" if summary["chars_per_s"] else ""
    rows.append(("time", format_duration(summary["elapsed_s"]) + speed))
    failures = summary["failures"]
    shown = failures[:MAX_SHOWN_FAILURES]
    rows += [("failed", Failure.from_json(each).to_line()) for each in shown]
    if len(failures) > len(shown):
        rows.append(("", f"{len(failures) - len(shown):,} more in {output}/_summary.json"))
    stdout_console().print(key_value_table(rows))


def _more(count: int, what: str) -> str:
    return f", {count:,} {what}" if count else ""
