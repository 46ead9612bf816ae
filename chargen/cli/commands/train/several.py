"""`chargen train` on several processes, which torchrun has started: the part of each process.

Rank 0 trains as a single process does, and is followed by the others. When a process has died, torchrun starts all of
them again (`--max-restarts`); rank 0 then resumes the run of its first start.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from chargen.cli.commands.train.plan import TrainArguments, make_plan
from chargen.cli.main import STOP_SIGNALS
from chargen.errors import ConfigError, RankLostError
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.training.ranks.agreement import Facts
    from chargen.training.ranks.group import Ranks
    from chargen.training.run import Plan

REPORT_S = 3.0  # in which rank 0 prints its error: torchrun ends the processes of all machines when one has failed
FILES = ("corpus", "val")  #: arguments that name files, which may have other names on another machine


@contextmanager
def joined(args: TrainArguments) -> Iterator[Ranks | None]:
    """Join the other processes while a `with` block runs; None if torchrun has not started several.

    The process of a rank other than 0 does its part here, and ends without running the block.

    Raises:
        click.exceptions.Exit: At the end of another rank than 0.
        ConfigError: If the processes cannot join. All of the same machine raise it, and the first reports it.
        RankLostError: If a process of the run has ended.
    """
    from chargen.training.ranks.launch import is_started_by_torchrun

    if not is_started_by_torchrun():
        yield None
        return
    from chargen.training.ranks.group import joined_ranks

    with ExitStack() as stack:
        if "-" in args.corpus or args.val == "-":
            raise ConfigError("standard input can be read by a single process only", "Name a file.")
        with _ended_by_sigterm():
            ranks = stack.enter_context(joined_ranks(args.device))
        if ranks.rank > 0:
            _follow(args, ranks)
        yield ranks


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process at once inside the `with` block.

    While a process waits for others that have not connected yet, torch runs no Python code, so a handler would not run.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _follow(args: TrainArguments, ranks: Ranks) -> None:
    """Do the part of a rank other than 0, and end the process.

    If rank 0 has ended with an error, the torchrun of each other machine has to know it: with `--max-restarts`, that
    of rank 0 would otherwise start its processes again, and wait for machines that have finished.

    Raises:
        click.exceptions.Exit: Always, unless the rank reports that rank 0 is lost.
        RankLostError: On rank 1, if the connection to rank 0 is lost. The others say nothing more.
    """
    from chargen.training.ranks.follower import Follower
    from chargen.training.ranks.launch import machine

    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides what a signal means
    follower = Follower(ranks, lambda: make_plan(args, None), lambda plan: facts_of(args, plan))
    try:
        is_done = follower.run()
    except RankLostError as error:
        if ranks.rank == 1:
            raise RankLostError(f"rank 1 has lost rank 0: {error.message}", error.hint) from error
        raise click.exceptions.Exit(1) from error
    if is_done or machine() == "0":  # torchrun knows the exit status of rank 0
        raise click.exceptions.Exit(0)
    time.sleep(REPORT_S)
    raise click.exceptions.Exit(1)


def check_others(ranks: Ranks, args: TrainArguments, plan: Plan) -> None:
    """Check, on rank 0, that the other ranks have the same versions, arguments and texts.

    Raises:
        ConfigError: If they differ.
    """
    from chargen.training.ranks.follower import check_ranks

    check_ranks(ranks, facts_of(args, plan))


def facts_of(args: TrainArguments, plan: Plan | None) -> Facts:
    """Return what must be the same on all ranks.

    Args:
        args: The arguments of the command.
        plan: The plan, with the texts; None if this process has not read them.
    """
    from chargen.training.ranks.agreement import collect_facts

    ctx = click.get_current_context(silent=True)
    flags = {param.name: param.opts[0] for param in ctx.command.params} if ctx else {}
    arguments = {flags.get(name, name): value for name, value in asdict(args).items() if name not in FILES}
    files = [*args.corpus, *([args.val] if args.val else [])]
    if plan is None:
        return collect_facts(arguments, files, None)
    val = plan.val_corpus.sha256 if plan.val_corpus else ""
    return collect_facts(arguments, files, plan.corpus.sha256 + val)


def resumed_after_restart(args: TrainArguments, ranks: Ranks) -> TrainArguments:
    """Return the arguments with the run to resume, if torchrun has started this job again after a failure.

    What the command asked for is done by then: the run has its length, with the time that `--more` adds, and its name,
    to which a number was appended if it was taken; and a run to replace was replaced.
    """
    from chargen.training.ranks.job import find_run_of_job

    run = find_run_of_job(ranks.job) if ranks.is_restarted else None
    if run is None:
        return args
    say(f"The run {run.name} is continued after a failure.")
    name = run.name if args.name else None  # it is compared with that of the run
    args = replace(args, resume=run.name, name=name, init_from=None, force=False)
    return replace(args, budget=None, steps=None, epochs=None, more=None)
