"""The engine without Ray: one process, which uses all cores for each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chargen.bulk.job import Part
from chargen.bulk.reading.slices import FilePlan
from chargen.bulk.task import Task
from chargen.bulk.worker import PartResult, PartWriter, WorkerSpec, plan_file

if TYPE_CHECKING:
    from chargen.lm import LanguageModel


class LocalEngine:
    """Plans files and writes parts, one after another.

    Args:
        lm: The model.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    def plan(self, paths: Sequence[str], task: Task) -> Iterator[tuple[str, FilePlan | str]]:
        """Yield (path, plan or the reason why there is none) of each file."""
        for path in paths:
            yield path, plan_file(path, task)

    def write(self, parts: Sequence[Part], spec: WorkerSpec) -> Iterator[PartResult]:
        """Yield the result of each part as soon as it is written."""
        writer = PartWriter(self._lm, spec)
        try:
            for part in parts:
                yield writer.write(part)
        finally:
            writer.close()

    def close(self) -> None:
        """Do nothing: there are no other processes."""
