"""The interface of a task: what a job does with the rows of a slice. It is the same function for every engine.

A task is a value that can be sent to another machine. It gets a model that was loaded once, and returns which rows are
written and which columns are added to them. The result depends on the rows of the slice alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from chargen.bulk.job import Counts

if TYPE_CHECKING:
    from chargen.lm import LanguageModel

INT, FLOAT, TEXT = "int64", "float64", "string"  #: types of added columns, as pyarrow names them


@dataclass(frozen=True)
class Output:
    """The result of a task for N rows."""

    rows: Sequence[int]  #: index of the row that each row of the output continues, [M], 0 to N − 1
    columns: Mapping[str, Sequence[Any]]  #: the values of the added columns, [M]; None for null
    counts: Counts


class Task(Protocol):
    """What a job does with its rows."""

    @property
    def text_column(self) -> str:
        """Name of the column of the text."""

    @property
    def columns(self) -> dict[str, str]:
        """The added columns: name → type."""

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, as JSON values."""

    def run(self, lm: LanguageModel, texts: Sequence[str | None], numbers: Sequence[int]) -> Output:
        """Process the rows of a slice.

        Args:
            lm: The model.
            texts: The text of each row, [N]; None for null.
            numbers: The number of each row in the job, [N]: the same for each start and each number of workers.
        """
