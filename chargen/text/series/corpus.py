"""Read recordings and columns of numbers as a corpus: all of them with one quantizer, joined as one text.

    inputs ─▶ values (`numbers.py`) ─▶ range of all of them ─▶ levels (`quantizer.py`) ─▶ `Corpus`

The range of a new model is that of the whole corpus, as the alphabet of characters is. A trained model reads every
other series with its own range: what is beyond it is clipped, and a note says how much.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chargen.config import MULAW, DataConfig
from chargen.errors import ChargenError, ConfigError, CorpusError
from chargen.registry import did_you_mean_file
from chargen.schema import format_count, format_name
from chargen.text.builtin_corpora import is_builtin
from chargen.text.corpus import Corpus
from chargen.text.documents import MARK, NONE
from chargen.text.inputs import is_remote, local_path, open_input
from chargen.text.limits import ReadLimit, check_memory
from chargen.text.long_text import LongText
from chargen.text.readers import MAX_NAMED_FILES, corpus_name, describe_repeated, display_name
from chargen.text.series.numbers import Series, read_series
from chargen.text.series.quantizer import Quantizer, Values, parse_levels

FILE = "file"  #: the setting of `documents` with which each file is a document
MEMORY_PER_BYTE = 4  #: bytes of memory for each byte of a file of 16-bit samples, which are read as float64
Parts = list[tuple[str, int | None]]


def read_series_corpus(
    arguments: Sequence[str],
    config: DataConfig,
    stdin: BinaryIO | None,
    limit: ReadLimit,
    quantizer: Quantizer | None = None,
) -> Corpus:
    """Read one or more series and join them as a text with one character per value.

    Args:
        arguments: Files, folders (read recursively, in sorted order), URLs, and "-" for `stdin`.
        config: Its tokenizer has the number of levels, `text_field` is the column, and `documents` is "none" (one
            series) or "file" (each file is a document).
        stdin: The stream that "-" reads; `sys.stdin.buffer` by default.
        limit: The size limit.
        quantizer: That of the model which reads the series. None: the range is that of the values.

    Raises:
        ConfigError: If `documents` is of another kind.
        CorpusError: If an input cannot be read, or the inputs have different sampling rates.
        TokenizerError: If all values are equal, or the number of levels is out of range.
    """
    levels = parse_levels(config.tokenizer.partition(":")[2]) if quantizer is None else quantizer.levels
    if config.documents not in (NONE, FILE):
        raise ConfigError(
            f"a series cannot be split into documents by {config.documents!r}: it has no lines or separators",
            "Give --documents file, with which each file is a document, or leave it out.",
        )
    parts: Parts = []
    notes: list[str] = []
    found = [each for name in arguments for each in _read(name, config, stdin, limit, quantizer, parts, notes)]
    if not found:
        raise CorpusError("no series to read", "Give a WAV file, or a file of numbers.")
    if quantizer is None:
        quantizer = _fit(found, levels)
        notes.insert(0, quantizer.describe_fit(np.concatenate([each.values for each in found])))
    else:
        _check_rates(found, quantizer)
        notes += _describe_clipped(found, quantizer)
    notes += [f"{each.where}: its {each.channels} channels are averaged" for each in found if each.channels > 1]
    content = LongText(config.documents != NONE)
    for each in found:
        content.write(quantizer.encode(each.values) + (MARK if content.has_documents else ""))
    return Corpus(
        content, corpus_name(arguments), tuple(arguments), files=len(parts), notes=_shorten(notes), parts=tuple(parts),
        repeated_files=describe_repeated(parts), config=config, quantizer=quantizer,
    )  # fmt: skip


def corpus_of_values(
    values: Values | Sequence[float],
    *,
    rate_hz: int | None = None,
    name: str = "series",
    config: DataConfig | None = None,
) -> Corpus:
    """Return a corpus of the values of a series.

    Args:
        values: Finite numbers, [N].
        rate_hz: Sampling rate of a recording; None for other numbers.
        name: A short name that a run can have.
        config: Its tokenizer has the number of levels, "mulaw:256" by default.

    Raises:
        CorpusError: If there are no values, or one is not a finite number.
        TokenizerError: If all values are equal.

    >>> import chargen
    >>> chargen.corpus_of_values([0.0, 0.5, -0.5], rate_hz=8000).text
    '⢀⣿⠀'
    """
    config = config or DataConfig(tokenizer=MULAW)
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not len(series) or not np.isfinite(series).all():
        raise CorpusError(f"the values have the shape {list(series.shape)}", "Give a list of finite numbers.")
    quantizer = Quantizer.fit(series, parse_levels(config.tokenizer.partition(":")[2]), rate_hz)
    text = LongText.from_string(quantizer.encode(series))
    return Corpus(text, name, notes=(quantizer.describe_fit(series),), config=config, quantizer=quantizer)


def _read(
    argument: str, config: DataConfig, stdin: BinaryIO | None, limit: ReadLimit, quantizer: Quantizer | None,
    parts: Parts, notes: list[str],
) -> Iterator[Series]:  # fmt: skip
    """Yield the series that an argument names, and add to `parts` what was read."""
    path = argument if os.path.exists(argument) else local_path(argument) or argument
    if argument == "-":
        yield read_series(stdin or sys.stdin.buffer, display_name(argument), config, limit, quantizer)
        parts.append((argument, None))
    elif argument and os.path.isdir(path) and not limit.regular_only:
        yield from _read_folder(Path(path), config, limit, quantizer, parts, notes)
    elif argument and (os.path.exists(argument) or is_remote(argument)):
        size = os.path.getsize(path) if os.path.isfile(path) else None
        yield _read_file(argument, size, config, limit, quantizer)
        parts.append((argument if size is None else path, size))
    elif is_builtin(argument):
        raise CorpusError(
            f"the built-in corpus {argument} is a text, but the tokenizer {MULAW} needs a series",
            "Give a WAV file or a file of numbers, or leave out --tokenizer.",
        )
    else:
        raise CorpusError(f"no file or folder named {format_name(argument)}", did_you_mean_file(argument))


def _read_file(
    name: str, size: int | None, config: DataConfig, limit: ReadLimit, quantizer: Quantizer | None
) -> Series:
    check_memory(MEMORY_PER_BYTE * (size or 0), name, "Give a shorter series.")
    with open_input(name, limit) as stream:
        return read_series(stream, name, config, limit, quantizer)


def _read_folder(
    folder: Path, config: DataConfig, limit: ReadLimit, quantizer: Quantizer | None, parts: Parts, notes: list[str]
) -> Iterator[Series]:
    """Yield each series in a folder, in sorted order. Hidden files are ignored; a note names other skipped files."""
    # The user did not name these files: a link may lead to a device without an end.
    regular, num_before, skipped = replace(limit, regular_only=True), len(parts), []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        try:
            yield _read_file(str(path), path.stat().st_size, config, regular, quantizer)
        except CorpusError as error:
            skipped.append(error.message)
        else:
            parts.append((str(path), path.stat().st_size))
    limit.num_bytes = regular.num_bytes
    reasons = "; ".join(skipped[:MAX_NAMED_FILES]) + ("; …" if len(skipped) > MAX_NAMED_FILES else "")
    if len(parts) == num_before:
        raise CorpusError(f"no series in the folder {folder}", f"Hidden files are ignored. {reasons}".strip())
    if skipped:
        notes.append(
            f"{folder}: left out {format_count(len(skipped), 'file that is', 'files that are')} no series: {reasons}"
        )


def _fit(found: Sequence[Series], levels: int) -> Quantizer:
    """Return the quantizer of some series with the same sampling rate."""
    first = found[0]
    for each in found:
        if each.rate_hz != first.rate_hz:
            raise _rate_error(each, first.where, first.rate_hz)
    values = np.concatenate([each.values for each in found])
    channels = max(each.channels for each in found)
    try:
        return Quantizer.fit(values, levels, first.rate_hz, channels=channels, column=first.column)
    except ChargenError as error:
        named = ", ".join(each.where for each in found[:MAX_NAMED_FILES])
        raise type(error)(f"{named}: {error.message}", error.hint) from error


def _describe_clipped(found: Sequence[Series], quantizer: Quantizer) -> list[str]:
    """Return a note with the number of values beyond the range of a model, or none."""
    clipped = sum(quantizer.num_clipped(each.values) for each in found)
    if not clipped:
        return []
    total = format_count(sum(len(each.values) for each in found), "value")
    return [
        f"{clipped:,} of {total} are beyond the range of the model's training data, {quantizer.describe_range()}, and "
        "are clipped"
    ]


def _check_rates(found: Sequence[Series], quantizer: Quantizer) -> None:
    """Check that recordings have the sampling rate of a model. Numbers without a rate may be samples at any rate."""
    for each in found:
        if each.rate_hz not in (None, quantizer.rate_hz):
            raise _rate_error(each, "the model", quantizer.rate_hz)


def _rate_error(series: Series, other: str, rate_hz: int | None) -> CorpusError:
    """Return the error for a series whose sampling rate differs from another one."""
    own = "no sampling rate" if series.rate_hz is None else f"a sampling rate of {series.rate_hz:,} Hz"
    if series.rate_hz is None or rate_hz is None:
        return CorpusError(
            f"{series.where} has {own}, but {other} has {'none' if rate_hz is None else f'{rate_hz:,} Hz'}",
            "Recordings and other numbers cannot be mixed.",
        )
    return CorpusError(
        f"{series.where} has {own}, but {other} has {rate_hz:,} Hz",
        f"Resample it first: ffmpeg -i FILE.wav -ar {rate_hz} NEW.wav",
    )


def _shorten(notes: Sequence[str]) -> tuple[str, ...]:
    """Return the notes; of many, the first ones and how many there are."""
    limit = 2 * MAX_NAMED_FILES
    return (*notes[:limit], *([f"{len(notes) - limit:,} more notes"] if len(notes) > limit else []))
