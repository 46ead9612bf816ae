r"""How `chargen sample` prints samples: a single one while it is generated, several as a list, or JSON lines.

    each is a single line     nothing between them: a list of names is a list of lines
    others                    a heading on stderr before each, so that stdout contains the samples only
    --sep TEXT                TEXT between two samples, on stdout
    -0                        a NUL character after each sample

With --sep and -0, no newline is added: the text of a sample is exact.

A sample of a series is a text of levels. It is printed like other texts, or as one value per line (--numbers), or is
written to a recording (--output FILE.wav).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.schema import format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.cli.commands.sample import SampleArguments
    from chargen.lm import LanguageModel
    from chargen.sampling.copy_report import CopyReport
    from chargen.sampling.generate import Sample
    from chargen.text.series.quantizer import Quantizer

FLUSH_EVERY_S = 0.02
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


class Separator(click.types.StringParamType):
    r"""The type of a text between samples: the escapes \n, \t, \r, \0 and \\ become the characters they stand for."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        r"""Return the text without escapes; fail if it is not valid UTF-8.

        >>> SEPARATOR.convert(r"\n--\n", None, None)
        '\n--\n'
        """
        if any("\ud800" <= char <= "\udfff" for char in value):
            self.fail("it is not valid UTF-8.", param, ctx)
        return re.sub(r"\\([ntr0\\])", lambda match: ESCAPES[match[1]], value)


SEPARATOR = Separator()


class SampleWriter:
    """Writes samples on stdout, one after the other.

    Args:
        num_samples: how many there will be.
        separator: text between two samples; None for the form that fits them.
        null: whether a NUL character follows each sample.
        form: turns a piece of a sample into what is printed.
    """

    def __init__(
        self,
        num_samples: int,
        separator: str | None = None,
        null: bool = False,
        form: Callable[[str], str] = lambda piece: piece,
    ) -> None:
        self._form = form
        self.num_samples = num_samples
        self.num_written = 0
        self._separator = separator
        self._null = null
        self._was_long = False  # whether the previous sample has several lines
        self._last = ""

    def write(self, text: str) -> None:
        """Write a sample that is generated already."""
        if self._separator is None and not self._null:
            self._write_heading(self._form(text))
        self.write_pieces([text])

    def write_pieces(self, pieces: Iterable[str]) -> None:
        """Write a sample piece by piece; the output is flushed every `FLUSH_EVERY_S` seconds, not for every piece."""
        if self._separator is not None and self.num_written:
            sys.stdout.write(self._separator)
        flushed_s = 0.0
        self._last = ""
        for piece in map(self._form, pieces):
            sys.stdout.write(piece)
            self._last = piece or self._last
            now = time.perf_counter()
            if now - flushed_s > FLUSH_EVERY_S:
                sys.stdout.flush()
                flushed_s = now
        if self._null:
            sys.stdout.write("\0")
        elif self._separator is None:
            self._end_line()
        sys.stdout.flush()
        self.num_written += 1

    def finish(self) -> None:
        """End the output after the last sample."""
        if self._separator is not None and self.num_written:
            self._end_line()
            sys.stdout.flush()

    def _write_heading(self, text: str) -> None:
        is_long = "\n" in text.removesuffix("\n")
        if self.num_samples > 1 and (is_long or self._was_long):
            newline = "\n" if self.num_written else ""
            click.echo(f"{newline}── sample {self.num_written + 1:,} of {self.num_samples:,} ──", err=True)
        self._was_long = is_long

    def _end_line(self) -> None:
        if not self._last.endswith("\n"):
            sys.stdout.write("\n")


class RecordingWriter:
    """Writes samples of a series to WAV files, each when it is complete, and says how long it is.

    Args:
        path: path of the file; of several samples, their numbers are added to it: "out-1.wav".
        quantizer: that of the model; it has a sampling rate.
        num_samples: how many samples there will be.
    """

    def __init__(self, path: str, quantizer: Quantizer, num_samples: int) -> None:
        self._path, self._quantizer = Path(path), quantizer
        self.num_samples = num_samples
        self.num_written = 0
        self._started = time.perf_counter()

    def write(self, text: str) -> None:
        """Write a sample that is generated already."""
        self.write_pieces([text])

    def write_pieces(self, pieces: Iterable[str]) -> None:
        """Write a sample when its last piece is generated."""
        from chargen.text.series.wav import write_wav

        rate_hz = self._quantizer.rate_hz or 0
        values = self._quantizer.decode("".join(pieces))
        elapsed_s = time.perf_counter() - self._started
        self.num_written += 1
        path = self._path
        if self.num_samples > 1:
            path = path.with_name(f"{path.stem}-{self.num_written}{path.suffix}")
        num_clipped = write_wav(path, values, rate_hz)
        clipped = "none of them is" if not num_clipped else format_count(num_clipped, "of them is", "of them are")
        speed = f"; {format_number(len(values) / elapsed_s, 0)} samples per second" if self.num_samples == 1 else ""
        duration = f"{format_number(len(values) / rate_hz, 1)} s"
        say(
            f"{path}: {format_count(len(values), 'sample')} at {rate_hz:,} Hz ({duration}), "
            f"{clipped} clipped at full scale{speed}"
        )

    def finish(self) -> None:
        """Do nothing: each file is complete."""


def make_writer(args: SampleArguments, quantizer: Quantizer | None, num_samples: int) -> SampleWriter | RecordingWriter:
    """Return the writer of the samples of a command.

    Args:
        args: the arguments of the command.
        quantizer: that of a model of a series; None for a model of texts.
        num_samples: how many samples there will be.
    """
    if quantizer is None:
        return SampleWriter(num_samples, args.sep, args.null)
    if args.output:
        return RecordingWriter(args.output, quantizer, num_samples)
    if not args.numbers:
        return SampleWriter(num_samples, args.sep, args.null)

    def print_values(piece: str) -> str:
        return "".join(f"{value}\n" for value in quantizer.format_values(piece))

    return SampleWriter(num_samples, args.sep, args.null, print_values)


def series_facts(quantizer: Quantizer | None, text: str) -> dict[str, Any]:
    """Return the JSON values of a sample of a series, besides its text: its sampling rate and its values."""
    if quantizer is None:
        return {}
    return {"rate_hz": quantizer.rate_hz, "values": list(map(float, quantizer.format_values(text)))}


def copied(pieces: Iterable[str], copy: StringIO) -> Iterator[str]:
    """Yield the pieces of a text, and write them into a copy of it."""
    for piece in pieces:
        copy.write(piece)
        yield piece


def print_json_sample(
    args: SampleArguments, text: str, prompt: str, drawn: Sample, settings: Mapping[str, Any],
    report: CopyReport | None,
) -> None:  # fmt: skip
    """Print a sample as a JSON object on a line.

    Args:
        args: the arguments of the command.
        text: the sample, with its prompt and its suffix if they are printed.
        prompt: the prompt of the sample.
        drawn: the sample.
        settings: fields of `SampleConfig`, those with a default only if they differ from it; and further values.
        report: which parts of the sample are copied, or None.
    """
    from chargen.sampling.settings import SampleConfig
    from chargen.ui.output import print_json

    values: dict[str, Any] = {"text": text, "prompt": prompt, "number": drawn.number}
    if args.suffix:
        values["suffix"] = args.suffix
    else:
        values |= {"ended": drawn.ended, "log_weight_nats": drawn.log_weight_nats}
    defaults = asdict(SampleConfig())
    always = ("temperature", "seed")
    values |= {k: v for k, v in settings.items() if k in always or k not in defaults or v != defaults[k]}
    if report is not None:
        values["report"] = report.to_json()
    print_json(values)


def print_report(lm: LanguageModel, text: str, corpus: Sequence[str], label: str = "") -> None:
    """Print on stderr how much of a sample occurs in the training text.

    Args:
        lm: the model.
        text: the sample, without its prompt.
        corpus: files with the training text; empty for those that the model was trained on.
        label: what the lines begin with, to tell several samples apart.
    """
    report = lm.copy_report(text, corpus)
    novel = ", ".join(f"{share:.0%} of {n}-grams" for n, share in report.novel_ngrams.items() if share is not None)
    say(f"{label}longest copy: {format_count(report.passage_chars, 'character')}, {report.passage!r}")
    say(f"{label}new: {novel or 'no n-gram, because the sample is too short'}")
