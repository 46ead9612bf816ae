"""What all settings have in common: they are checked on construction, and convert to JSON and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

from chargen.errors import ConfigError
from chargen.registry import did_you_mean
from chargen.schema import Integer, Number, Spec, format_value

C = TypeVar("C", bound="Config")

MAX_SECONDS = 1e9  #: 32 years
MAX_STEPS = 10**12
MAX_SEED = 2**63 - 1  #: the generators of torch and NumPy accept this seed and the next one

FRACTION = Number(0.0, 1.0)
DROPOUT_RATE = Number(0.0, 0.95)


class Config:
    """Base class of the settings, which are frozen dataclasses: validation, and conversion to and from JSON."""

    FIELDS: ClassVar[Mapping[str, Spec]]  #: the valid values of each field
    HINTS: ClassVar[Mapping[str, str]] = {}  #: what to do instead, for names that other programs have

    def __post_init__(self) -> None:
        for name in self.FIELDS:
            object.__setattr__(self, name, to_python_number(getattr(self, name)))
        self.check_fields({name: getattr(self, name) for name in self.FIELDS})

    @classmethod
    def check_fields(cls, values: Mapping[str, Any]) -> None:
        """Check some of the settings before the others are known.

        Args:
            values: Values by field name; fields may be missing.

        Raises:
            ConfigError: If a name is unknown, or its value is out of range.
        """
        for key, value in values.items():
            if key not in cls.FIELDS:
                hint = cls.HINTS.get(key) or did_you_mean(key, cls.FIELDS)
                raise ConfigError(f"unknown setting {format_value(key)} in {cls.__name__}", hint)
            cls.FIELDS[key].check(to_python_number(value), key)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a dict of JSON values."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses
        return values

    @classmethod
    def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
        """Return the settings that a dict from `to_json` contains.

        Raises:
            ConfigError: If a key is unknown or missing, or its value is out of range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__} cannot be made from {format_value(values)}")
        cls.check_fields(values)
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be made from {format_value(sorted(values))}: {error}") from error


def to_python_number(value: Any) -> Any:
    """Return the number in a NumPy scalar or in a tensor without dimensions; return any other value unchanged."""
    is_scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if is_scalar else value


_DURATION = r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?"


def parse_duration_s(value: str | float) -> float:
    """Return a duration in seconds.

    Args:
        value: "90s", "5m", "1h30m", or a number of seconds, also as a string.

    Raises:
        ConfigError: If it is not a duration, or is zero or longer than MAX_SECONDS.

    >>> parse_duration_s("1h30m")
    5400.0
    """
    number = to_python_number(value)
    if isinstance(number, bool):
        number = math.nan
    if isinstance(number, str):
        match = re.fullmatch(_DURATION, number.strip())
        parts = match.groups() if match else ()
        number = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    seconds = number if isinstance(number, (int, float)) else math.nan
    if not 0 < seconds <= MAX_SECONDS:
        limits = f"above zero and of at most {MAX_SECONDS:g} seconds"
        raise ConfigError(f"{format_value(value)} is not a duration {limits}", "Examples: 90s, 5m, 1h30m.")
    return float(seconds)


def format_duration_s(seconds: float) -> str:
    """Return a duration with its units, so that seconds are not taken for minutes.

    >>> format_duration_s(5), format_duration_s(90), format_duration_s(5400), format_duration_s(0.25)
    ('5 s', '1 min 30 s', '1 h 30 min', '0.25 s')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


def check_count(name: str, value: Any, low: int = 1) -> int:
    """Return an integer of at least `low` as Python's int; NumPy's integers are accepted.

    Args:
        name: Name of the value, for the error message.
        value: The value to check.
        low: The smallest valid value.

    Raises:
        ConfigError: If it is not.
    """
    number: int = to_python_number(value)
    Integer(low).check(number, name)
    return number
