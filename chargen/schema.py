"""Types of JSON values: what type, range and size a value must have. They are checked before anything is built from it.

    RESULT = Record({"steps": Integer(0)}, optional={"loss": Nullable(Number())})
    RESULT.check(parse_json(text), "result")

All data from files is checked with these types: headers of model files, training states, classifiers, settings. A check
takes time in proportion to the length of the JSON text, for any numbers in it, and never builds what they describe.
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from chargen.errors import ConfigError

MAX_DEPTH = 32  #: levels of nested lists and objects; files that chargen writes have 5
MAX_FLOAT = sys.float_info.max
MAX_INTEGER = 2**63 - 1  #: the largest signed integer of 64 bits
MAX_JSON_VALUES = 3_000_000  #: values in a JSON text; a training state has three per validation
MAX_NAME_CHARS = 1000  #: characters of the name of a file in an error message
MAX_WRITTEN_OUT = 1e12  #: larger numbers are shown with an exponent
MAX_SHOWN_CHARS = 60  #: characters of a value in an error message

NO_KEYS: Mapping[str, Any] = {}
_value_repr = reprlib.Repr()
_value_repr.maxstring = _value_repr.maxother = _value_repr.maxlong = MAX_SHOWN_CHARS


class Spec(ABC):
    """A type of JSON value. Subclasses are plain classes, because defining dataclasses takes 5 ms at each start-up."""

    @abstractmethod
    def check(self, value: Any, name: str) -> None:
        """Check that a value has this type.

        Args:
            value: A value as `json.loads` returns it.
            name: Name of the value, for the error message: "trainer.step".

        Raises:
            ConfigError: If the value does not have this type.
        """


class Number(Spec):
    """A finite number in [low, high], or in (low, high] with `exclusive_low`."""

    def __init__(self, low: float = -MAX_FLOAT, high: float = MAX_FLOAT, *, exclusive_low: bool = False) -> None:
        self.low, self.high, self.exclusive_low = low, high, exclusive_low

    def check(self, value: Any, name: str) -> None:
        """Check that a value is a finite number in the range."""
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_finite = is_number and -MAX_FLOAT <= value <= MAX_FLOAT  # false for NaN
        if is_finite and (self.low < value if self.exclusive_low else self.low <= value) and value <= self.high:
            return
        raise_invalid(name, value, self.requirement, self.percent_hint(value) if is_finite else "")

    def percent_hint(self, value: float) -> str:
        """Return "Write 0.9 for 90 %." if a share that is too large was probably given in percent, or ""."""
        share = value / 100
        is_allowed = self.low < share if self.exclusive_low else self.low <= share
        is_percentage = 1 < value <= 100 and share <= self.high <= 1 and is_allowed
        return f"Write {share:g} for {value:g} %." if is_percentage else ""

    @property
    def requirement(self) -> str:
        """What a value must be, for error messages: "must be a finite number above 0 and at most 1"."""
        bounds = [f"{'above' if self.exclusive_low else 'at least'} {self.low:g}"] if self.low > -MAX_FLOAT else []
        bounds += [f"at most {self.high:g}"] if self.high < MAX_FLOAT else []
        return f"must be a finite number {' and '.join(bounds)}".strip()


class Integer(Spec):
    """An integer in [low, high]."""

    def __init__(self, low: int = 0, high: int = MAX_INTEGER) -> None:
        self.low, self.high = low, high

    def check(self, value: Any, name: str) -> None:
        """Check that a value is an integer in the range; true and false are not."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise_invalid(name, value, self.requirement)

    @property
    def requirement(self) -> str:
        """What a value must be, for error messages: "must be a whole number of at least 1 and at most 256"."""
        return f"must be a whole number of at least {self.low:,} and at most {self.high:,}"


class Boolean(Spec):
    """True or false."""

    def check(self, value: Any, name: str) -> None:
        """Check that a value is true or false."""
        if not isinstance(value, bool):
            raise_invalid(name, value, "must be true or false")


class String(Spec):
    """A string of `low` to `high` characters that UTF-8 can encode; one of `choices`, if they are not empty."""

    def __init__(self, high: int = 10_000, low: int = 0, choices: tuple[str, ...] = ()) -> None:
        self.high, self.low, self.choices = high, low, choices

    def check(self, value: Any, name: str) -> None:
        """Check that a value is a string with a valid length and content."""
        if not isinstance(value, str):
            raise_invalid(name, value, "must be a string")
        if self.choices and value not in self.choices:
            raise_invalid(name, value, f"must be one of {', '.join(self.choices)}")
        if not self.low <= len(value) <= self.high:
            raise_invalid(name, value, f"must have from {self.low:,} to {self.high:,} characters, not {len(value):,}")
        if not is_unicode(value):
            raise_invalid(name, value, "must be valid Unicode")


