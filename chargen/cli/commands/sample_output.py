r"""How `chargen sample` prints samples: a single one while it is generated, several as a list, or JSON lines.

    each is a single line     nothing between them: a list of names is a list of lines
    others                    a heading on stderr before each, so that stdout contains the samples only
    --sep TEXT                TEXT between two samples, on stdout
    -0                        a NUL character after each sample

With --sep and -0, no newline is added: the text of a sample is exact.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from chargen.schema import format_count
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.cli.commands.sample import SampleArguments
    from chargen.lm import LanguageModel
    from chargen.sampling.copy_report import CopyReport
    from chargen.sampling.generate import Sample

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
    """

    def __init__(self, num_samples: int, separator: str | None = None, null: bool = False) -> None:
        self.num_samples = num_samples
        self.num_written = 0
        self._separator = separator
        self._null = null
        self._was_long = False  # whether the previous sample has several lines
        self._last = ""

    def write(self, text: str) -> None:
        """Write a sample that is generated already."""
        if self._separator is None and not self._null:
            self._write_heading(text)
        self.write_pieces([text])

    def write_pieces(self, pieces: Iterable[str]) -> None:
        """Write a sample piece by piece; the output is flushed every `FLUSH_EVERY_S` seconds, not for every piece."""
        if self._separator is not None and self.num_written:
            sys.stdout.write(self._separator)
        flushed_s = 0.0
        self._last = ""
        for piece in pieces:
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
    from chargen.ui.console import print_json

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
