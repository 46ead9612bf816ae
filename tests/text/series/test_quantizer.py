"""The μ-law against its plain formula, and the laws of the quantizer."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError, TokenizerError
from chargen.text.series.quantizer import MAX_MAGNITUDE, Quantizer, parse_levels

laws = settings(deadline=None)
numbers = st.floats(-1e6, 1e6)
quantizers = st.builds(
    Quantizer, levels=st.integers(2, 256), offset=numbers, scale=st.floats(1e-3, 1e6), rate_hz=st.none()
)


def level_by_hand(value: float, levels: int, offset: float, scale: float) -> float:
    """The position of a value between the levels, before it is rounded."""
    x = max(-1.0, min(1.0, (value - offset) / scale))
    mu = levels - 1
    companded = math.copysign(math.log(1 + mu * abs(x)) / math.log(1 + mu), x)
    return mu * (companded + 1) / 2


@laws
@given(quantizers, numbers)
def test_a_level_is_that_of_the_formula(quantizer, value):
    expected = level_by_hand(value, quantizer.levels, quantizer.offset, quantizer.scale)
    assert abs(quantizer.quantize(np.array([value]))[0] - expected) <= 0.5 + 1e-6


@laws
@given(quantizers)
def test_the_value_of_a_level_has_this_level_also_when_it_is_printed(quantizer):
    levels = list(range(quantizer.levels))
    assert (np.diff(quantizer.values) >= 0).all()
    if quantizer.scale > 1e-6 * abs(quantizer.offset):  # otherwise float64 cannot tell the levels apart
        text = quantizer.encode(quantizer.values)
        assert [ord(char) - 0x2800 for char in text] == levels
        assert quantizer.decode(text).tolist() == quantizer.values.tolist()
        printed = np.array(quantizer.format_values(text), dtype=np.float64)
        assert quantizer.quantize(printed).tolist() == levels


@laws
@given(st.lists(numbers, min_size=2), st.integers(2, 256))
def test_no_value_of_the_fitted_series_is_clipped(values, levels):
    series = np.array(values)
    if series.max() - series.min() < 1e-140:
        with pytest.raises(TokenizerError, match="constant"):
            Quantizer.fit(series, levels)
        return
    quantizer = Quantizer.fit(series, levels)
    assert quantizer.num_clipped(series) == 0
    assert quantizer.num_clipped(np.array([quantizer.offset + 1.1 * quantizer.scale])) == 1
    assert quantizer.offset == np.median(series)


def test_the_signal_to_noise_ratio_of_256_levels_is_38_db_at_any_volume():
    tone = np.sin(2 * np.pi * 440.3 / 8000 * np.arange(8000))
    quantizer = Quantizer(256)
    for volume in (1.0, 0.3, 0.1):
        values = volume * tone
        error = values - quantizer.decode(quantizer.encode(values))
        assert 10 * math.log10(np.var(values) / np.mean(error**2)) == pytest.approx(38, abs=2)
    assert " dB: 8,000 values (1.0 s)" in Quantizer.fit(tone, 256, 8000).describe_fit(tone)


def test_a_silent_recording_is_refused_but_a_model_can_read_it():
    with pytest.raises(TokenizerError, match="silent: all of its samples are 0"):
        Quantizer.fit(np.zeros(10), 256, 8000)
    quantizer = Quantizer(256, 8000)
    assert quantizer.decode(quantizer.encode(np.zeros(3))) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("option", ["1", "300", "x", "-5", "2.5", "0", "٣", "9" * 5000, " 8"])
def test_an_impossible_number_of_levels_is_refused(option):
    with pytest.raises(TokenizerError, match="the number of levels must be from 2 to 256"):
        parse_levels(option)


def test_the_number_of_levels_is_256_by_default():
    assert (parse_levels(""), parse_levels("2"), parse_levels("256"), parse_levels("016")) == (256, 2, 256, 16)


def test_a_text_that_is_no_series_is_refused_by_name():
    quantizer = Quantizer(16, 8000)
    with pytest.raises(
        TokenizerError, match="the prompt contains 'h', but the model is of a series of samples at 8,000"
    ):
        quantizer.check_text("hello", "prompt")
    with pytest.raises(TokenizerError, match="level 16, but the model has levels 0 to 15"):
        quantizer.check_text("\u2810", "text")
    assert not quantizer.is_text_of_levels("")


def test_json_gives_the_same_quantizer():
    quantizer = Quantizer(17, 44_100, 0.5, 3.25, 2, "temp")
    assert Quantizer.from_json(json.loads(json.dumps(quantizer.to_json()))) == quantizer
    assert Quantizer.from_json({**quantizer.to_json(), "key of a later version": 1}) == quantizer


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("levels", 1), ("levels", 257), ("levels", 2.5), ("levels", True), ("rate_hz", 0), ("rate_hz", 10**12),
        ("rate_hz", "8000"), ("scale", 0.0), ("scale", 5e-324), ("scale", -1.0), ("scale", math.inf),
        ("scale", math.nan),
        ("scale", 3 * MAX_MAGNITUDE), ("offset", math.nan), ("offset", 1e200), ("channels", 0), ("channels", 10**9),
        ("column", 5), ("column", "x" * 5000),
    ],
)  # fmt: skip
def test_hostile_json_is_refused(key, value):
    with pytest.raises(ConfigError):
        Quantizer.from_json({**Quantizer().to_json(), key: value})


@pytest.mark.parametrize("key", Quantizer().to_json())
def test_json_without_a_key_is_refused(key):
    with pytest.raises(ConfigError):
        Quantizer.from_json({name: value for name, value in Quantizer().to_json().items() if name != key})