class Nullable(Spec):
    """Null, or a value of the type `spec`."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def check(self, value: Any, name: str) -> None:
        """Check that a value is null or has the type."""
        if value is not None:
            self.spec.check(value, name)


class ListOf(Spec):
    """A list of `low` to `high` values of the type `spec`."""

    def __init__(self, spec: Spec, low: int = 0, high: int = 1_000_000) -> None:
        self.spec, self.low, self.high = spec, low, high

    def check(self, value: Any, name: str) -> None:
        """Check the length of a list, and the type of its entries."""
        if not isinstance(value, (list, tuple)):
            raise_invalid(name, value, "must be a list")
        if not self.low <= len(value) <= self.high:
            raise_invalid(name, value, f"must have from {self.low:,} to {self.high:,} entries, not {len(value):,}")
        for i, entry in enumerate(value):
            self.spec.check(entry, f"{name}[{i}]")


class Tuple(Spec):
    """A list with one value for each of `specs`, of that type."""

    def __init__(self, specs: tuple[Spec, ...]) -> None:
        self.specs = specs

    def check(self, value: Any, name: str) -> None:
        """Check the length of a list, and the type of each entry."""
        if not isinstance(value, (list, tuple)) or len(value) != len(self.specs):
            raise_invalid(name, value, f"must be a list of {len(self.specs)} entries")
        for i, (spec, entry) in enumerate(zip(self.specs, value, strict=True)):
            spec.check(entry, f"{name}[{i}]")


class Record(Spec):
    """An object with all keys of `required` and any keys of `optional`, with values of the given types.

    Other keys are ignored, because a later version may have added them.
    """

    def __init__(self, required: Mapping[str, Spec] = NO_KEYS, optional: Mapping[str, Spec] = NO_KEYS) -> None:
        self.required, self.optional = required, optional

    def check(self, value: Any, name: str) -> None:
        """Check the keys of an object, and the types of their values."""
        if not isinstance(value, Mapping):
            raise_invalid(name, value, "must be an object")
        for key, spec in self.required.items():
            if key not in value:
                raise ConfigError(f"{name} has no {key!r}")
            spec.check(value[key], f"{name}.{key}")
        for key, spec in self.optional.items():
            if key in value:
                spec.check(value[key], f"{name}.{key}")


def raise_invalid(name: str, value: Any, requirement: str, hint: str = "") -> NoReturn:
    """Raise the error that a value is invalid: "NAME is VALUE, but REQUIREMENT", with a hint.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(f"{name} is {format_value(value)}, but {requirement}", hint)


