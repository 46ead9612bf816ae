"""WAV files: all formats that are read, what is refused, and reading what was written."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chargen.errors import ChargenError, CorpusError
from chargen.text.series.wav import is_wav, parse_wav, write_wav

TONE = 0.5 * np.sin(0.3 * np.arange(200))


def wav(
    data: bytes, kind: int = 1, channels: int = 1, rate_hz: int = 8000, bits: int = 16, size: int | None = None,
    is_extensible: bool = False,
) -> bytes:  # fmt: skip
    """Return a WAV file with a chunk of an odd size before the samples."""
    frame = channels * bits // 8
    content = struct.pack("<HHIIHH", 0xFFFE if is_extensible else kind, channels, rate_hz, rate_hz * frame, frame, bits)
    if is_extensible:
        content += struct.pack("<HHIH", 22, bits, 0, kind) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"fmt " + struct.pack("<I", len(content)) + content + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


INT16 = np.rint(TONE * 2**15).astype("<i2").tobytes()
INT24 = b"".join(round(x * 2**23).to_bytes(3, "little", signed=True) for x in TONE)
FORMATS = {
    "8 bits": (wav(np.rint(TONE * 128 + 128).astype("u1").tobytes(), bits=8), 1 / 128),
    "16 bits": (wav(INT16), 1 / 2**15),
    "24 bits": (wav(INT24, bits=24), 1 / 2**23),
    "32 bits": (wav(np.rint(TONE * 2**31).astype("<i4").tobytes(), bits=32), 1e-9),
    "float32": (wav(TONE.astype("<f4").tobytes(), kind=3, bits=32), 1e-7),
    "float64": (wav(TONE.astype("<f8").tobytes(), kind=3, bits=64), 0.0),
    "extensible": (wav(INT16, is_extensible=True), 1 / 2**15),
    "extensible float": (wav(TONE.astype("<f4").tobytes(), kind=3, bits=32, is_extensible=True), 1e-7),
    "from a pipe": (wav(INT16, size=0xFFFFFFFF), 1 / 2**15),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_the_same_samples(name):
    data, tolerance = FORMATS[name]
    recording = parse_wav(data, "x.wav")
    assert (recording.rate_hz, recording.channels, len(recording.values)) == (8000, 1, 200)
    assert np.abs(recording.values - TONE).max() <= tolerance


def test_channels_are_averaged():
    samples = np.stack([TONE, -TONE, np.full(200, 0.3)], axis=1)
    recording = parse_wav(wav(samples.astype("<f8").tobytes(), kind=3, channels=3, bits=64), "x.wav")
    assert recording.channels == 3
    assert recording.values == pytest.approx(0.1)


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1.0, 1.0)))
def test_a_written_recording_is_read_again(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    assert write_wav(path, values, 16_000) == 0
    recording = parse_wav(path.read_bytes(), "x.wav")
    assert recording.rate_hz == 16_000
    assert np.abs(recording.values - values).max() <= 1 / 2**15
    with wave.open(str(path)) as file:  # the reader of Python's library
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert file.getnframes() == len(values)


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path: Path):
    assert write_wav(tmp_path / "x.wav", np.array([1.0, 1.5, -2.0, 0.0]), 8000) == 2
    values = parse_wav((tmp_path / "x.wav").read_bytes(), "x.wav").values
    assert values == pytest.approx([1, 1, -1, 0], abs=1e-4)


REFUSED = {
    "x.wav is empty$": b"",
    "empty: it has no samples": wav(b""),
    "truncated: its header states 900 bytes of samples, but there are 101": wav(bytes(101), size=900),
    "damaged: 101 bytes of samples are no whole number of 2 bytes": wav(bytes(101)),
    "truncated: it ends before its samples": wav(bytes(100))[:40],
    "damaged, or no WAV file": b"ID3 a song",
    "compressed .IMA ADPCM.": wav(bytes(100), kind=0x11, bits=4),
    "compressed .Microsoft ADPCM.": wav(bytes(100), kind=2, bits=4),
    "compressed .μ-law.": wav(bytes(100), kind=7, bits=8),
    "compressed .MP3.": wav(bytes(100), kind=0x55, bits=8),
    "compressed .format 99.": wav(bytes(100), kind=99),
    "integer samples of 64 bits": wav(bytes(80), bits=64),
    "floating-point samples of 16 bits": wav(bytes(80), kind=3),
    "0 channels": wav(bytes(80), channels=0),
    "at 0 Hz": wav(bytes(80), rate_hz=0),
    "big-endian or 64-bit": b"RF64" + wav(bytes(80))[4:],
    "sample 3 .0.000 s. is not a finite number": wav(np.array([0, 1, np.nan], "<f4").tobytes(), kind=3, bits=32),
    "sample 2 .0.000 s. is not a finite number": wav(np.array([0, np.inf], "<f8").tobytes(), kind=3, bits=64),
    "samples come before their format": b"RIFF\0\0\0\0WAVEdata" + struct.pack("<I", 4) + bytes(4),
    "its format has 3 bytes": b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 3) + b"abc",
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_by_name(message):
    with pytest.raises(CorpusError) as caught:
        parse_wav(REFUSED[message], "x.wav")
    caught.match(message) if not message.endswith("$") else caught.match(message.replace("$", "\n"))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 400), st.binary(max_size=4), st.integers(0, 60))
def test_a_damaged_file_gives_samples_or_an_error_of_chargen(end, noise, position):
    data = FORMATS["extensible"][0][:end]
    data = data[:position] + noise + data[position + len(noise) :]
    try:
        parse_wav(data, "x.wav")
    except ChargenError as error:
        assert error.message.startswith("x.wav")


def test_a_wav_file_is_recognised_by_its_first_bytes():
    assert is_wav(wav(b"")) and is_wav(b"RIFF")
    assert not is_wav(b"") and not is_wav(b"RIFF    AVI ") and not is_wav(b"1\n2\n")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(INT16)
    assert np.abs(parse_wav(stream.getvalue(), "x.wav").values - TONE).max() <= 1 / 2**15
