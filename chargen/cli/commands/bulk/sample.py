"""`chargen bulk sample`: continue the prompts of many files.

From Python: `sample_files(BulkSampleArguments(inputs=("prompts.csv",), out="texts", engine="local"))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands.bulk.options import EFFECTS, JobArguments, files_and_model, open_model, run_command, workers
from chargen.cli.effects import keeps_promise, no_effect
from chargen.sampling.settings import SAMPLING_RULES, SampleConfig

if TYPE_CHECKING:
    from chargen.bulk.sample_rows import SampleTask
    from chargen.lm import LanguageModel

SAMPLE = options.numbers(SampleConfig)  # the types of the numeric options
MAX_NUMBER = 10_000  # texts of a row
RULE_OPTIONS = " ".join(f"--{name.replace('_', '-')}" for name in SAMPLING_RULES)

text_option = options.option_group("End of the text")
rule_option = options.option_group("Sampling rules")


@dataclass(frozen=True, kw_only=True)
class BulkSampleArguments(JobArguments):
    """The arguments of `chargen bulk sample`, named as on the command line."""

    number: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)  #: fields of `SampleConfig`; the seed is 0 if missing

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> BulkSampleArguments:
        """Return the arguments from the options of the command; those that have no field here are `settings`."""
        names = {entry.name for entry in fields(cls)}
        own = {name: value for name, value in values.items() if name in names}
        settings = {name: value for name, value in values.items() if name not in names and value is not None}
        return cls(**{**own, "prefix": own["prefix"] or ""}, settings=settings)


@click.command(
    name="sample",
    cls=options.GroupedCommand,
    effects=[
        *EFFECTS,
        no_effect(
            f"--number {RULE_OPTIONS}", beside="--temp=0",
            why="each character is the most likely one, so there is only one text",
        ),
        keeps_promise("--seed", beside="--temp=0", why="nothing is drawn at random"),
    ],
    epilog="\b\nExamples:\n  chargen bulk sample -m docs prompts.txt --out texts\n"
    "  chargen bulk sample -m docs prompts.csv --text-column prompt -n 5 --length 200 --out texts --workers 8\n"
    "  chargen bulk sample -m docs prompts.jsonl --temp 0.8 --until newline --out texts --engine local",
)  # fmt: skip
@files_and_model("prompt")
@options.basic_option(
    "-n", "--number", type=options.whole(1, MAX_NUMBER), default=1, show_default=True, metavar="N",
    help="Number of texts per row.",
)  # fmt: skip
@options.temperature
@options.basic_option(
    "--length", type=SAMPLE["length"], default=1000, show_default=True, metavar="N",
    help="Maximum number of characters of a text, without the prompt.",
)  # fmt: skip
@options.basic_option(
    "--seed", type=SAMPLE["seed"], default=0, show_default=True, metavar="N",
    help="Random seed. The same seed gives the same texts, with any number of workers.",
)  # fmt: skip
@text_option("--stop", multiple=True, metavar="TEXT", help="End the text before this text. May be repeated.")
@text_option(
    "--until", type=click.Choice(["length", "newline", "boundary"]), show_default="boundary for a model of documents, "
    "else length",
    help="Where a text ends: at --length, at the first newline, or at the end of the document (boundary).",
)  # fmt: skip
@options.sampling_rules(rule_option)
@workers
def bulk_sample(**values: Any) -> None:
    """Continue the prompt in each row of INPUT, and write all columns with the texts as Parquet files.

    INPUT is a file, a folder, a pattern with wildcards, or a URL; several may be given. Plain text (a line is a
    prompt), JSON lines, CSV, TSV and Parquet are read, also compressed; the suffix of the name tells the form.

    A row is written once for each of its texts.

    \b
    Added columns:
      sample_number     number of the text in the row, from 0
      generated_text    the text, without the prompt
      generated_chars   number of its characters
      ended             why it ended: length, newline, boundary or stop

    The random numbers of a text follow from the seed, from the number of its row among all rows, and from its number in
    the row. So the texts depend neither on the number of workers nor on where a job was stopped. A job that was stopped
    goes on when the same command is run again.

    Ray is needed: pip install "chargen[ray]". --engine local does without, for small jobs.
    """
    sample_files(BulkSampleArguments.from_options(values))


def sample_files(args: BulkSampleArguments) -> None:
    """Continue the prompts of files, and print the summary on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model, the inputs or the output cannot be used, a setting is out of range, or Ray is
            missing. If only some files cannot be read, the others are done first.
    """
    lm = open_model(args)
    run_command(args, lm, _make_task(args, lm))


def _make_task(args: BulkSampleArguments, lm: LanguageModel) -> SampleTask:
    """Return the task of the arguments.

    Raises:
        ConfigError: If the settings contradict each other.
    """
    from chargen.bulk.sample_rows import SampleTask
    from chargen.sampling.settings import fill_missing

    settings = fill_missing(args.settings, seed=0, until=lm.checkpoint.default_until)
    lm.generator("", **settings).check_memory(args.number)
    return SampleTask(args.text_column, args.number, args.prefix, settings)
