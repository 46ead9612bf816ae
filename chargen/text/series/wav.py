"""Read and write recordings: WAV files with PCM or floating-point samples.

    "RIFF" · size of the rest (4 bytes) · "WAVE" · chunk, chunk, …           all numbers are little-endian
    a chunk      name (4 bytes) · size (4 bytes) · content · a zero byte if the size is odd
    "fmt "       format (2) · channels (2) · rate in Hz (4) · bytes/s (4) · bytes of all channels (2) · bits (2) · …
    "data"       the samples: of each time those of all channels, one after another

The module `wave` of Python's library reads only PCM, and only recent versions read WAVE_FORMAT_EXTENSIBLE, whose real
format is in the last 16 bytes of "fmt ". Compressed formats are refused by name. A program that writes to a pipe does
not know the size of "data" in advance, and states 2³² − 1: the samples then go on to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.io import write_atomically
from chargen.schema import format_count
from chargen.text.series.quantizer import MAX_MAGNITUDE, MAX_RATE_HZ, Values

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMATS = {
    2: "Microsoft ADPCM", 6: "A-law", 7: "μ-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MPEG", 0x55: "MP3",
}  # fmt: skip
UNKNOWN_SIZE = 0xFFFFFFFF
MIN_FORMAT_BYTES, MIN_EXTENSIBLE_BYTES = 16, 26
HOW_TO_CONVERT = "Convert it first: ffmpeg -i FILE.wav -c:a pcm_s16le NEW.wav"
HOW_TO_COPY = "Copy or record it again."
MAX_WRITTEN_BYTES = UNKNOWN_SIZE - 44


class Recording(NamedTuple):
    """The samples of a recording."""

    values: Values  #: the mean of all channels, [N]; integers are divided by the largest one, so full scale is ±1
    rate_hz: int
    channels: int


class _Format(NamedTuple):
    kind: int  #: PCM or FLOAT
    channels: int
    rate_hz: int
    sample_bytes: int


def is_wav(start: bytes) -> bool:
    """Return whether a file that starts with these bytes is a WAV file, or was meant to be one."""
    return start[:4] in (b"RIFF", b"RIFX", b"RF64") and b"WAVE".startswith(start[8:12])


def parse_wav(data: bytes, where: str) -> Recording:
    """Return the samples of a WAV file.

    Args:
        data: The content of the file.
        where: Its name, for error messages.

    Raises:
        CorpusError: If it is damaged, compressed, has no samples, or a sample is not a finite number.
    """
    if not data:
        raise CorpusError(f"{where} is empty", "Give a recording with at least two samples.")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        if data[:4] in (b"RIFX", b"RF64"):
            raise CorpusError(f"{where} is a big-endian or 64-bit WAV file, which is not read", HOW_TO_CONVERT)
        raise CorpusError(f"{where} is damaged, or no WAV file", f"{HOW_TO_COPY} {HOW_TO_CONVERT}")
    found, position = None, 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8
        if name == b"data":
            if found is None:
                raise CorpusError(f"{where} is damaged: its samples come before their format", HOW_TO_COPY)
            return _recording(data, position, size, found, where)
        if name == b"fmt ":
            found = _parse_format(data[position : position + min(size, 64)], where)
        position += size + size % 2
    raise CorpusError(f"{where} is truncated: it ends before its samples", HOW_TO_COPY)


def _parse_format(content: bytes, where: str) -> _Format:
    """Return the format in a chunk "fmt "."""
    if len(content) < MIN_FORMAT_BYTES:
        raise CorpusError(f"{where} is damaged: its format has {len(content)} bytes", HOW_TO_COPY)
    kind, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", content[:MIN_FORMAT_BYTES])
    if kind == EXTENSIBLE:
        if len(content) < MIN_EXTENSIBLE_BYTES:
            raise CorpusError(f"{where} is damaged: its format has {len(content)} bytes", HOW_TO_COPY)
        kind = int.from_bytes(content[24:26], "little")
    if kind not in (PCM, FLOAT):
        name = FORMATS.get(kind, f"format {kind}")
        raise CorpusError(f"{where} is compressed ({name}); chargen reads PCM and floating-point WAV", HOW_TO_CONVERT)
    if not 1 <= rate_hz <= MAX_RATE_HZ or not channels:
        raise CorpusError(f"{where} is damaged: it states {channels} channels at {rate_hz:,} Hz", HOW_TO_COPY)
    sample_bytes = frame_bytes // channels
    if (kind, sample_bytes) not in _READERS or frame_bytes % channels or not 0 < bits <= 8 * sample_bytes:
        what = "floating-point" if kind == FLOAT else "integer"
        raise CorpusError(
            f"{where} has {what} samples of {bits} bits in {frame_bytes} bytes for {format_count(channels, 'channel')}",
            f"chargen reads integers of 8, 16, 24 and 32 bits, and floats of 32 and 64 bits. {HOW_TO_CONVERT}",
        )
    return _Format(kind, channels, rate_hz, sample_bytes)


def _recording(data: bytes, position: int, size: int, found: _Format, where: str) -> Recording:
    """Return the samples of a chunk "data" with its position and stated size."""
    available = len(data) - position
    frame_bytes = found.channels * found.sample_bytes
    if size == UNKNOWN_SIZE:
        size = available - available % frame_bytes
    if size > available or size % frame_bytes:
        raise CorpusError(
            f"{where} is truncated: its header states {size:,} bytes of samples, but there are {available:,}"
            if size > available
            else f"{where} is damaged: {size:,} bytes of samples are no whole number of {frame_bytes} bytes",
            HOW_TO_COPY,
        )
    if not size:
        raise CorpusError(f"{where} is empty: it has no samples", "Give a recording with at least two samples.")
    raw = np.frombuffer(data, dtype=np.uint8, count=size, offset=position)
    samples = _READERS[found.kind, found.sample_bytes](raw).reshape(-1, found.channels)
    is_usable = (np.abs(samples) <= MAX_MAGNITUDE).all(axis=1)
    if not is_usable.all():
        first = int(np.argmin(is_usable))
        raise CorpusError(
            f"{where}: sample {first + 1:,} ({first / found.rate_hz:.3f} s) is not a finite number up to "
            f"±{MAX_MAGNITUDE:g}",
            HOW_TO_COPY,
        )
    return Recording(samples.mean(axis=1, dtype=np.float64), found.rate_hz, found.channels)


def _read_int24(raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    padded = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
    padded[:, 1:] = raw.reshape(-1, 3)
    return padded.reshape(-1).view("<i4") / 2.0**31


#: (format, bytes per sample): bytes → samples in [−1, 1). Only 8-bit integers have no sign: silence is 128.
_READERS: dict[tuple[int, int], Callable[[NDArray[np.uint8]], NDArray[Any]]] = {
    (PCM, 1): lambda raw: (raw - 128.0) / 128.0,
    (PCM, 2): lambda raw: raw.view("<i2") / 2.0**15,
    (PCM, 3): _read_int24,
    (PCM, 4): lambda raw: raw.view("<i4") / 2.0**31,
    (FLOAT, 4): lambda raw: raw.view("<f4").astype(np.float64),
    (FLOAT, 8): lambda raw: raw.view("<f8"),
}


def write_wav(path: Path, values: Values, rate_hz: int) -> int:
    """Write a recording with one channel of 16-bit integers, atomically.

    Args:
        path: Path of the file; an existing file is replaced.
        values: The samples, [N]; full scale is ±1, and samples beyond it are clipped.
        rate_hz: Sampling rate.

    Returns:
        The number of samples that were clipped.

    Raises:
        CorpusError: If there are more samples than a WAV file can hold.
        StorageError: If the file cannot be written.
    """
    if 2 * len(values) > MAX_WRITTEN_BYTES:
        raise CorpusError(f"{len(values):,} samples do not fit in a WAV file", "Write several shorter ones.")
    scaled = np.rint(np.asarray(values) * 2.0**15)
    # +1 is 2¹⁵, one more than the largest integer of 16 bits: that is rounding, and not counted as clipped.
    num_clipped = int((np.abs(scaled) > 2.0**15).sum())
    samples = np.clip(scaled, -(2.0**15), 2.0**15 - 1).astype("<i2").tobytes()
    sizes = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, PCM, 1, rate_hz,
                        2 * rate_hz, 2, 16)  # fmt: skip
    write_atomically(path, [sizes + struct.pack("<4sI", b"data", len(samples)), samples])
    return num_clipped
