"""Quantize a series of numbers by the μ-law, so that it becomes a text with one character per value.

    value ─▶ x = (value − offset) / scale, clipped to [−1, 1]
          ─▶ F(x) = sgn(x) · ln(1 + μ|x|) / ln(1 + μ)                    companding, in [−1, 1]
          ─▶ level = round(μ · (F(x) + 1) / 2)                           0 … μ
          ─▶ the character U+2800 + level                                one of the 256 Braille patterns

μ = N − 1 for N levels, as in WaveNet (van den Oord et al. 2016, arXiv:1609.03499); the formula is that of ITU-T G.711
(1972). The steps between levels are small near the offset and grow with the distance from it, as hearing does. With 256
levels, a recording of speech or music keeps a signal-to-noise ratio of about 38 dB, at any volume.

Braille patterns are printable, take one column, and are no letters, marks or white space. So everything that works on a
text works on a series: documents, windows of back-propagation, sampling, scoring, resuming.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import MULAW
from chargen.errors import TokenizerError
from chargen.schema import MAX_NAME_CHARS, Integer, Nullable, Number, Record, Spec, String, format_count, format_value
from chargen.text.decoding import code_points

FIRST_CHARACTER = 0x2800  #: BRAILLE PATTERN BLANK, the character of level 0
MIN_LEVELS, MAX_LEVELS, DEFAULT_LEVELS = 2, 256, 256
MAX_RATE_HZ = 10_000_000
MAX_MAGNITUDE = 1e150  #: limit of values; their squares are still finite
MIN_SCALE = 1e-150  #: limit of the range; a value divided by it is still finite
MIN_DIGITS, MAX_DIGITS = 4, 17  #: digits of a value that is printed; 17 are enough for any float64
Values = NDArray[np.float64]

QUANTIZER_SPEC: Spec = Record(
    {
        "levels": Integer(MIN_LEVELS, MAX_LEVELS),
        "rate_hz": Nullable(Integer(1, MAX_RATE_HZ)),
        "offset": Number(-MAX_MAGNITUDE, MAX_MAGNITUDE),
        "scale": Number(MIN_SCALE, 2 * MAX_MAGNITUDE),
        "channels": Integer(1, 65_535),
        "column": String(MAX_NAME_CHARS),
    }
)


@dataclass(frozen=True)
class Quantizer:
    """How numbers become characters, and characters become numbers."""

    levels: int = DEFAULT_LEVELS  #: number of levels N
    rate_hz: int | None = None  #: sampling rate of a recording; None for other numbers
    offset: float = 0.0  #: the value of which the quantization is finest: 0 for a recording, else the median
    scale: float = 1.0  #: largest distance of a value of the training data from the offset
    channels: int = 1  #: number of channels of the recordings, which are averaged
    column: str = ""  #: name of the column that the numbers are from; "" for a recording or a file of numbers

    @classmethod
    def fit(cls, values: Values, levels: int, rate_hz: int | None = None, **about: Any) -> Quantizer:
        """Return the quantizer whose range is that of some values.

        Args:
            values: Finite values, [N].
            levels: Number of levels.
            rate_hz: Sampling rate; None for numbers that are no recording.
            about: Further fields.

        Raises:
            TokenizerError: If all values are equal.
        """
        offset = 0.0 if rate_hz is not None else float(np.median(values))
        scale = float(np.abs(values - offset).max())
        if scale < MIN_SCALE:
            what = "silent: all of its samples are 0" if rate_hz is not None else f"constant: each value is {offset:g}"
            raise TokenizerError(f"the series is {what}", "There is nothing to learn from it: give another one.")
        return cls(levels, rate_hz, offset, scale, **about)

    @property
    def spec(self) -> str:
        """The tokenizer as it is named on the command line: "mulaw:256"."""
        return f"{MULAW}:{self.levels}"

    @property
    def values(self) -> Values:
        """The value of each level, ascending, [levels]."""
        mu = self.levels - 1
        companded = 2.0 * np.arange(self.levels) / mu - 1.0
        return self.offset + self.scale * np.sign(companded) * np.expm1(np.abs(companded) * math.log1p(mu)) / mu

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The value of each level as a decimal number, with as many digits as are needed to read the level again."""
        levels = np.arange(self.levels)
        for digits in range(MIN_DIGITS, MAX_DIGITS + 1):
            texts = tuple(f"{value:.{digits}g}" for value in self.values)
            if np.array_equal(self.quantize(np.array(texts, dtype=np.float64)), levels):
                return texts
        return texts

    def format_values(self, text: str) -> list[str]:
        """Return the value of each character of a text of levels as a decimal number."""
        return [self.labels[ord(char) - FIRST_CHARACTER] for char in text]

    def quantize(self, values: Values) -> NDArray[np.int64]:
        """Return the level of each value, 0 to levels − 1, [N]; a value beyond the range gets the nearest level."""
        mu = self.levels - 1
        x = np.clip((np.asarray(values, dtype=np.float64) - self.offset) / self.scale, -1.0, 1.0)
        companded = np.sign(x) * np.log1p(mu * np.abs(x)) / math.log1p(mu)
        levels: NDArray[np.int64] = np.floor((companded + 1.0) / 2.0 * mu + 0.5).astype(np.int64)
        return levels

    def encode(self, values: Values) -> str:
        """Return the text of a series: a character per value."""
        return (self.quantize(values) + FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")

    def decode(self, text: str) -> Values:
        """Return the values of a text of levels, [N].

        Raises:
            TokenizerError: If a character is no level.
        """
        self.check_text(text, "text")
        return self.values[code_points(text).astype(np.int64) - FIRST_CHARACTER] if text else np.zeros(0)

    def num_clipped(self, values: Values) -> int:
        """Return how many values are beyond the range; rounding errors of the range itself do not count."""
        return int((np.abs(values - self.offset) > self.scale * (1.0 + 1e-12)).sum())

    def is_text_of_levels(self, text: str) -> bool:
        """Return whether a text is not empty and each of its characters is a level."""
        last = FIRST_CHARACTER + self.levels - 1
        return bool(text) and all(FIRST_CHARACTER <= ord(char) <= last for char in text)

    def check_text(self, text: str, name: str) -> None:
        """Check that each character of a text is a level.

        Raises:
            TokenizerError: If one is not; the message has the name of the text.
        """
        last = FIRST_CHARACTER + self.levels - 1
        wrong = next((char for char in text if not FIRST_CHARACTER <= ord(char) <= last), None)
        if wrong is None:
            return
        if FIRST_CHARACTER <= ord(wrong) <= 0x28FF:
            problem = f"has level {ord(wrong) - FIRST_CHARACTER}, but the model has levels 0 to {self.levels - 1}"
        else:
            problem = f"contains {format_value(wrong)}, but the model is of {self.describe()}, not of texts"
        raise TokenizerError(
            f"the {name} {problem}",
            "Give a file: --prompt-file FILE.wav, --file FILE.wav, or a file with one number per line.",
        )

    def describe(self) -> str:
        """Return what the series is: "a series of samples at 8,000 Hz"."""
        if self.rate_hz is not None:
            return f"a series of samples at {self.rate_hz:,} Hz"
        return f"a series of numbers{f' ({self.column})' if self.column else ''}"

    @property
    def summary(self) -> str:
        """What the series is, its range and its levels, for `chargen info`."""
        return f"{self.describe()}, from {self.describe_range()}, in {self.levels} μ-law levels"

    def describe_range(self) -> str:
        """Return the range of the values: "−0.5 to 0.5"."""
        return f"{self.offset - self.scale:g} to {self.offset + self.scale:g}"

    def describe_fit(self, values: Values) -> str:
        """Return the size and the quality of the quantized series, for the user."""
        error = values - self.values[self.quantize(values)]
        signal, noise = float(np.var(values)), float(np.mean(error**2))
        ratio = f"{10 * math.log10(signal / noise):.1f} dB" if noise and signal else "no noise"
        length = f" ({len(values) / self.rate_hz:,.1f} s)" if self.rate_hz else ""
        return f"{self.summary}, with a signal-to-noise ratio of {ratio}: {format_count(len(values), 'value')}{length}"

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads."""
        return {
            "levels": self.levels, "rate_hz": self.rate_hz, "offset": self.offset, "scale": self.scale,
            "channels": self.channels, "column": self.column,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Quantizer:
        """Return the quantizer that `to_json` described.

        Raises:
            ConfigError: If a value is missing or out of range.
        """
        QUANTIZER_SPEC.check(values, "quantizer")
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def parse_levels(option: str) -> int:
    """Return the number of levels in `--tokenizer mulaw:256`.

    Args:
        option: What follows the colon; "" stands for DEFAULT_LEVELS.

    Raises:
        TokenizerError: If it is not a number from MIN_LEVELS to MAX_LEVELS.
    """
    if not option:
        return DEFAULT_LEVELS
    if not (option.isascii() and option.isdigit() and MIN_LEVELS <= int(option[:9]) <= MAX_LEVELS):
        raise TokenizerError(
            f"{MULAW}:{option[:60]} is not possible: the number of levels must be from {MIN_LEVELS} to {MAX_LEVELS}",
            f"Give --tokenizer {MULAW}:{DEFAULT_LEVELS}; fewer levels are coarser.",
        )
    return int(option)
