"""Limits of reading: the size of a corpus, of a record, and of what a compressed file contains; and of memory.

A compressed file of 200 kB can contain gigabytes, and a device or a pipe may have no end. Each stage of reading reports
to a `ReadLimit` how many bytes it produced, before they are kept.

`check_memory` refuses what cannot fit in the memory of this process, before anything is allocated.
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
from chargen.schema import format_count

DEFAULT_MAX_CORPUS_BYTES = 100 * 10**9
MAX_RATIO = 1_000  #: limit of uncompressed to compressed size; text has 3 to 10, repetitive logs have 100
MIN_RATIO_BYTES = 1 << 28  #: uncompressed size from which the ratio is checked
# A JSON record, a line or a value is held in memory. A parsed JSON record can take 25 times its size.
MAX_RECORD_BYTES = 1 << 25
MAX_TEXT_BYTES = 1 << 26  #: limit of a text that is scored as a whole
MAX_NAMES, MAX_SHOWN_CHARS = 8, 60  #: limits of the names of columns or fields in a message, and of their length
HOW_TO_ALLOW = "If this size is intended, use --max-corpus-size SIZE, where the command has this option."


class CorpusSizeError(CorpusError):
    """A text is larger than its limit. Reading a folder stops with this error, but skips files that are not text."""


@dataclass
class ReadLimit:
    """Counts the bytes of text that one corpus produces, up to a limit."""

    max_bytes: int = DEFAULT_MAX_CORPUS_BYTES
    regular_only: bool = False  #: whether devices and pipes are refused, for file names that the user did not give
    num_bytes: int = 0

    def add(self, num_bytes: int, where: str) -> None:
        """Count bytes of a text.

        Raises:
            CorpusSizeError: If the total exceeds the limit.
        """
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise CorpusSizeError(
                f"{where}: the corpus has more than {format_count(self.max_bytes, 'byte')} of text, which is the limit",
                HOW_TO_ALLOW,
            )

    def check_ratio(self, compressed_bytes: int, uncompressed_bytes: int, where: str) -> None:
        """Check that a compressed file does not contain far more than compressed text can.

        Raises:
            CorpusSizeError: If it does.
        """
        if uncompressed_bytes > max(MIN_RATIO_BYTES, MAX_RATIO * compressed_bytes):
            raise CorpusSizeError(
                f"{where} unpacks to more than {MAX_RATIO:,} times its size: {uncompressed_bytes:,} bytes out of the "
                f"first {compressed_bytes:,}",
                "No text compresses so well. If this is intended, give the uncompressed file.",
            )


def check_record(num_bytes: int, where: str) -> None:
    """Check that a record is small enough to be held in memory.

    Raises:
        CorpusSizeError: If it is not.
    """
    if num_bytes > MAX_RECORD_BYTES:
        raise CorpusSizeError(
            f"{where} is a record of more than {MAX_RECORD_BYTES:,} bytes, which is the limit",
            "Split it into several records, or give its text as a plain file.",
        )


def first_names(names: Iterable[str]) -> str:
    """Return the first of the names in a file, for a message; a file can have millions of names."""
    first = list(islice(names, MAX_NAMES + 1))
    shown = ", ".join(repr(name[:MAX_SHOWN_CHARS]) for name in first[:MAX_NAMES])
    return f"{shown}, …" if len(first) > MAX_NAMES else shown


def open_regular(path: str) -> BinaryIO:
    """Open a regular file for reading, and nothing else: it does not wait for a pipe, or touch a device.

    Raises:
        OSError: If the file cannot be opened, or is not a regular file.
    """
    # The type is checked before opening, because opening a device can have effects, and again after it, because the
    # file may have been replaced. O_NONBLOCK avoids waiting for a pipe that has no writer.
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
UNCHECKED_BYTES = 1 << 26  #: every machine has this much memory


def check_memory(needed_bytes: int, what: str, hint: str) -> None:
    """Check that the machine has enough memory in total; memory that other programs use is not considered.

    Args:
        needed_bytes: A lower bound, so that nothing is refused that would fit.
        what: What needs the memory, for the message.
        hint: What the user can do.

    Raises:
        ConfigError: If the machine has less memory.
    """
    if needed_bytes <= UNCHECKED_BYTES:  # finding out the total takes 0.1 ms
        return
    total = total_bytes()
    if needed_bytes > total:
        raise ConfigError(
            f"{what} would need at least {needed_bytes / GIB:,.1f} GiB of memory, but there are {total / GIB:,.1f} GiB",
            hint,
        )


def total_bytes() -> int:
    """Return the memory of the machine, the container or the process limit in bytes, whichever is smallest."""
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
        return sys.maxsize  # not available on Windows


def _address_space_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
