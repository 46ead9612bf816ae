"""What the reading of a corpus may take: how many bytes, how many times the packed size, how long a record.

A packed file of 200 kB can hold gigabytes, and a device or a pipe has no end. Every step of reading says to a
`ReadLimit` how much came out of it, before it is kept.

How much memory this process may take, so that what cannot fit is refused before anything is allocated.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from chargen.errors import ConfigError, CorpusError

DEFAULT_MAX_CORPUS_BYTES = 100 * 10**9
MAX_RATIO = 1_000  #: times the packed size; text packs 3 to 10 times smaller, logs that repeat themselves 100 times
MIN_RATIO_BYTES = 1 << 28  #: unpacked bytes from which on the ratio counts
MAX_RECORD_BYTES = 1 << 25  #: of a JSON record, a line or a value that is held as a whole; as JSON, 25 times this
MAX_TEXT_BYTES = 1 << 26  #: of a text that is scored as a whole
MAX_NAMES, MAX_SHOWN_CHARS = 8, 60  #: in a message: names of columns or fields, and characters of each
HOW_TO_ALLOW = "If it is meant to be this large, say --max-corpus-size SIZE, where the command has this option."


class CorpusSizeError(CorpusError):
    """A text that is longer than it may be. A folder does not pass over it as over a file that is not text."""


@dataclass
class ReadLimit:
    """Counts what the reading of one corpus gives, up to a limit."""

    max_bytes: int = DEFAULT_MAX_CORPUS_BYTES
    regular_only: bool = False  #: whether devices and pipes are refused: names of files that a person did not give
    num_bytes: int = 0

    def add(self, num_bytes: int, where: str) -> None:
        """Count bytes that came out of a text.

        Raises:
            CorpusSizeError: they are too many.
        """
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise CorpusSizeError(
                f"{where}: the corpus has more than {self.max_bytes:,} bytes of text, which is the limit", HOW_TO_ALLOW
            )

    def check_ratio(self, packed_bytes: int, unpacked_bytes: int, where: str) -> None:
        """Check that a packed file does not hold far more than packed text can.

        Raises:
            CorpusSizeError: it does.
        """
        if unpacked_bytes > max(MIN_RATIO_BYTES, MAX_RATIO * packed_bytes):
            raise CorpusSizeError(
                f"{where} unpacks to more than {MAX_RATIO:,} times its size: {unpacked_bytes:,} bytes out of the first "
                f"{packed_bytes:,}",
                "No text packs so well. If it is meant to be so, unpack it yourself and give the unpacked file.",
            )


def check_record(num_bytes: int, where: str) -> None:
    """Check that a record can be held in memory.

    Raises:
        CorpusSizeError: it is too long.
    """
    if num_bytes > MAX_RECORD_BYTES:
        raise CorpusSizeError(
            f"{where} is a record of more than {MAX_RECORD_BYTES:,} bytes, which is the limit",
            "Part it into several records, or give its text as a plain file.",
        )


def first_names(names: Iterable[str]) -> str:
    """Return the first of some names that a file gives, for a message; it may give millions."""
    first = list(islice(names, MAX_NAMES + 1))
    shown = ", ".join(repr(name[:MAX_SHOWN_CHARS]) for name in first[:MAX_NAMES])
    return f"{shown}, …" if len(first) > MAX_NAMES else shown


def open_regular(path: str) -> BinaryIO:
    """Open a regular file to read, and nothing else: a pipe is not waited for, a device not touched.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    # What is there is asked before it is opened, because to open a device can do something; and again after, because
    # it may have been replaced. O_NONBLOCK keeps a pipe without a writer from being waited for.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file")
    return open(descriptor, "rb")


CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  #: versions 2 and 1
GIB = 1 << 30
UNCHECKED_BYTES = 1 << 26  #: that any machine has


def check_memory(needed_bytes: int, what: str, hint: str) -> None:
    """Check that the machine has so much memory at all; whether other programs have taken it is not looked at.

    Args:
        needed_bytes: a lower bound, so that nothing is refused that would fit.
        what: what needs it, for the message.
        hint: what to do.

    Raises:
        ConfigError: it has less.
    """
    if needed_bytes <= UNCHECKED_BYTES:  # to look up what there is takes 0.1 ms
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
