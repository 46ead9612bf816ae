"""How torchrun has started this process: alone or as one of several.

torchrun describes itself in environment variables. Importing this module does not load torch.
"""

from __future__ import annotations

import os

from chargen.errors import ConfigError
from chargen.schema import format_value

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")  #: variables without which processes cannot find each other
MAX_PORT = 65535
MAX_DIGITS = 10
REMEDY = "torchrun sets these variables. To train in a single process, unset WORLD_SIZE."


def is_started_by_torchrun() -> bool:
    """Return whether this process is one of several that torchrun has started.

    Raises:
        ConfigError: If the variables name several processes, but are incomplete or wrong.
    """
    if "WORLD_SIZE" not in os.environ or num_processes() == 1:
        return False
    for name in NEEDED:
        if not os.environ.get(name):
            raise ConfigError(f"the environment variable WORLD_SIZE is set, but {name} is not", REMEDY)
    _number("RANK", 0, num_processes() - 1)
    _number("MASTER_PORT", 0, MAX_PORT)
    local_rank()
    return True


def is_silent() -> bool:
    """Return whether the first process of this machine reports what is wrong with the command, for this one, too."""
    has_all = all(os.environ.get(name) for name in ("WORLD_SIZE", *NEEDED))
    number = os.environ.get("LOCAL_RANK", "")
    return has_all and number.isdecimal() and number != "0"


def refuse_several_processes(name: str) -> None:
    """Check that torchrun has not started several processes, each of which would do and write the same.

    Args:
        name: What runs in a single process, for the message.

    Raises:
        ConfigError: If it has started several.
    """
    if is_started_by_torchrun():
        raise ConfigError(
            f"torchrun has started {num_processes()} processes, but {name} runs in one",
            "Start it without torchrun, which is for: torchrun -m chargen train",
        )


def num_processes() -> int:
    """Return the number of processes that torchrun has started.

    Raises:
        ConfigError: If the variable is no number.
    """
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """Return the number of this process among those of its machine.

    Raises:
        ConfigError: If the variable is no number.
    """
    return _number("LOCAL_RANK", 0) if "LOCAL_RANK" in os.environ else 0


def num_local_processes() -> int:
    """Return the number of processes on this machine, as far as this one knows.

    Raises:
        ConfigError: If the variable is no number.
    """
    return max(local_rank() + 1, _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else 1)


def _number(name: str, minimum: int, maximum: int | None = None) -> int:
    """Return an environment variable as a number.

    Raises:
        ConfigError: If it is no whole number of this range.
    """
    text = os.environ[name]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS else -1
    if number < minimum or (maximum is not None and number > maximum):
        allowed = f"from {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ConfigError(
            f"the environment variable {name} is {format_value(text)}, but must be a whole number {allowed}", REMEDY
        )
    return number


def machine() -> str:
    """Return the number of this machine in the run."""
    return os.environ.get("GROUP_RANK", "0")
