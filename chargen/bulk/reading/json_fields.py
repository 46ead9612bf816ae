"""The types of the fields of JSON lines, so that all parts of a job have the same columns.

A field has the type that fits all its values in the rows that can be read:

    bool    true and false                 int     whole numbers of 64 bits
    float   numbers of both kinds          text    strings; also a field that is always null
    json    objects, lists, larger numbers, and fields of several types: the column has their JSON as text

The field of the text is always text: a row in which it is neither a string nor null cannot be read, and the values of
such a row change no type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BOOL, INT, FLOAT, STRING, JSON_TEXT = "bool", "int", "float", "text", "json"
MAX_INT = 1 << 63


def kind_of(value: Any) -> str:
    """Return the kind of a value; "" for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT if -MAX_INT <= value < MAX_INT else JSON_TEXT
    if isinstance(value, float):
        return FLOAT
    return STRING if isinstance(value, str) else JSON_TEXT


def merge_kinds(first: str, second: str) -> str:
    """Return the kind that fits the values of both kinds.

    >>> merge_kinds("int", "float"), merge_kinds("", "bool"), merge_kinds("int", "text")
    ('float', 'bool', 'json')
    """
    if first == second or not second:
        return first
    if not first:
        return second
    return FLOAT if {first, second} == {INT, FLOAT} else JSON_TEXT


def merge_fields(tables: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the fields of several files, with kinds that fit all of them; a field without a value is text."""
    merged: dict[str, str] = {}
    for fields in tables:
        for name, kind in fields.items():
            merged[name] = merge_kinds(merged.get(name, ""), kind)
    return merged


def make_table(arrow: Any, records: Sequence[Mapping[str, Any]], fields: Mapping[str, str]) -> Any:
    """Return a pyarrow Table with a column for each field; null where a record does not have it."""
    types = {
        BOOL: arrow.bool_(), INT: arrow.int64(), FLOAT: arrow.float64(), STRING: arrow.string(),
        JSON_TEXT: arrow.string(), "": arrow.string(),
    }  # fmt: skip
    columns = {}
    for name, kind in fields.items():
        values = [record.get(name) for record in records]
        if kind == FLOAT:
            values = [None if value is None else float(value) for value in values]
        elif kind == JSON_TEXT:
            values = [None if value is None else json.dumps(value, ensure_ascii=True) for value in values]
        columns[name] = arrow.array(values, types[kind])
    return arrow.table(columns)
