"""The rows of an n-gram table as a file stores them: int8 with a scale for each row, and only those that are not zero.

    row of the table    0    1    2    3    4  …           bitmap    1 0 0 1 1 …
    stored row          0    –    –    1    2  …           row r is scale[r] · stored[position[r]]; scale 0: not stored

A step of a network reads a few rows of up to 262,144. So opening a model does not expand the table: it computes the
positions and scales alone. The rows that are read have the same bits as those of the expanded table.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError

Float = NDArray[np.float32]


class PackedRows:
    """A table [N, D] of which M rows are stored.

    Args:
        stored: The stored rows, int8 or float32 [M, D].
        scales: The scale of each stored row, float16 [M]; None if the rows are float32.
        bitmap: Which rows are stored, uint8 [⌈N / 8⌉]; the lowest bit of a byte comes first.
        num_rows: Number of rows of the table, N.

    Raises:
        ConfigError: If the bitmap has another number of rows.
    """

    def __init__(
        self, stored: NDArray[Any], scales: NDArray[Any] | None, bitmap: NDArray[np.uint8], num_rows: int
    ) -> None:
        is_stored = np.unpackbits(bitmap, bitorder="little")
        if np.count_nonzero(is_stored) != len(stored) or is_stored[num_rows:].any():
            raise ConfigError("the bitmap of a table does not fit its rows")
        self.num_stored = len(stored)
        self.shape = (num_rows, stored.shape[1])
        self._is_stored = is_stored[:num_rows].view(np.bool_)
        self._stored = stored if len(stored) else np.zeros((1, stored.shape[1]), stored.dtype)
        self._positions = np.cumsum(is_stored[:num_rows], dtype=np.int32)  # [N]; of a row that is not stored, any
        self._positions -= 1
        self._scales = np.zeros(num_rows, dtype=np.float32)
        self._scales[self._is_stored] = 1.0 if scales is None else scales

    def expand(self) -> Float:
        """Return the whole table, [N, D]. The memory of rows of zeros is not touched."""
        table = np.zeros(self.shape, dtype=np.float32)
        table[self._is_stored] = self._stored[: self.num_stored] * self._scales[self._is_stored, None]
        return table

    def __getitem__(self, rows: NDArray[Any]) -> Float:
        """Return the rows with the given numbers, [..., D]."""
        values: Float = self._stored.take(self._positions[rows], 0, mode="clip") * self._scales[rows][..., None]
        return values

    def with_zero_rows(self, block: int) -> PackedRows:
        """Return the table with a row of zeros after each block of this number of rows."""

        def pad(array: NDArray[Any]) -> NDArray[Any]:
            return np.pad(array.reshape(-1, block), ((0, 0), (0, 1))).ravel()

        table = copy(self)
        table._positions, table._scales, table._is_stored = map(pad, (self._positions, self._scales, self._is_stored))
        table.shape = (len(table._positions), self.shape[1])
        return table

    def sum_reader(self, rows: NDArray[np.int64], out: Float) -> Callable[[], object]:
        """Return a function that writes the sum of the rows with the numbers in a buffer, [K], to another one, [D].

        The function allocates no arrays. Its sum has the bits of a sum of expanded rows, because the product of an int8
        and a float16 is exact in float32.
        """
        positions, scales = np.zeros(len(rows), dtype=np.int32), np.zeros(len(rows), dtype=np.float32)
        numbers = np.zeros((len(rows), len(out)), dtype=self._stored.dtype)
        values = np.zeros(numbers.shape, dtype=np.float32)
        take_positions, take_scales, take_numbers = self._positions.take, self._scales.take, self._stored.take
        copyto, add_up = np.copyto, scales.dot

        def read() -> None:
            take_positions(rows, 0, positions, "clip")
            take_scales(rows, 0, scales, "clip")
            take_numbers(positions, 0, numbers, "clip")
            copyto(values, numbers)
            add_up(values, out)

        return read
