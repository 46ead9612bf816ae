"""How numbers are shown: separators of thousands, no sign on a zero, and a dash where there is none."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen import schema
from chargen.schema import format_number


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        (1234.5, 2, "1,234.50"), (-0.0, 2, "0.00"), (-0.004, 2, "0.00"), (-0.006, 2, "-0.01"), (0.0, 3, "0.000"),
        (None, 2, "–"), (math.nan, 2, "–"), (math.inf, 2, "–"), (1e300, 2, "1.00e+300"), (-1234567.0, 0, "-1,234,567"),
    ],
)  # fmt: skip
def test_a_number_is_shown_as_people_read_it(value: float | None, decimals: int, shown: str) -> None:
    assert format_number(value, decimals) == shown


def test_a_sign_and_no_separators_on_request() -> None:
    assert format_number(1234.5, 1, sign=True) == "+1,234.5"
    assert format_number(0.00001, 4, sign=True) == format_number(-0.00001, 4, sign=True) == "0.0000"
    assert format_number(-1234.5, 4, separator="") == "-1234.5000"


@given(st.floats(-1e11, 1e11), st.integers(0, 6))
def test_the_number_is_the_rounded_one_and_never_a_negative_zero(value: float, decimals: int) -> None:
    shown = format_number(value, decimals)
    assert abs(float(shown.replace(",", "")) - value) <= 0.51 * 10**-decimals + 1e-3
    assert not re.fullmatch(r"[-+][0.]+", shown)


def test_the_screen_shows_rounded_numbers_by_this_function_only() -> None:
    """Shares, sizes and speeds are never negative, and have formats of their own."""
    others = re.compile(r"\{[^{}]*:[+,]*\.\d+f\}(?! %| chars/s| texts/s| \{unit\})")
    package = Path(schema.__file__).parent
    files = [*(package / "ui").rglob("*.py"), *(package / "cli").rglob("*.py")]
    found = [f"{file.name}: {match[0]}" for file in files for match in others.finditer(file.read_text("utf-8"))]
    assert len(files) > 20 and [line for line in found if "MAX_" not in line] == []
