"""Names for the things that people choose by name: cells, tokenizers, corpora.

An entry is stored as "module:attribute" and imported when it is first asked for, so that a list of names costs
nothing and nobody pays for what they do not use.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Generic, TypeVar

from chargen.errors import ChargenError, ConfigError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the known name nearest to `name`, or "" where none is near.

    >>> did_you_mean("gruu", ["rnn", "lstm", "gru"])
    "Did you mean 'gru'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """A table from names to objects.

    Args:
        kind: what the entries are, for messages ("cell").
        entries: name → "package.module:attribute".
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._where = dict(entries)
        self._loaded: dict[str, T] = {}

    def register(self, name: str, entry: T) -> None:
        """Add an entry of your own, or replace one.

        Raises:
            ConfigError: `name` holds a character other than letters, digits, '-' and '_'.
        """
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{name!r} cannot name a {self.kind}", "Use letters, digits, '-' and '_'.")
        self._loaded[name] = entry

    def names(self) -> list[str]:
        """Return every registered name, those of chargen first."""
        return [*self._where, *(name for name in self._loaded if name not in self._where)]

    def get(self, name: str) -> T:
        """Return what is registered under `name`.

        Raises:
            ConfigError: nothing is; the message lists the names and the nearest one.
        """
        if name not in self._loaded:
            if name not in self._where:
                hint = f"{did_you_mean(name, self.names())} Known: {', '.join(self.names())}.".strip()
                raise ConfigError(f"no {self.kind} named {name!r}", hint)
            module, _, attribute = self._where[name].partition(":")
            self._loaded[name] = getattr(importlib.import_module(module), attribute)
        return self._loaded[name]


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import what reads a kind of file.

    Raises:
        ChargenError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ChargenError(f"{what} needs a package that is not here", f"pip install 'chargen[{extra}]'") from error