def check_string(value: Any, name: str) -> None:
    """Check that the argument of a public function is a string.

    Raises:
        TypeError: If it is not; the message has the name of the parameter.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")


def check_strings(value: Any, name: str) -> list[str]:
    """Return one string, or the strings of an iterable, as a list.

    Raises:
        TypeError: If it is neither; the message has the name of the parameter.
    """
    if isinstance(value, (bytes, bytearray)) or not isinstance(value, (str, Iterable)):
        raise TypeError(f"{name} must be a string or an iterable of strings, not {type(value).__name__}")
    return [value] if isinstance(value, str) else list(iterate_strings(value, name))


def iterate_strings(value: Any, name: str) -> Iterator[str]:
    """Return an iterator over the strings of an iterable that is not a string itself; each is checked when it is taken.

    Raises:
        TypeError: If it is not such an iterable, or yields anything else; the message has the name of the parameter.
    """
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be an iterable of strings, not {type(value).__name__}")
    return _checked_strings(value, name)


def _checked_strings(strings: Iterable[Any], name: str) -> Iterator[str]:
    for string in strings:
        if not isinstance(string, str):
            raise TypeError(f"{name} must be strings, not {type(string).__name__}")
        yield string


def check_type(value: Any, name: str, *kinds: type) -> None:
    """Check that the argument of a public function has one of several types.

    Raises:
        TypeError: If it is not; the message has the names of the parameter and of the types.
    """
    if not isinstance(value, kinds):
        shown = {str: "a string", type(None): "None"}
        names = " or ".join(shown.get(kind, f"a {kind.__name__}") for kind in kinds)
        raise TypeError(f"{name} must be {names}, not {type(value).__name__}")


def is_short_name(name: str) -> bool:
    """Return whether a string can be a name, which an error message shows whole; a text is longer."""
    return len(name) <= MAX_NAME_CHARS and "\n" not in name


def format_name(name: str) -> str:
    """Return the quoted name of a file for an error message; a text that was given instead of a name is shortened."""
    return repr(name) if is_short_name(name) else format_value(name)


def format_value(value: Any) -> str:
    """Return a short representation of a value for an error message, without control characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a whole number of about {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    return _value_repr.repr(value)


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, which is in the plural unless the number is 1.

    Args:
        number: The number.
        noun: The noun in the singular.
        plural: The noun in the plural. Defaults to `noun` + "s".

    >>> format_count(1, "file"), format_count(1_500, "file"), format_count(2, "text is", "texts are")
    ('1 file', '1,500 files', '2 texts are')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_number(value: float | None, decimals: int, *, sign: bool = False, separator: str = ",") -> str:
    """Return a number as people read it: with separators of thousands, and without a sign if it is rounded to zero.

    Args:
        value: The number.
        decimals: Number of decimals.
        sign: Whether a number above zero has a "+".
        separator: What separates thousands; "" for a format that programs read.

    Returns:
        The number; "–" if there is none, or if it is not finite. A very large one has an exponent.

    >>> format_number(1234.5678, 2), format_number(-0.0001, 2), format_number(0.5, 1, sign=True), format_number(None, 1)
    ('1,234.57', '0.00', '+0.5', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    rounded = f"{value:{'+' if sign else ''},.{decimals}{'f' if abs(value) < MAX_WRITTEN_OUT else 'e'}}"
    is_zero = not any(digit in rounded for digit in "123456789")
    return (rounded.lstrip("+-") if is_zero else rounded).replace(",", separator)


def format_significant(value: float, digits: int = 3, *, separator: str = ",") -> str:
    """Return a number with this many significant digits or more; only a tiny or a huge one has an exponent.

    Args:
        value: The number.
        digits: Number of significant digits of a fraction; whole numbers are complete.
        separator: What separates thousands; "" for a format that programs read.

    >>> format_significant(54512.3), format_significant(1.2345), format_significant(0.00001), format_significant(12.0)
    ('54,512', '1.23', '1e-05', '12')
    """
    if abs(value) < 10 ** (digits - 1):
        return f"{value:.{digits}g}"
    return format_number(value, 0, separator=separator)


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can encode a string: it has no lone surrogate."""
    return find_surrogate(text) is None


def find_surrogate(text: str) -> int | None:
    """Return the position of the first lone surrogate, which is no character; None if there is none.

    Invalid bytes in an argument or a file name arrive as lone surrogates, and JSON can contain them as escapes.
    """
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def parse_json(text: str | bytes) -> Any:
    """Parse strict JSON.

    Raises:
        ConfigError: If the text is not JSON, has more than `MAX_JSON_VALUES` values or is nested deeper than
            `MAX_DEPTH`; if an object has the same key twice; if a number is NaN, infinite, too large for a float or has
            thousands of digits; or if a string contains a lone surrogate.
    """
    commas = text.count(",") if isinstance(text, str) else text.count(b",")
    if commas > MAX_JSON_VALUES:  # a parsed empty list takes 56 bytes, its text only 2
        raise ConfigError(f"its JSON has more than {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text, object_pairs_hook=_make_object, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ConfigError("its JSON is nested too deeply") from error
    except ConfigError:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"its JSON cannot be read: {error}") from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise ConfigError("its JSON contains a number that is too large") from error
    _check_plain(value)
    return value


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the dict of a JSON object; raise ConfigError if a key occurs twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = set()
        for key, _ in pairs:
            if key in keys:
                raise ConfigError(f"its JSON has the key {format_value(key)} twice")
            keys.add(key)
    return values


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN, Infinity and -Infinity, which Python's parser accepts although they are not JSON."""
    raise ConfigError(f"its JSON contains {name}, which is not a JSON number")


def _check_plain(value: Any) -> None:
    """Check the depth, the strings and the numbers of a parsed value, one level of nesting after the other."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        next_level: list[Any] = []
        for item in level:
            kind = type(item)  # `json` makes exactly these types; comparing them is faster than `isinstance`
            if kind is str:
                if not is_unicode(item):
                    raise ConfigError(f"its JSON contains {format_value(item)}, which is not valid Unicode")
            elif kind is dict:
                next_level.extend(item)
                next_level.extend(item.values())
            elif kind is list:
                next_level.extend(item)
            elif kind is float and not math.isfinite(item):  # for example 1e999
                raise ConfigError("its JSON contains a number that is too large")
        if not next_level:
            return
        level = next_level
    raise ConfigError(f"its JSON is nested more than {MAX_DEPTH} levels deep")
