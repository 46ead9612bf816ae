"""What the commands of `chargen bulk` share: options, the choice of the engine, and how a job is run and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chargen.cli import options
from chargen.cli.effects import Effect, needs, no_effect

if TYPE_CHECKING:
    from chargen.bulk.run import BulkEngine
    from chargen.bulk.task import Task
    from chargen.lm import LanguageModel

F = TypeVar("F", bound=Callable[..., Any])

LOCAL, RAY = "local", "ray"
MAX_WORKERS = 100_000
MAX_SHOWN_FAILURES = 5

cluster_option = options.option_group("Workers")

EFFECTS: list[Effect | list[Effect]] = [
    no_effect("--workers --address", beside="--engine=local", why="this engine is one process; leave it out"),
    needs("--threads", "--engine=local"),
]


@dataclass(frozen=True, kw_only=True)
class JobArguments:
    """The arguments that all commands for many files have, named as on the command line."""

    inputs: tuple[str, ...] = ()
    model: str | None = None
    out: str = ""
    text_column: str = "text"
    prefix: str = ""
    engine: str = RAY
    workers: int | None = None
    address: str | None = None
    device: str = "auto"
    threads: int | None = None
    as_json: bool = False


def files_and_model(text: str) -> Callable[[F], F]:
    """Return a decorator that adds the inputs, the model, the output and the column.

    Args:
        text: What the column contains, for the help: "text" or "prompt".
    """

    def add(command: F) -> F:
        for decorate in (
            click.argument("inputs", nargs=-1, required=True, type=options.FILE_NAME, metavar="INPUT..."),
            options.model,
            options.basic_option(
                "--out", type=options.FILE_NAME, required=True, metavar="FOLDER",
                help="Folder or URL of the output. If it contains the same job, its missing parts are written.",
            ),
            options.basic_option(
                "--text-column", "--text-field", "text_column", type=options.NAME, default="text",
                show_default=True, metavar="NAME",
                help=f"Column or field with the {text} of a row. The lines of plain text get this name.",
            ),
            options.basic_option(
                "--prefix", type=options.NAME, default=None, metavar="NAME",
                help="Start of the names of the added columns, where a name is taken already.",
            ),
        )[::-1]:  # fmt: skip
            command = decorate(command)
        return command

    return add


def workers(command: F) -> F:
    """Add the options of the engine and of the machine."""
    for decorate in (
        cluster_option(
            "--engine", type=click.Choice([RAY, LOCAL]), default=RAY, show_default=True,
            help="How the work is done: by Ray workers with a core each (ray), on this machine or on a cluster; or in "
            "one process without Ray (local).",
        ),
        cluster_option(
            "--workers", type=options.whole(1, MAX_WORKERS), metavar="N", show_default="one per CPU of the cluster",
            help="Number of Ray workers. Each has the model in memory.",
        ),
        cluster_option(
            "--address", type=options.NAME, metavar="ADDRESS", envvar="RAY_ADDRESS", show_envvar=True,
            show_default="none; Ray is started on this machine",
            help="Address of a Ray cluster that runs, as HOST:6379 or auto.",
        ),
        options.device, options.threads, options.checkpoints, options.as_json,
    )[::-1]:  # fmt: skip
        command = decorate(command)
    return command


def open_model(args: JobArguments) -> LanguageModel:
    """Return the model of a command, and limit the threads first.

    Raises:
        ModelError: If there is no such model.
        ConfigError: If it is a model of a series of numbers.
    """
    options.use_threads(args.threads if args.engine == LOCAL else None)
    from chargen.api import load
    from chargen.errors import ConfigError
    from chargen.registry import import_extra

    import_extra("pyarrow.parquet", "parquet" if args.engine == LOCAL else "ray", "chargen bulk")
    lm = load(args.model, args.device)
    options.note_newest_model(args.model, lm.path)
    if lm.tokenizer.quantizer is not None:
        raise ConfigError("the model is of a series of numbers, and rows of files are texts", "Use a model of text.")
    return lm


def run_command(args: JobArguments, lm: LanguageModel, task: Task) -> None:
    """Run a job, show its progress on stderr, and print its summary on stdout.

    Raises:
        ChargenError: If the job cannot be run. If it is run, but not all of its files could be read, the error is
            raised after the summary was printed.
    """
    from chargen.bulk.reading.slices import Failure
    from chargen.bulk.run import Finished, run_job
    from chargen.bulk.storage import file_hash
    from chargen.errors import CorpusError
    from chargen.schema import format_count
    from chargen.ui.bulk import BulkDisplay, print_summary
    from chargen.ui.console import stderr_console
    from chargen.ui.output import print_json

    assert lm.path is not None
    summary: dict[str, Any] = {}
    with BulkDisplay(stderr_console()) as display:
        engine = _make_engine(args, lm)
        try:
            for report in run_job(args.inputs, args.out, task, file_hash(lm.path), engine):
                if isinstance(report, Finished):
                    summary = {"engine": args.engine, **report.summary}
                else:
                    display.show(report)
        finally:
            engine.close()
    if args.as_json:
        print_json(summary)
    else:
        print_summary(summary)
    if not summary["is_complete"]:
        what = [
            format_count(summary["files_failed"], "file that cannot be read", "files that cannot be read"),
            format_count(summary["parts_unwritten"], "part"),
        ]
        lacking = " and ".join(text for text in what if not text.startswith("0 "))
        raise CorpusError(
            f"the output lacks {lacking}: {Failure.from_json(summary['failures'][0]).to_line()}",
            "Correct the cause and run the same command again: it adds what is missing.",
        )


def _make_engine(args: JobArguments, lm: LanguageModel) -> BulkEngine:
    """Return the engine of the arguments."""
    if args.engine == LOCAL:
        from chargen.bulk.local_engine import LocalEngine

        return LocalEngine(lm)
    from chargen.bulk.ray_engine import RayEngine

    assert lm.path is not None
    return RayEngine(lm.path, args.device, args.workers, args.address)
