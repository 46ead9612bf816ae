"""The settings of sampling, and the registry of sampling rules.

A sampling rule is one function and one field of `SampleConfig`: the command line, the documentation and the signatures
of `LanguageModel` follow from the field. Its type is repeated in `SampleSettings`, which type checkers read.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, TypeVar

from chargen.config import FRACTION, MAX_SEED, Config
from chargen.errors import ConfigError
from chargen.registry import import_object
from chargen.schema import Boolean, Integer, ListOf, Number, Spec, String, raise_invalid

if TYPE_CHECKING:
    from chargen.sampling.prefix_cache import PrefixCache

MAX_SAMPLE_LENGTH = 10**12  #: characters
MIN_TEMPERATURE = 1e-6  #: smallest temperature besides 0; smaller ones give the same text as 0
MAX_TEMPERATURE = 1e6  #: larger ones give the same uniform distribution
MAX_STRING_LENGTH = 1_000_000  #: characters of a stop string, a banned string or a regular expression
MAX_DRY_PENALTY = 1e6  #: nats
MAX_DRY_BASE = 8.0  #: 8 to the power of 300, the largest number of repeated tokens that is counted, is a finite float


class SamplingRule:
    """A rule that removes token ids before one is drawn; it is stated once, as a field of `SampleConfig`.

    Args:
        function: "module:attribute" of the function (logits [V] or [B, V], value) → logits. It is imported when the
            rule is first used, so that the settings do not need NumPy.
        off: The default value, with which the rule does nothing.
        values: The allowed values.
        metavar: Name of the value in the help of the command line.
        help: Help of the command-line option: a full sentence.
    """

    def __init__(self, function: str, off: float, values: Integer | Number, metavar: str, help: str) -> None:
        self.off = off
        self.values = values
        self.metavar = metavar
        self.help = help
        self._function = function

    @cached_property
    def function(self) -> Callable[[Any, Any], Any]:
        """The function (logits, value) → logits."""
        function: Callable[[Any, Any], Any] = import_object(self._function)
        return function

    def as_field(self) -> Any:
        """Return the dataclass field that registers this rule."""
        return field(default=self.off, metadata={"rule": self})


def setting(default: Any, description: str) -> Any:
    """Return a dataclass field with a default value and a description for people who call the library."""
    return field(default=default, metadata={"description": description})


END_CONDITIONS = ("length", "newline", "boundary")


# Words of other programs for settings that have another name here.
SEVERAL_WORDS = "n num count samples num_samples n_samples num_texts num_return_sequences"
LENGTH_WORDS = "max_length max_len max_tokens max_new_tokens num_chars chars size"


@dataclass(frozen=True)
class SampleConfig(Config):
    """How text is sampled from a model. The rules are listed in the order in which `sampling/` applies them."""

    length: int = setting(1000, "Maximum number of characters to generate, without the prompt.")
    seed: int = setting(0, "Seed of the random numbers.")
    until: str = setting(
        "length",
        "Where a text ends before `length`: 'length' (nowhere), 'newline', or 'boundary' (document end, the default of "
        "models of documents).",
    )
    stop: tuple[str, ...] = setting((), "A text ends before the first of these strings.")
    regex: str = setting("", "Regular expression that the whole text matches; '': no constraint.")
    ban: tuple[str, ...] = setting((), "Strings that never occur in a text.")
    max_copy: int = setting(
        0, "Maximum length in characters of a passage that also occurs in the training text; 0: unlimited."
    )
    dry: float = setting(
        0.0, "Penalty in nats for a token that extends a repetition beyond `dry_allowed` characters; 0: none."
    )
    dry_base: float = setting(1.1, "Factor on this penalty for each further repeated character.")
    dry_allowed: int = setting(12, "Length of a repetition that has no penalty, in characters.")
    temperature: float = setting(1.0, "Divisor of the logits; 0 always takes the most probable token.")
    # The rules, in the order in which they act. A new rule is one more field here.
    top_k: int = SamplingRule(
        "chargen.sampling.logits_rules:keep_top_k",
        0,
        Integer(0, 10**9),
        "K",
        "Draw from the K most probable tokens only.",
    ).as_field()
    top_p: float = SamplingRule(
        "chargen.sampling.logits_rules:keep_top_p",
        1.0,
        Number(0.0, 1.0, exclusive_low=True),
        "P",
        "Draw from the smallest set of most probable tokens with a total probability of P.",
    ).as_field()
    typical: float = SamplingRule(
        "chargen.sampling.logits_rules:keep_typical",
        1.0,
        Number(0.0, 1.0, exclusive_low=True),
        "P",
        "Draw from the tokens whose surprisal is nearest to the entropy, with a total probability of P.",
    ).as_field()
    min_p: float = SamplingRule(
        "chargen.sampling.logits_rules:keep_min_p",
        0.0,
        FRACTION,
        "P",
        "Draw from the tokens that are at least P times as probable as the most probable one.",
    ).as_field()
    allow_invalid_utf8: bool = setting(
        False, "Whether byte sequences that are no UTF-8 may be generated (shown as U+FFFD)."
    )

    HINTS: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(SEVERAL_WORDS.split(), "For several texts, call model.samples(COUNT, ...)."),
        **dict.fromkeys(LENGTH_WORDS.split(), "Did you mean 'length'? It is the number of characters."),
        "beam": "Call model.generator(PROMPT).beam(WIDTH).",
    }
    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "length": Integer(0, MAX_SAMPLE_LENGTH),
        "seed": Integer(0, MAX_SEED),
        "until": String(choices=END_CONDITIONS),
        "stop": ListOf(String(MAX_STRING_LENGTH), high=10_000),
        "regex": String(MAX_STRING_LENGTH),
        "ban": ListOf(String(MAX_STRING_LENGTH), high=100_000),
        "max_copy": Integer(0, 10**9),
        "dry": Number(0.0, MAX_DRY_PENALTY),
        "dry_base": Number(1.0, MAX_DRY_BASE),
        "dry_allowed": Integer(1, 10**9),
        "temperature": Number(0.0, MAX_TEMPERATURE),
        "allow_invalid_utf8": Boolean(),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, strings in (("stop", self.stop), ("ban", self.ban)):
            object.__setattr__(self, name, tuple(strings))  # JSON has lists only
            if "" in strings:
                raise ConfigError(f"{name} contains an empty string, which occurs in every text", "Remove it.")
        if 0 < self.temperature < MIN_TEMPERATURE:
            raise_invalid("temperature", self.temperature, f"must be 0 or at least {MIN_TEMPERATURE:g}")

    def normalized(
        self, normalize: Callable[[str], str], reorder: Callable[[str], str] = lambda text: text
    ) -> SampleConfig:
        """Return the settings with all strings that are compared with the text in the form of the training text.

        Args:
            normalize: Brings a string into this form.
            reorder: Brings a string into the order in which the model writes.
        """
        stop, ban = (tuple(reorder(normalize(string)) for string in strings) for strings in (self.stop, self.ban))
        return replace(self, stop=stop, ban=ban, regex=normalize(self.regex))

    @cached_property
    def active_rules(self) -> tuple[tuple[SamplingRule, Any], ...]:
        """The rules that are not off, each with its value, in the order in which they act."""
        values = ((rule, getattr(self, name)) for name, rule in SAMPLING_RULES.items())
        return tuple((rule, value) for rule, value in values if value != rule.off)


class SampleSettings(TypedDict, total=False):
    """The keyword arguments of `LanguageModel.sample`: the fields of `SampleConfig`, for type checkers.

    Without a `seed` one is drawn, and the default of `until` depends on the model.

    >>> settings: SampleSettings = {"temperature": 0.8, "top_k": 5}
    """

    length: int
    seed: int | None
    until: str | None
    stop: Sequence[str]
    regex: str
    ban: Sequence[str]
    max_copy: int
    dry: float
    dry_base: float
    dry_allowed: int
    temperature: float
    top_k: int
    top_p: float
    typical: float
    min_p: float
    allow_invalid_utf8: bool


class GeneratorSettings(SampleSettings, total=False):
    """All keyword arguments of `LanguageModel.generator` but `num_texts`, for type checkers."""

    prefix_cache: PrefixCache | None
    corpus: Sequence[str]


#: Rules by the names of their fields, in the order in which they act.
SAMPLING_RULES: dict[str, SamplingRule] = {
    entry.name: entry.metadata["rule"] for entry in fields(SampleConfig) if "rule" in entry.metadata
}
SampleConfig.FIELDS = {**SampleConfig.FIELDS, **{name: rule.values for name, rule in SAMPLING_RULES.items()}}


def fill_missing(settings: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return the settings, with defaults for those that are missing or None.

    >>> fill_missing({"length": 9, "seed": None}, seed=3)
    {'length': 9, 'seed': 3}
    """
    return {**settings, **{name: value for name, value in defaults.items() if settings.get(name) is None}}


