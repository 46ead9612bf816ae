"""The errors chargen raises on purpose, each with a hint that says what to do.

    ChargenError
    ├── CorpusError        a text that cannot be found, read, decoded or learned from   (also a ValueError)
    │   └── DownloadError  a corpus that could not be fetched or does not match its checksum
    ├── TokenizerError     a vocabulary that cannot be built, read or applied           (also a ValueError)
    ├── ConfigError        a setting out of its range, or an unknown name               (also a ValueError)
    ├── ModelError         a model file that is missing, damaged or of another format   (also a ValueError)
    ├── StorageError       a folder or disk that does not take what has to be written   (also an OSError)
    │   └── RunInUseError  a run that another process is writing
    ├── StoppedError       a run that was stopped before it had a model                 (also a RuntimeError)
    ├── DeviceError        a device that this machine does not have                     (also a RuntimeError)
    └── DivergenceError    a loss that is no longer a finite number                     (also an ArithmeticError)

The command line prints any of them in one or two lines and exits with status 1.
"""

from __future__ import annotations


class ChargenError(Exception):
    """Something that the person in front of the screen can mend.

    Args:
        message: what is wrong, with the value, and where.
        hint: what to do about it; "" where the message already says so.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class CorpusError(ChargenError, ValueError):
    """A text that cannot be found, read, decoded or learned from."""


class DownloadError(CorpusError):
    """A corpus that could not be fetched, or whose content is not the expected one."""


class TokenizerError(ChargenError, ValueError):
    """A vocabulary that cannot be built, read or applied."""


class ConfigError(ChargenError, ValueError):
    """A setting out of its range, or a name that nothing is registered under."""


class ModelError(ChargenError, ValueError):
    """A model file that is missing, damaged, or of a format that this version does not read."""


class StorageError(ChargenError, OSError):
    """A folder or disk that does not take what has to be written."""


class RunInUseError(StorageError):
    """A run that another process is writing."""


class StoppedError(ChargenError, RuntimeError):
    """A run that was stopped before it had a model to keep."""


class DeviceError(ChargenError, RuntimeError):
    """A device that this machine does not have, or that failed."""


class DivergenceError(ChargenError, ArithmeticError):
    """A training loss that is no longer a finite number."""
