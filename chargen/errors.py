"""Every exception that chargen raises on purpose. Each carries a hint that tells the user what to do.

    ChargenError
    ├── CorpusError        a text cannot be found, read, decoded or used for training   (also a ValueError)
    │   └── DownloadError  a corpus cannot be downloaded, or its checksum is wrong
    ├── TokenizerError     a vocabulary cannot be built, read or applied                (also a ValueError)
    ├── ConfigError        a setting is out of range, or a name is unknown              (also a ValueError)
    ├── ModelError         a model file is missing, damaged or in another format        (also a ValueError)
    │   └── WrongKindError a model is used by a command for another kind of model
    ├── StorageError       a file or folder cannot be written                           (also an OSError)
    │   └── RunInUseError  another process is writing the run
    ├── StoppedError       a run was stopped before its first validation                (also a RuntimeError)
    ├── DeviceError        a device is not available on this machine, or failed         (also a RuntimeError)
    ├── RankLostError      another process of a run on several processes has ended      (also a RuntimeError)
    └── DivergenceError    a loss in training is not a finite number                    (also an ArithmeticError)

Every class also derives from the built-in exception in brackets, so code that does not know chargen can catch it. The
command line prints any of them in one or two lines, without a traceback, and exits with status 1.
"""

from __future__ import annotations


class ChargenError(Exception):
    """Base class of all exceptions that chargen raises on purpose: the user can fix the cause.

    Args:
        message: What is wrong, with the value, and where.
        hint: What to do about it; "" if the message already says so.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class CorpusError(ChargenError, ValueError):
    """A text cannot be found, read, decoded or used for training."""


class DownloadError(CorpusError):
    """A corpus cannot be downloaded, or its content does not match its checksum."""


class TokenizerError(ChargenError, ValueError):
    """A vocabulary cannot be built, read or applied."""


class ConfigError(ChargenError, ValueError):
    """A setting is out of its range, or nothing is registered under a name."""


class ModelError(ChargenError, ValueError):
    """A model file is missing, damaged, or in a format that this version does not read."""


class WrongKindError(ModelError):
    """A model is used by a command for another kind of model: a classifier cannot generate text, for example."""

    @classmethod
    def of(cls, name: object, kind: str) -> WrongKindError:
        """Return the error for a model.

        Args:
            name: The path or the name of the model, as the user gave it.
            kind: The kind of the model: "language model", "encoder" or "forecaster".
        """
        what, hint = KINDS[kind]
        return cls(f"{name} is {what}", hint)

    @classmethod
    def of_run(cls, name: str, kind: object, wanted: str) -> WrongKindError:
        """Return the error for a run that a command cannot continue.

        Args:
            name: The name of the run.
            kind: The kind of the model that it trains, from its training state.
            wanted: The kind of the models that the command trains.
        """
        command = RESUMED_BY.get(str(kind))
        hint = f"Continue it with: {command} {name}" if command else "Start a new run."
        return cls(f"the run {name!r} trains a model of another kind: {str(kind)!r}, and not {wanted!r}", hint)


#: kind of a model: (what it is and what it lacks, the command that it is for)
KINDS = {
    "language model": (
        "a language model, which has no labels and forecasts no numbers",
        "Generate or score text with it: chargen sample -m MODEL, chargen score -m MODEL TEXT.",
    ),
    "encoder": (
        "a bidirectional encoder, which cannot generate or score text: at each character it has already read the text "
        "after it, so it gives no probability of the next character",
        "It classifies whole texts: chargen classify -m CLASSIFIER TEXT. chargen train trains a language model.",
    ),
    "forecaster": (
        "a forecaster, which continues a series of numbers and knows no text",
        "Forecast with it: chargen forecast -m FORECASTER FILE.csv. chargen train trains a language model.",
    ),
}


#: kind of a model: the command that continues its training, without the name of the run
RESUMED_BY = {
    "language model": "chargen train --resume",
    "encoder": "chargen classify --train DATA --resume",
    "forecaster": "chargen forecast --train FILE --resume",
}


class StorageError(ChargenError, OSError):
    """A file or folder cannot be written."""


class RunInUseError(StorageError):
    """Another process is writing the run."""


STOPPED_EARLY = "stopped before the first validation: nothing was saved or changed"  #: message of a `StoppedError`


class StoppedError(ChargenError, RuntimeError):
    """A run was stopped before its first validation, so there is no model to keep."""


class DeviceError(ChargenError, RuntimeError):
    """A device is not available on this machine, or failed."""


class RankLostError(ChargenError, RuntimeError):
    """Another process of a run on several processes has ended, or cannot be reached."""


class DivergenceError(ChargenError, ArithmeticError):
    """A loss in training is not a finite number."""