def draw_seed() -> int:
    """Return a random seed from 0 to 2³¹ − 1. (The import of `secrets` takes 2 ms.)"""
    return int.from_bytes(os.urandom(4), "big") >> 1


F = TypeVar("F", bound=Callable[..., Any])


def takes_sample_settings(method: F) -> F:
    """Give a method that takes the fields of `SampleConfig` as `**settings` a signature and a docstring with them.

    So `help` and editors show the settings of all methods, while a new sampling rule remains one field. `seed` and
    `until` are None: without a seed, the methods of `LanguageModel` draw one, and `until` depends on the model.
    """
    own = inspect.signature(method)
    settings = [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if entry.name in ("seed", "until") else entry.default,
            annotation=f"{entry.type} | None" if entry.name in ("seed", "until") else entry.type,
        )
        for entry in fields(SampleConfig)
    ]
    named = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    method.__signature__ = own.replace(parameters=[*named, *settings])  # type: ignore[attr-defined]
    rules = {name: rule.help for name, rule in SAMPLING_RULES.items()}
    descriptions = [
        f"    {entry.name}: {entry.metadata.get('description') or rules[entry.name]}" for entry in fields(SampleConfig)
    ]
    method.__doc__ = "\n".join([inspect.cleandoc(method.__doc__ or ""), "", "Keyword Args:", *descriptions])
    return method
