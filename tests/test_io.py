"""A JSON value is written as one line of strict JSON, unescaped, with null for numbers that are not finite."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.io import to_json_line

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


def _expected(value):
    """Return the value as strict JSON can represent it."""
    match value:
        case float():
            return value if value - value == 0 else None
        case list() | tuple():
            return [_expected(item) for item in value]
        case dict():
            return {key: _expected(item) for key, item in value.items()}
    return value


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@settings(deadline=None)
@given(values)
@example(({"a": (math.inf, [math.nan])}, -math.inf))
def test_parsing_a_line_gives_the_value_with_null_for_numbers_that_are_not_finite(value):
    line = to_json_line(value)
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line, parse_constant=_refuse) == _expected(value)


@given(text)
def test_only_quotes_backslashes_and_control_characters_are_escaped(value):
    plain = value.translate(dict.fromkeys([*range(32), ord('"'), ord("\\")]))
    assert to_json_line(plain) == f'"{plain}"'


def test_a_numpy_number_that_is_not_finite_is_written_as_null():
    assert to_json_line({"loss_nats": np.float64("nan"), "all": [np.float64("-inf"), np.float64(0.5)]}) == (
        '{"loss_nats": null, "all": [null, 0.5]}'
    )


def test_booleans_stay_booleans_and_the_argument_is_not_changed():
    value = {"a": [True, math.inf, {"b": math.nan}]}
    assert to_json_line(value) == '{"a": [true, null, {"b": null}]}'
    assert value["a"][1] == math.inf
