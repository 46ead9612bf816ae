"""Options and checks of the commands that also read and write series of numbers: recordings and sensor values.

A model of a series (`chargen train --tokenizer mulaw:256`) reads files as numbers. So options that say how text is
decoded, split or compared have no effect there, and those of numbers have none with a model of texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chargen.cli import options

if TYPE_CHECKING:
    from chargen.config import DataConfig
    from chargen.lm import LanguageModel
    from chargen.scoring.scorer import Score
    from chargen.text.series.quantizer import Quantizer
    from chargen.training.state import TrainingState

F = TypeVar("F", bound=Callable[..., Any])

MAX_SHOWN_VALUES = 20  # characters of a series in a table of scores
#: parameters of the options that say how text is decoded or split
READING_TEXT = ("errors", "newline", "normalize", "json_lines", "null", "whole")
#: parameters of the options of `chargen sample` that are texts
TEXTS_OF_SAMPLING = ("prompts", "stop", "regex", "ban")


def series_output(command: F) -> F:
    """Add the options of `chargen sample` for what a model of a series generates."""
    command = options.output_option(
        "--numbers", is_flag=True,
        help="Print the values of a series (a model of --tokenizer mulaw), one per line, and not their characters.",
    )(command)  # fmt: skip
    return options.output_option(
        "-o", "--output", "--out", "output", type=options.FILE_NAME, metavar="FILE.wav",
        help="Write a 16-bit recording at the rate of the model; several are FILE-1.wav, FILE-2.wav, and so on.",
    )(command)  # fmt: skip


def shared_quantizer(models: Mapping[str, LanguageModel]) -> Quantizer | None:
    """Return the quantizer of models that read the same text; None for models of texts.

    Args:
        models: The models by their names.

    Raises:
        ConfigError: If one is of a series and another one is not, or of a series with other levels or another range.
    """
    from chargen.errors import ConfigError

    quantizers = {name: lm.tokenizer.quantizer for name, lm in models.items()}
    first = next(iter(quantizers), "")
    for name, quantizer in quantizers.items():
        if quantizer != quantizers[first]:
            kinds = [each.summary if each else "texts" for each in (quantizers[first], quantizer)]
            raise ConfigError(
                f"{first} is a model of {kinds[0]}; {name} of {kinds[1]}: they cannot read the same file",
                "Give models of the same kind. For a series: train both on the same files.",
            )
    return quantizers.get(first)


def series_settings(
    data: DataConfig, init_from: str | None, saved: TrainingState | None
) -> tuple[DataConfig, Quantizer | None]:
    """Return how the corpus of a run is read, and the quantizer of the model that the run continues.

    Args:
        data: The settings of the command line.
        init_from: The model that a new run starts from, which determines the tokenizer.
        saved: The training state of the run to resume, which determines all settings.

    Raises:
        TokenizerError: If the number of levels is out of range.
    """
    from chargen.text.series.quantizer import parse_levels
    from chargen.training.init_from import read_quantizer

    if saved:
        return saved.data, saved.tokenizer.quantizer
    quantizer = read_quantizer(init_from) if init_from else None
    if quantizer:
        return replace(data, tokenizer=quantizer.spec), quantizer
    if data.is_series:
        parse_levels(data.tokenizer.partition(":")[2])  # before a long file is read
    return data, None


def refuse_text_options(quantizer: Quantizer | None, names: Sequence[str] = ()) -> None:
    """Refuse options of decoding texts where a series is read.

    Args:
        quantizer: That of the model or of the corpus; nothing is refused without one.
        names: The files that are read.

    Raises:
        UsageError: If there is such an option.
    """
    if quantizer is None:
        return
    for option in options.given_options(*READING_TEXT):
        raise click.UsageError(f"{option} has no effect: a series of numbers is not decoded as a text.")
    if names and all(name.lower().endswith(".wav") for name in names):
        for option in options.given_options("encoding", "text_field"):
            raise click.UsageError(f"{option} has no effect: {', '.join(names)} is a recording, not a table.")


def check_sample_options(lm: LanguageModel, output: str | None, numbers: bool) -> None:
    """Refuse options of `chargen sample` that have no effect with this model.

    Args:
        lm: The model.
        output: The value of --output.
        numbers: Whether --numbers is given.

    Raises:
        ConfigError: If there is such an option, or a recording has no sampling rate.
        UsageError: If the file cannot be written.
    """
    from chargen.errors import ConfigError

    quantizer = lm.tokenizer.quantizer
    if quantizer is None:
        if output or numbers:
            option = "--output" if output else "--numbers"
            raise ConfigError(
                f"{option} has no effect: the model is of texts, not of a series of numbers",
                "Leave it out; chargen sample > FILE writes the text to a file.",
            )
        return
    for option in options.given_options(*TEXTS_OF_SAMPLING):
        raise ConfigError(
            f"{option} has no effect: the model is of {quantizer.describe()}, not of texts",
            "Leave it out. --prompt-file FILE continues a series.",
        )
    if output is None:
        return
    if not output.lower().endswith(".wav"):
        raise ConfigError(
            f"--output {output}: a recording is a file .wav", "Name it FILE.wav. --numbers prints values."
        )
    if quantizer.rate_hz is None:
        raise ConfigError(
            f"--output {output}: the model is of {quantizer.describe()}, which has no sampling rate",
            "Print its values: --numbers > FILE.",
        )
    options.check_output_file("--output", output, (lm.path,) if lm.path else ())


def shorten_texts(scores: Iterable[Score]) -> Iterator[Score]:
    """Yield the scores of series with the first characters of each text: a table has no place for thousands of them."""
    for score in scores:
        is_long = len(score.text) > MAX_SHOWN_VALUES
        yield replace(score, text=f"{score.text[:MAX_SHOWN_VALUES]}…") if is_long else score


def read_samples_of_file(name: str, text_field: str | None, encoding: str, quantizer: Quantizer) -> str:
    """Return the whole series in a file as one text, and print notes about it.

    Args:
        name: A path or a URL; "-" is standard input.
        text_field: The column of a table; None for that of the model.
        encoding: Text encoding of a table.
        quantizer: That of the model.

    Raises:
        ChargenError: If the series cannot be read.
    """
    from chargen.config import DataConfig
    from chargen.text.corpus import check_text_field, read_corpus
    from chargen.ui.terminal_text import say

    config = DataConfig(encoding=encoding, text_field=text_field or "")
    corpus = read_corpus([name], config, quantizer=quantizer)
    if os.path.exists(name):
        check_text_field(text_field, corpus)
    for note in corpus.notes:
        say(f"note: {note}")
    return corpus.text
