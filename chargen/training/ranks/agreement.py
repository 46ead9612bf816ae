"""Check that all ranks of a run have the same version, the same arguments and the same text.

The processes of a machine name the same files, so only the first of each machine (`LOCAL_RANK` 0) reads the text, and
the hashes of the machines are compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from chargen import __version__
from chargen.errors import ConfigError
from chargen.schema import format_value
from chargen.training.ranks.launch import machine

SAME_COMMAND = "Start all ranks with the same command."


@dataclass(frozen=True)
class Facts:
    """What must be the same on all ranks."""

    versions: Mapping[str, str]  #: by the name of the program
    arguments: Mapping[str, Any]  #: the arguments of the command
    files: Sequence[str]  #: absolute names of the files of the corpus; they are compared on the same machine only
    machine: str  #: number of the machine in the run
    sha256: str | None  #: hash of the texts; None if this rank has not read them


def collect_facts(arguments: Mapping[str, Any], files: Sequence[str], sha256: str | None) -> Facts:
    """Return the facts of this process.

    Args:
        arguments: The arguments of the command, without the names of files.
        files: The names of the files of the corpus.
        sha256: Hash of the texts; None if this rank has not read them.
    """
    versions = {"chargen": __version__, "torch": torch.__version__}
    return Facts(versions, arguments, [os.path.abspath(name) for name in files], machine(), sha256)


def check_agreement(facts: Sequence[Facts]) -> None:
    """Check the facts of all ranks, in their order.

    Raises:
        ConfigError: If they differ. The message names the first difference.
    """
    leader = facts[0]
    for rank, other in enumerate(facts[1:], 1):
        for program, version in leader.versions.items():
            if other.versions[program] != version:
                raise ConfigError(
                    f"rank {rank} runs {program} {other.versions[program]}, but rank 0 runs {program} {version}",
                    "Install the same versions on all machines.",
                )
        for name, value in leader.arguments.items():
            if other.arguments.get(name) != value:
                own, its = (_describe(each) for each in (value, other.arguments.get(name)))
                raise ConfigError(f"{name} is {its} on rank {rank}, but {own} on rank 0", SAME_COMMAND)
        if other.sha256 is not None and other.sha256 != leader.sha256:
            raise ConfigError(
                f"the text of rank {rank} (SHA-256 {other.sha256[:12]}…) is not that of rank 0 "
                f"({(leader.sha256 or '')[:12]}…)",
                "Copy the same files to all machines.",
            )
    first_of_machine = {each.machine: rank for rank, each in reversed(list(enumerate(facts)))}
    for rank, other in enumerate(facts):
        first = first_of_machine[other.machine]
        if other.files != facts[first].files:
            raise ConfigError(
                f"rank {rank} reads {', '.join(other.files)}, but rank {first} reads {', '.join(facts[first].files)}",
                SAME_COMMAND,
            )


def _describe(value: Any) -> str:
    return "not given" if value is None else format_value(value)
