"""Registries: tables that map names to objects that users choose by name (cells, tokenizers, corpora).

An entry is a string "package.module:attribute" that is imported on first use. Listing the names therefore imports
nothing, and a program loads only the entries that it uses.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chargen.errors import ChargenError, ConfigError

if TYPE_CHECKING:
    pass

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the known name that is most similar to `name`, or "" if none is similar.

    A name that starts with `name` counts as similar: it was abbreviated.

    >>> did_you_mean("gruu", ["rnn", "lstm", "gru"])
    "Did you mean 'gru'?"
    >>> did_you_mean("temp", ["top_k", "temperature"])
    "Did you mean 'temperature'?"
    """
    similar = most_similar(name, known)
    return f"Did you mean {similar!r}?" if similar else ""


def most_similar(name: str, known: Iterable[str]) -> str:
    """Return the known name of `did_you_mean`, or "" if none is similar."""
    import difflib  # here, because only a failing command needs it

    spelled = {each.casefold(): each for each in known}  # upper and lower case do not make names less similar
    folded = name.casefold()
    similar = difflib.get_close_matches(folded, spelled, n=1) or [
        each for each in spelled if folded and each.startswith(folded)
    ]
    return spelled[similar[0]] if similar else ""


def did_you_mean_file(path: str, others: Iterable[str] = (), suffix: str = "") -> str:
    """Return "Did you mean 'FILE'?" for the file or folder beside a missing one that has the most similar name, or "".

    Args:
        path: The path that was given; nothing is there.
        others: Other names that can be given in its place.
        suffix: The end of the names of the files that can be meant; folders may have any name.
    """
    folder, name = os.path.split(path.rstrip("/"))
    try:
        siblings = [] if "\0" in path else os.listdir(folder or ".")
    except OSError:  # there is no such folder, or it cannot be listed: nothing can be suggested
        siblings = []
    visible = {each: os.path.join(folder, each) for each in sorted(siblings) if not each.startswith(".")}
    paths = {each: whole for each, whole in visible.items() if each.endswith(suffix) or os.path.isdir(whole)}
    similar = most_similar(name, [*others, *paths])
    return f"Did you mean {paths.get(similar, similar)!r}?" if similar else ""


class Registry(Generic[T]):
    """A table that maps names to objects.

    Args:
        kind: What the entries are, for error messages ("cell").
        entries: The import path "package.module:attribute" of each name.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._import_paths = dict(entries)
        self._loaded: dict[str, T] = {}

    def register(self, name: str, entry: T) -> None:
        """Add an entry, or replace one.

        Raises:
            ConfigError: If `name` contains a character other than letters, digits, '-' and '_'.
        """
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{name!r} cannot name a {self.kind}", "Use letters, digits, '-' and '_'.")
        self._loaded[name] = entry

    def names(self) -> list[str]:
        """Return all names: first those of the constructor, then those that `register` added."""
        return [*self._import_paths, *(name for name in self._loaded if name not in self._import_paths)]

    def get(self, name: str) -> T:
        """Return the object with this name, and import it if necessary.

        Raises:
            ConfigError: If there is no such name. The hint lists the known names and suggests the most similar one.
        """
        if name not in self._loaded:
            if name not in self._import_paths:
                hint = f"{did_you_mean(name, self.names())} Known: {', '.join(self.names())}.".strip()
                raise ConfigError(f"no {self.kind} named {name!r}", hint)
            self._loaded[name] = import_object(self._import_paths[name])
        return self._loaded[name]


def import_object(path: str) -> Any:
    """Import the module of "package.module:attribute", and return the attribute."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


@lru_cache
def is_installed(module: str) -> bool:
    """Return whether a package is installed, without importing it."""
    from importlib.util import find_spec

    return find_spec(module) is not None


def import_extra(module: str, extra: str, feature: str) -> ModuleType:
    """Import a package that is an optional dependency.

    Args:
        module: Name of the module to import.
        extra: Name of the extra of chargen that installs it.
        feature: What needs the package, as the subject of the error message ("a Parquet file").

    Raises:
        ChargenError: If the package is not installed. The hint is the `pip install` command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f"pip install 'chargen[{extra}]'"
        raise ChargenError(f"{feature} needs a package that is not installed", hint) from error
