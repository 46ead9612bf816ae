"""The weights of a network in a file of format version 3: each array as one tensor, or as two or three.

    storage    matrix, float32 [N, K]                             rows of the n-gram table that are not zero, M of N
    float32    NAME float32 [N, K]                                NAME float32 [N, K], with the rows of zeros
    float16    NAME float16 [N, K]                                as int8
    int8       NAME int8 [N, K], NAME.int8_scales float16 [N]     NAME int8 [M, K], NAME.int8_scales float16 [M],
                                                                  NAME.stored_rows uint8 [⌈N / 8⌉]

A row of an int8 array is its numbers times its scale. Bit k of byte j of `stored_rows` says whether row 8j + k of the
table is stored; the others are zero. Vectors, and arrays that would lose more than others, are stored exactly under
their own names (`rounding.py`); of a table, only the rows that are not zero. Files whose storage is float32 have one
float32 tensor for each weight, so that any program that reads safetensors files can use them. They have an earlier
version of the format if the network has no index of n-grams.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells.weights import FLOAT32_BYTES, find_invalid_weight
from chargen.config import FLOAT16, FLOAT32, INT8
from chargen.errors import ConfigError
from chargen.schema import format_value
from chargen.storage.packed_rows import PackedRows
from chargen.storage.rounding import MAX_INT8, Float, round_matrix

SCALES, BITMAP = ".int8_scales", ".stored_rows"  #: what follows the name of an array in the names of its other tensors
DTYPES = {"I8": INT8, "F16": FLOAT16}  #: storage of an array by its dtype, as safetensors names it
MAX_EXPANSION = 64  #: bytes of an expanded table per byte of the rows that are stored, in float32
ALWAYS_ALLOWED_BYTES = 1 << 28  #: tables up to this size may have any number of stored rows

Tensors = dict[str, np.ndarray]  #: arrays by name


class TensorInfo(NamedTuple):
    """The dtype and shape of a tensor, from the header of a file."""

    dtype: str  #: as safetensors names it
    shape: tuple[int, ...]


class StoredWeights(Mapping[str, np.ndarray]):
    """The weights of a file by name, as float32. An array is converted when it is first read, a table at each reading.

    Args:
        tensors: The tensors of the file, which `describe_weights` has checked.
        tables: The number of rows of each array that may be stored without its rows of zeros.

    Raises:
        ConfigError: If a bitmap has another number of rows than are stored.
    """

    def __init__(self, tensors: Tensors, tables: Mapping[str, int]) -> None:
        self.tensors = tensors
        self._arrays: dict[str, np.ndarray] = {}
        self._packed = {
            name: PackedRows(tensors[name], tensors.get(name + SCALES), tensors[name + BITMAP], num_rows)
            for name, num_rows in tables.items()
            if name + BITMAP in tensors
        }

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._packed:
            return self._packed[name].expand()
        if name not in self._arrays:
            self._arrays[name] = _expand(self.tensors[name], self.tensors.get(name + SCALES))
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors and not str(name).endswith((SCALES, BITMAP))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.tensors if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def table(self, name: str) -> PackedRows | None:
        """Return a table as it is stored; None if all its rows are stored."""
        return self._packed.get(name)

    def find_invalid(self) -> str:
        """Return a sentence that names a weight with an invalid value (`find_invalid_weight`); "" if there is none."""
        for name in self:
            scales = self.tensors.get(name + SCALES)
            if scales is not None:  # the numbers are at most 128, so the array is not expanded
                values = scales.astype(np.float32) * np.float32(MAX_INT8 + 1)
            else:
                values = self.tensors[name] if name in self._packed else self[name]
            problem = find_invalid_weight([(name, values)]) if values.size else ""
            if problem:
                return problem
        return ""


def count_stored_rows(weights: Mapping[str, np.ndarray], table: str) -> int | None:
    """Return how many rows of a table its file stores; None if the file stores all rows, or there is no table."""
    packed = weights.table(table) if isinstance(weights, StoredWeights) else None
    return packed.num_stored if packed else None


def first_values(weights: Mapping[str, np.ndarray], name: str, count: int) -> np.ndarray:
    """Return the first numbers of an array, at most `count` of them. A table is not expanded."""
    packed = weights.table(name) if isinstance(weights, StoredWeights) else None
    array = packed[np.arange(min(count, packed.shape[0]))] if packed else weights[name]
    return array.ravel()[:count]


def _expand(tensor: NDArray[Any], scales: NDArray[Any] | None) -> np.ndarray:
    """Return an array as float32; an array of another type that is not rounded, such as float64, is unchanged."""
    if scales is not None:
        expanded: Float = tensor * scales.astype(np.float32).reshape(-1, *[1] * (tensor.ndim - 1))
        return expanded
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor


def pack_weights(
    weights: Mapping[str, np.ndarray], storage: str, tables: Collection[str] = (), exact: Collection[str] = ()
) -> Tensors:
    """Return the tensors that a file stores for some weights.

    Weights that were read from a file are stored as they were there, so that they are not rounded a second time.

    Args:
        weights: Arrays by name. Only float32 arrays are rounded.
        storage: One of WEIGHT_STORAGES.
        tables: Names of matrices of which most rows may be zero. They are int8 unless the storage is float32.
        exact: Names of arrays that are not rounded.
    """
    if storage == FLOAT32:
        return dict(weights)
    if isinstance(weights, StoredWeights) and find_storage(weights.tensors, tables) == storage:
        return dict(weights.tensors)
    tensors: Tensors = {}
    for name in weights:
        if isinstance(weights, StoredWeights) and weights.table(name):
            parts = (name, name + SCALES, name + BITMAP)
            tensors |= {part: weights.tensors[part] for part in parts if part in weights.tensors}
            continue
        array = weights[name]
        if array.dtype != np.float32 or array.ndim == 1 or name in exact:
            tensors[name] = array
        elif name in tables:
            tensors |= _pack_table(name, array)
        else:
            tensors |= _pack_array(name, array, storage)
    return tensors


def _pack_array(name: str, array: Float, storage: str) -> Tensors:
    """Return the tensors of an array."""
    kind, scales, stored, _ = round_matrix(array.reshape(len(array), math.prod(array.shape[1:])), storage)
    tensors = {name: stored.reshape(array.shape)}
    return {**tensors, name + SCALES: scales} if kind == INT8 else tensors


def _pack_table(name: str, table: Float) -> Tensors:
    """Return the tensors of a table, without its rows of zeros unless it is too large for that."""
    is_stored = table.any(axis=1)
    stored = table[is_stored]
    if not is_expandable(len(table), len(stored), table.shape[1]):
        return _pack_array(name, table, INT8)
    bitmap = {name + BITMAP: np.packbits(is_stored, bitorder="little")}
    return {**_pack_array(name, stored, INT8), **bitmap}


def is_expandable(num_rows: int, num_stored: int, width: int) -> bool:
    """Return whether a table may be stored without its rows of zeros: else a small file would need a large memory."""
    stored_bytes, table_bytes = FLOAT32_BYTES * num_stored * width, FLOAT32_BYTES * num_rows * width
    return table_bytes <= MAX_EXPANSION * stored_bytes + ALWAYS_ALLOWED_BYTES


def round_weights(
    weights: Mapping[str, np.ndarray], storage: str, tables: Collection[str] = (), exact: Collection[str] = ()
) -> Tensors:
    """Return weights with the values that they will have when they are read from a file of `pack_weights`."""
    num_rows = {name: len(weights[name]) for name in tables if name in weights}
    return dict(StoredWeights(pack_weights(weights, storage, tables, exact), num_rows))


def describe_weights(tensors: Mapping[str, TensorInfo], tables: Mapping[str, int]) -> dict[str, TensorInfo]:
    """Return the dtype and shape that each array has when it is read: F32 if it is stored as int8 or float16.

    Args:
        tensors: The dtype and shape of each tensor, from the header of a file. They may be hostile.
        tables: The number of rows of each array that may be stored without its rows of zeros.

    Raises:
        ConfigError: If the tensors of an array do not fit each other, or a table would be far larger than its rows.
    """
    arrays: dict[str, TensorInfo] = {}
    num_others = 0
    for name, (dtype, shape) in tensors.items():
        if name.endswith((SCALES, BITMAP)):
            continue
        scales, bitmap = tensors.get(name + SCALES), tensors.get(name + BITMAP)
        num_others += (scales is not None) + (bitmap is not None)
        if (("F16", shape[:1]) if dtype == "I8" and shape else None) != scales:
            raise ConfigError(f"the scales of {format_value(name)} do not fit it")
        if bitmap:
            num_rows = tables.get(name, -1)
            fits = len(shape) == 2 and dtype in ("I8", "F32") and bitmap == ("U8", (math.ceil(num_rows / 8),))
            if not (fits and shape[0] <= num_rows and is_expandable(num_rows, *shape)):
                raise ConfigError(f"the stored rows of {format_value(name)} do not fit it")
            shape = (num_rows, shape[1])
        arrays[name] = TensorInfo("F32" if dtype in DTYPES else dtype, shape)
    if len(arrays) + num_others != len(tensors):
        raise ConfigError("it has scales or bitmaps that belong to no array")
    return arrays


def find_storage(tensors: Mapping[str, np.ndarray], tables: Collection[str]) -> str:
    """Return how most weights of a file are stored, without the tables: one of WEIGHT_STORAGES."""
    sizes = {INT8: 0, FLOAT16: 0}
    for name, tensor in tensors.items():
        kind = {"int8": INT8, "float16": FLOAT16}.get(tensor.dtype.name)
        if kind and name not in tables and not name.endswith(SCALES):
            sizes[kind] += tensor.size
    return max(sizes, key=lambda kind: sizes[kind]) if any(sizes.values()) else FLOAT32
