"""What a JSON value must look like: types, ranges and sizes, stated as values and checked before anything is built.

    RESULT = Record({"steps": Whole(0)}, optional={"loss": Nullable(Number())})
    check(parse_json(text), RESULT, "result")

Everything that comes out of a file is checked with these: model headers, training states, classifiers, settings.
A check costs time in proportion to the JSON text, whatever the numbers in it say, and never builds what they describe.
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NoReturn

from chargen.errors import ConfigError

MAX_DEPTH = 32  #: limit of the nesting of lists and objects; files that chargen writes have 5 levels
MAX_FLOAT = sys.float_info.max
MAX_INTEGER = 2**63 - 1  #: what a signed integer of 64 bits holds
MAX_JSON_VALUES = 3_000_000  #: limit of the entries of a JSON text; a training state has three per validation
MAX_SHOWN_CHARS = 60  #: characters of a value in an error message

NO_KEYS: Mapping[str, Any] = {}
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = MAX_SHOWN_CHARS


class Spec(ABC):
    """A description of a JSON value. The children are no dataclasses, which take 5 ms to make at each start."""

    @abstractmethod
    def check(self, value: Any, where: str) -> None:
        """Check a value.

        Args:
            value: as `json.loads` returns it.
            where: its name, for the message: "trainer.step".

        Raises:
            ConfigError: it is another one than described.
        """


class Number(Spec):
    """A finite number in [low, high], or in (low, high] with `above`."""

    def __init__(self, low: float = -MAX_FLOAT, high: float = MAX_FLOAT, *, above: bool = False) -> None:
        self.low, self.high, self.above = low, high, above

    def check(self, value: Any, where: str) -> None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_finite = is_number and -MAX_FLOAT <= value <= MAX_FLOAT  # which NaN is not
        if is_finite and (self.low < value if self.above else self.low <= value) and value <= self.high:
            return
        bounds = [f"{'above' if self.above else 'at least'} {self.low:g}"] if self.low > -MAX_FLOAT else []
        bounds += [f"at most {self.high:g}"] if self.high < MAX_FLOAT else []
        raise_invalid(where, value, f"must be a finite number {' and '.join(bounds)}".strip())


class Integer(Spec):
    """A whole number in [low, high]."""

    def __init__(self, low: int = 0, high: int = MAX_INTEGER) -> None:
        self.low, self.high = low, high

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise_invalid(where, value, f"must be a whole number of at least {self.low:,} and at most {self.high:,}")


class Boolean(Spec):
    """True or false."""

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, bool):
            raise_invalid(where, value, "must be true or false")


class String(Spec):
    """A string that UTF-8 can hold, of `low` to `high` characters; one of `choices`, if there are any."""

    def __init__(self, high: int = 10_000, low: int = 0, choices: tuple[str, ...] = ()) -> None:
        self.high, self.low, self.choices = high, low, choices

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, str):
            raise_invalid(where, value, "must be a string")
        if self.choices and value not in self.choices:
            raise_invalid(where, value, f"must be one of {', '.join(self.choices)}")
        if not self.low <= len(value) <= self.high:
            raise_invalid(where, value, f"must have from {self.low:,} to {self.high:,} characters, not {len(value):,}")
        if not is_unicode(value):
            raise_invalid(where, value, "must be valid Unicode")


class Nullable(Spec):
    """Null, or what `spec` describes."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def check(self, value: Any, where: str) -> None:
        if value is not None:
            self.spec.check(value, where)


class ListOf(Spec):
    """A list of `low` to `high` values that `spec` describes."""

    def __init__(self, spec: Spec, low: int = 0, high: int = 1_000_000) -> None:
        self.spec, self.low, self.high = spec, low, high

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)):
            raise_invalid(where, value, "must be a list")
        if not self.low <= len(value) <= self.high:
            raise_invalid(where, value, f"must have from {self.low:,} to {self.high:,} entries, not {len(value):,}")
        for i, entry in enumerate(value):
            self.spec.check(entry, f"{where}[{i}]")


class Tuple(Spec):
    """A list with one value for each of `specs`."""

    def __init__(self, specs: tuple[Spec, ...]) -> None:
        self.specs = specs

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)) or len(value) != len(self.specs):
            raise_invalid(where, value, f"must be a list of {len(self.specs)} entries")
        for i, (spec, entry) in enumerate(zip(self.specs, value, strict=True)):
            spec.check(entry, f"{where}[{i}]")


class Record(Spec):
    """An object with the keys of `required` and any of those of `optional`; others are let pass: a later version's."""

    def __init__(self, required: Mapping[str, Spec] = NO_KEYS, optional: Mapping[str, Spec] = NO_KEYS) -> None:
        self.required, self.optional = required, optional

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise_invalid(where, value, "must be an object")
        for key, spec in self.required.items():
            if key not in value:
                raise ConfigError(f"{where} has no {key!r}")
            spec.check(value[key], f"{where}.{key}")
        for key, spec in self.optional.items():
            if key in value:
                spec.check(value[key], f"{where}.{key}")


def raise_invalid(where: str, value: Any, what: str) -> NoReturn:
    """Say that a value is not what it must be.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"{where} is {format_value(value)}, but {what}")


def format_value(value: Any) -> str:
    """Return a value for an error message: short, and without control characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a whole number of about {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    return _short.repr(value)


def is_unicode(text: str) -> bool:
    """Tell whether UTF-8 can hold a string: it has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def parse_json(text: str | bytes) -> Any:
    """Parse strict JSON.

    Raises:
        ConfigError: If the text is not JSON, has more than `MAX_JSON_VALUES` values or a level of nesting beyond
            `MAX_DEPTH`; if an object has the same key twice; if a number is NaN, infinite, too large for a float or has
            thousands of digits; or if a string contains a lone surrogate.
    """
    commas = text.count(",") if isinstance(text, str) else text.count(b",")
    if commas > MAX_JSON_VALUES:  # an empty list has 2 bytes, and takes 56 once it is read
        raise ConfigError(f"its JSON has more than {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ConfigError("its JSON is nested too deeply") from error
    except ConfigError:
        raise
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are two
        raise ConfigError(f"its JSON cannot be read: {error}") from error
    _check_plain(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1) if len(keys) < 1000 else "one"
        raise ConfigError(f"its JSON has the key {format_value(twice)} twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ConfigError(f"its JSON holds {name}, which is no number")


def _check_plain(value: Any) -> None:
    """Check a parsed value's depth, its strings and its numbers."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)  # of what `json` made: quicker to tell apart than by `isinstance`
            if kind is str:
                if not is_unicode(item):
                    raise ConfigError(f"its JSON holds {format_value(item)}, which is not valid Unicode")
            elif kind is dict:
                below.extend(item)
                below.extend(item.values())
            elif kind is list:
                below.extend(item)
            elif kind is float and not math.isfinite(item):
                raise ConfigError("its JSON holds a number that is too large")  # 1e999
        if not below:
            return
        level = below
    raise ConfigError(f"its JSON is nested more than {MAX_DEPTH} deep")
