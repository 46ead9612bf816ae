"""How much memory this process may take, so that what cannot fit is refused before anything is allocated."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chargen.errors import ConfigError

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  #: versions 2 and 1
GIB = 1 << 30
ALWAYS_BYTES = 1 << 26  #: that any machine has


def check_memory(needed_bytes: int, what: str, hint: str) -> None:
    """Check that the machine has so much memory at all; whether other programs have taken it is not looked at.

    Args:
        needed_bytes: a lower bound, so that nothing is refused that would fit.
        what: what needs it, for the message.
        hint: what to do.

    Raises:
        ConfigError: it has less.
    """
    if needed_bytes <= ALWAYS_BYTES:  # to look up what there is takes 0.1 ms
        return
    total = total_bytes()
    if needed_bytes > total:
        raise ConfigError(
            f"{what} would need at least {needed_bytes / GIB:,.1f} GiB of memory, but there are {total / GIB:,.1f} GiB",
            hint,
        )


def total_bytes() -> int:
    """Return the memory of the machine, container or process limit, whichever is least, in bytes."""
    limits = [_physical_bytes(), _address_space_bytes()]
    for name in CGROUP_LIMITS:
        try:
            limits.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # no such control group, or "max"
    return min(limits)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize  # Windows does not tell


def _address_space_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
