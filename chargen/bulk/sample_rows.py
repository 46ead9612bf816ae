"""Generate texts after the prompts of a slice.

The texts of a row are those with the numbers R · N to R · N + N − 1 under the seed, where R is the number of the row in
the job and N the number of texts per row. So they depend neither on the number of workers nor on where a job was
stopped. The rows of a slice are generated together, as one batch of streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chargen.bulk.job import Counts
from chargen.bulk.many_prompts import sample_prompts
from chargen.bulk.task import INT, TEXT, Output

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.sampling.generate import Sample

MAX_GROUP_TEXTS = 256  #: texts that are generated together


@dataclass(frozen=True)
class SampleTask:
    """Continue the prompt of each row.

    Attributes:
        text_column: Name of the column of the prompt.
        number: Texts per row, N.
        prefix: What the names of the added columns start with.
        settings: Fields of `SampleConfig`, with the seed.
    """

    text_column: str = "text"
    number: int = 1
    prefix: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        """The added columns."""
        types = {"sample_number": INT, "generated_text": TEXT, "generated_chars": INT, "ended": TEXT}
        return {f"{self.prefix}{name}": kind for name, kind in types.items()}

    def identity(self) -> dict[str, Any]:
        """Return what determines the result."""
        return {
            "command": "bulk sample",
            "text_column": self.text_column,
            "prefix": self.prefix,
            "number": self.number,
            **self.settings,
        }

    def run(self, lm: LanguageModel, texts: Sequence[str | None], numbers: Sequence[int]) -> Output:
        """Continue the prompts of a slice; a row whose prompt is null is written once, with null in these columns."""
        present = [k for k, text in enumerate(texts) if text is not None]
        samples: dict[int, list[Sample]] = {}
        step = max(1, MAX_GROUP_TEXTS // self.number)
        for first in range(0, len(present), step):
            group = present[first : first + step]
            generators = [lm.generator(texts[k] or "", **self.settings) for k in group]
            ranges = [range(numbers[k] * self.number, (numbers[k] + 1) * self.number) for k in group]
            samples.update(zip(group, sample_prompts(generators, ranges), strict=True))
        rows: list[int] = []
        values: list[tuple[int | str | None, ...]] = []
        for k in range(len(texts)):
            found = samples.get(k)
            rows += [k] * (len(found) if found else 1)
            if found is None:
                values.append((None, None, None, None))
            else:
                values += [(j, each.text, len(each.text), each.ended) for j, each in enumerate(found)]
        columns = {name: [value[j] for value in values] for j, name in enumerate(self.columns)}
        num_chars = sum(len(each.text) for found in samples.values() for each in found)
        counts = Counts(
            rows_read=len(texts),
            rows_written=len(rows),
            null_texts=len(texts) - len(present),
            generated_chars=num_chars,
        )
        return Output(rows, columns, counts)
