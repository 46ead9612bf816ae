"""`chargen bulk score`: score the texts of many files, and filter them.

From Python: `score_files(BulkScoreArguments(inputs=("crawl/",), out="scored", engine="local"))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands.bulk.options import EFFECTS, JobArguments, files_and_model, open_model, run_command, workers
from chargen.schema import Number

if TYPE_CHECKING:
    from chargen.bulk.score_rows import ScoreTask
    from chargen.lm import LanguageModel

filter_option = options.option_group("Filtering")


@dataclass(frozen=True, kw_only=True)
class BulkScoreArguments(JobArguments):
    """The arguments of `chargen bulk score`, named as on the command line."""

    keep_below: float | None = None
    percentile_of: str | None = None
    end: bool | None = None  #: None: True for a model of documents


@click.command(
    name="score",
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen bulk score -m docs crawl/ --out scored\n"
    "  chargen bulk score -m docs crawl/pages.jsonl.gz --text-column body --out scored --workers 8\n"
    "  chargen bulk score -m docs s3://bucket/crawl/ --out s3://bucket/scored --address auto\n"
    "  chargen bulk score -m docs corpus.parquet --out good --keep-below 2.5 --engine local\n"
    "  chargen bulk score -m docs corpus.parquet --out scored --percentile-of good.txt",
)
@files_and_model("text")
@filter_option(
    "--keep-below", type=options.number(Number(0.0)), metavar="BITS",
    help="Write only rows whose text has fewer than BITS bits per character.",
)  # fmt: skip
@filter_option(
    "--percentile-of", type=options.FILE_NAME, metavar="FILE",
    help="Add the column 'percentile': the percentage of the texts of FILE that have at most as many bits per "
    "character as the text of the row.",
)  # fmt: skip
@options.score_end(options.option_group("Scoring"))
@workers
def bulk_score(**values: Any) -> None:
    """Score the text of each row of INPUT, and write all columns with the score as Parquet files.

    INPUT is a file, a folder, a pattern with wildcards, or a URL; several may be given. Plain text (a line is a
    row), JSON lines, CSV, TSV and Parquet are read, also compressed; the suffix of the name tells the form.

    \b
    Added columns:
      log_prob_nats   natural logarithm of the probability of the text
      chars           number of its characters
      bits_per_char   −log₂ of the probability, divided by chars; null for an empty text
      unknown_chars   number of characters that the model does not know
      percentile      with --percentile-of

    The output has a file for each run of rows. It is written under another name first, so a file that is there is
    complete. A job that was stopped goes on when the same command is run again. A row that cannot be read is left out,
    and counted and named in the summary; a file that cannot be read is named, too, and the exit status is then 1.

    Ray is needed: pip install "chargen[ray]". --engine local does without, for small jobs.
    """
    score_files(BulkScoreArguments(**{**values, "prefix": values["prefix"] or ""}))


def score_files(args: BulkScoreArguments) -> None:
    """Score the rows of files, and print the summary on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model, the inputs or the output cannot be used, or Ray is missing. If only some files
            cannot be read, the other files are scored first.
    """
    lm = open_model(args)
    run_command(args, lm, _make_task(args, lm))


def _make_task(args: BulkScoreArguments, lm: LanguageModel) -> ScoreTask:
    """Return the task of the arguments, with the scores of the reference sample."""
    from chargen.bulk.score_rows import ScoreTask, score_reference

    lm.checkpoint.scored_end_ids(lm.scores_end if args.end is None else args.end)  # an error, if it has no end
    task = ScoreTask(args.text_column, args.prefix, args.end, args.keep_below)
    return task if args.percentile_of is None else score_reference(task, lm, args.percentile_of)
