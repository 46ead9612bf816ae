"""Write the reports of a run as event files of TensorBoard: `chargen train --log tensorboard`.

    tensorboard/NAME/events.out.tfevents.…     next to the folder of all runs; for `tensorboard --logdir tensorboard`

    loss/training, loss/validation   bits per character
    learning_rate, chars_per_s

A folder of a run has the files of chargen only, so the event files are not in it, and `chargen rm` leaves them. A run
that is resumed, or that replaces another one of its name, writes to the same folder; TensorBoard then drops what the
earlier files say about its steps. The package tensorboard is optional.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chargen.config import LN2
from chargen.errors import ChargenError
from chargen.folders import checkpoints_folder
from chargen.io import make_storage_error
from chargen.registry import import_extra
from chargen.training.events import Evaluated, Progress, Report, Started

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = "tensorboard"
FEATURE = "--log tensorboard"  # the subject of the error if the package is missing


def log_reports(reports: Iterable[Report], log: str | None, root: Path | None = None) -> Iterator[Report]:
    """Yield the reports of a run unchanged, and write their numbers to event files meanwhile.

    Args:
        reports: The reports of `training.run.train`. They start only after the check for the package.
        log: "tensorboard", or None to write nothing.
        root: Folder of all runs; None for `checkpoints_folder()`.

    Raises:
        ChargenError: If the package is not installed.
        StorageError: If the event files cannot be written.
    """
    if log is None:
        yield from reports
        return
    writer_module, event_module, summary_module = _import_tensorboard()
    folder = (root or checkpoints_folder()).absolute().parent / FOLDER
    writer: Any = None
    try:
        for report in reports:
            try:
                if isinstance(report, Started):
                    writer = writer_module.EventFileWriter(str(folder / report.run))
                    start = event_module.SessionLog(status=event_module.SessionLog.START)
                    writer.add_event(
                        event_module.Event(wall_time=time.time(), step=report.first_step + 1, session_log=start)
                    )
                elif values := scalars(report):
                    summary = summary_module.Summary(
                        value=[summary_module.Summary.Value(tag=tag, simple_value=x) for tag, x in values.items()]
                    )
                    step = report.step  # type: ignore[union-attr]  # only Progress and Evaluated have numbers
                    writer.add_event(event_module.Event(wall_time=time.time(), step=step, summary=summary))
                    if isinstance(report, Evaluated):
                        writer.flush()
            except OSError as error:
                raise make_storage_error(folder, error) from error
            yield report
    finally:
        if writer is not None:
            with suppress(OSError):  # an error that ends the run is the one to report
                writer.close()


def scalars(report: Report) -> dict[str, float]:
    """Return the numbers of a report by their tags; empty for a report that has none."""
    if isinstance(report, Progress):
        values = {
            "loss/training": report.loss_nats_per_char / LN2,
            "learning_rate": report.learning_rate,
            "chars_per_s": report.chars_per_s,
        }
    elif isinstance(report, Evaluated):
        values = {"loss/validation": report.val_loss_nats_per_char / LN2}
    else:
        values = {}
    return {tag: value for tag, value in values.items() if math.isfinite(value)}


def _import_tensorboard() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Return the modules of the package with the writer, the events and the summaries."""
    names = ("summary.writer.event_file_writer", "compat.proto.event_pb2", "compat.proto.summary_pb2")
    try:
        writer, event, summary = (import_extra(f"tensorboard.{name}", "tensorboard", FEATURE) for name in names)
    except TypeError as error:  # protobuf raises it if its version does not fit
        raise ChargenError(f"the package tensorboard cannot be used: {error}", "pip install -U tensorboard") from error
    return writer, event, summary
