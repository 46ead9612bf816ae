"""The settings of an encoder that the user left open: they follow from the number and the length of the texts.

    tokenizer     words:20000; char if a text usually has fewer than three words (names, codes, single words)
    batch size    64, or less, so that an epoch has at least 40 steps; from 8
    n-grams       of 1 to 5 characters, or 1 to 3 where words have one or two (Chinese, Japanese, Thai: `words.py`); the
                  table has about a row for each character of the training texts, at most 2²⁰
    rate          of the n-grams: 0.025 · √K for K labels

The n-grams and their rate were compared on short English texts (3 labels), Chinese reviews (2 labels), and lines and
paragraphs of Python code (20 and 10 labels), mostly with one seed (benchmarks/LOG.md). Tokenizer and batch size were
not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from chargen.config import TrainConfig
from chargen.errors import ConfigError
from chargen.schema import Integer, Record, String
from chargen.tasks.classification.classifier import ClassifierPlan
from chargen.tasks.classification.encoder_init import InitialEncoder
from chargen.tasks.classification.text_input import TextInput
from chargen.tasks.classification.words import split_words
from chargen.training.choices import ModelChoices, RunLength

if TYPE_CHECKING:
    from chargen.networks.encoder import EncoderConfig

NO_WEIGHTS, BALANCED = CLASS_WEIGHTS = ("none", "balanced")
#: settings of a language model that an encoder has, too
ENCODER_SETTINGS = (
    "cell", "num_layers", "hidden_size", "embedding_dim", "dropout",
    "ngrams", "ngram_rows", "ngram_dim", "ngram_dropout",
)  # fmt: skip
MAX_EPOCHS = 60  #: a time budget trains for at most this number of passes over the texts
LEARNING_RATE = 4e-3  #: peak learning rate
NGRAM_RATE, NGRAM_DAMPING = 0.025, 1.0  #: n-gram table: learning rate for a single label, and the constant δ of Adagrad
DEFAULTS = {"hidden_size": 64, "embedding_dim": 64, "dropout": 0.5, "pooling": "meanmax"}
DEFAULT_MAX_LENGTH = 400  #: tokens
MAX_BATCH_SIZE, MIN_BATCH_SIZE, STEPS_PER_EPOCH = 64, 8, 40
MIN_ROWS, MAX_ROWS = 1 << 14, 1 << 20  #: rows of the table of the n-grams
FEW_LABELS = 4  #: with at most this number of labels, an n-gram embedding has 8 numbers, else 16
MIN_WORDS = 3  #: texts whose median has fewer words are read as characters
MIN_WORD_CHARS = 2.5  #: characters for each word, with spaces, from which n-grams have up to 5 characters, else 3
NUM_SAMPLES = 1000  #: texts whose words are counted
SPEC = Record(
    {
        "encoder": Record(),
        "input": Record(),
        "class_weights": String(choices=CLASS_WEIGHTS),
        "batch_size": Integer(1, MAX_BATCH_SIZE),
    }
)


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that determines the training of an encoder, besides the texts and the length."""

    config: EncoderConfig
    text_input: TextInput = field(repr=False)
    class_weights: str  #: one of CLASS_WEIGHTS
    batch_size: int  #: texts of a step
    initial: InitialEncoder | None = field(default=None, repr=False)  #: the language model to start from

    @property
    def is_balanced(self) -> bool:
        """Whether each label counts the same in the loss."""
        return self.class_weights == BALANCED

    def train_config(self, length: RunLength, seed: int, device: str) -> TrainConfig:
        """Return how the encoder is trained."""
        return TrainConfig(
            **length.chosen(),
            batch_size=self.batch_size,
            learning_rate=LEARNING_RATE,
            final_learning_rate=0.0,
            beta1=0.9,
            weight_decay=0.05,
            seed=seed,
            device=device,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads; the weights to start from are part of the training state."""
        return {
            "encoder": self.config.to_json(),
            "input": self.text_input.to_json(),
            "class_weights": self.class_weights,
            "batch_size": self.batch_size,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderSettings:
        """Return the settings that `to_json` described.

        Raises:
            ChargenError: If a value is missing or out of range.
        """
        from chargen.networks.encoder import EncoderConfig

        SPEC.check(values, "task")
        return cls(
            EncoderConfig.from_json(values["encoder"]),
            TextInput.from_json(values["input"]),
            values["class_weights"],
            values["batch_size"],
        )


def choose_settings(plan: ClassifierPlan, texts: Sequence[str], num_labels: int) -> EncoderSettings:
    """Return the settings of a new encoder.

    Args:
        plan: What the user chose.
        texts: The training texts.
        num_labels: Number of labels K.

    Raises:
        ConfigError: If a setting that only a language model has was chosen, or a choice is out of range.
        TokenizerError: If no vocabulary can be made of the texts.
        ModelError: If there is no language model to start from.
    """
    from chargen.networks.encoder import POOLINGS, EncoderConfig

    choices, settings = plan.encoder, encoder_settings(plan.model)
    class_weights = choices.class_weights or NO_WEIGHTS
    String(choices=CLASS_WEIGHTS).check(class_weights, "class_weights")
    if choices.pooling is not None:
        String(choices=POOLINGS).check(choices.pooling, "pooling")
        settings["pooling"] = choices.pooling
    initial = None
    max_length = DEFAULT_MAX_LENGTH if choices.max_length is None else choices.max_length
    if choices.init_from:
        initial = InitialEncoder.load(choices.init_from, choices.tokenizer, settings)
        settings |= initial.settings
        text_input = TextInput(initial.tokenizer, max_length)
    else:
        text_input = TextInput.build(choices.tokenizer or choose_tokenizer(texts), texts, max_length)
    open_settings = {
        **DEFAULTS,
        "ngrams": choose_ngrams(texts),
        "ngram_rows": choose_rows(texts),
        "ngram_dim": 8 if num_labels <= FEW_LABELS else 16,
    }
    config = EncoderConfig(
        vocab_size=text_input.tokenizer.vocab_size, num_labels=num_labels, **{**open_settings, **settings}
    )
    return EncoderSettings(config, text_input, class_weights, choose_batch_size(len(texts)), initial)


def encoder_settings(choices: ModelChoices) -> dict[str, Any]:
    """Return the fields of `EncoderConfig` that a user chose.

    Raises:
        ConfigError: If a setting that only a language model has was chosen.
    """
    for name in choices.chosen():
        if name not in ENCODER_SETTINGS:
            raise ConfigError(
                f"{name} cannot be set: an encoder has no such part", f"It has {', '.join(ENCODER_SETTINGS)}."
            )
    return choices.chosen()


def choose_tokenizer(texts: Sequence[str]) -> str:
    """Return the tokenizer for texts: words, or characters if a text usually has fewer than MIN_WORDS words.

    >>> choose_tokenizer(["a good film"]), choose_tokenizer(["Anna", "Otto"])
    ('words', 'char')
    """
    return "words" if float(np.median(_count_words(_sample(texts)))) >= MIN_WORDS else "char"


def choose_ngrams(texts: Sequence[str]) -> int:
    """Return the length of the longest n-gram: shorter where a character says more.

    >>> choose_ngrams(["a good film"]), choose_ngrams(["很好的电影"])
    (5, 3)
    """
    sample = _sample(texts)
    mean_chars = sum(map(len, sample)) / max(1, sum(_count_words(sample)))
    return 5 if mean_chars >= MIN_WORD_CHARS else 3


def _sample(texts: Sequence[str]) -> Sequence[str]:
    return texts[:: max(1, len(texts) // NUM_SAMPLES)]


def _count_words(texts: Sequence[str]) -> list[int]:
    return [len(split_words(text)) for text in texts]


def choose_rows(texts: Sequence[str]) -> int:
    """Return the number of rows of the table of the n-grams: a power of two, about one for each character."""
    num_chars = max(1, sum(map(len, texts)))
    return min(MAX_ROWS, max(MIN_ROWS, 1 << (num_chars - 1).bit_length()))


def choose_batch_size(num_texts: int) -> int:
    """Return the number of texts of a step: a power of two.

    >>> [choose_batch_size(n) for n in (100, 1000, 100_000)]
    [8, 16, 64]
    """
    wanted = max(MIN_BATCH_SIZE, num_texts // STEPS_PER_EPOCH)
    return min(MAX_BATCH_SIZE, 1 << (wanted.bit_length() - 1))


def ngram_rate_factor(num_labels: int) -> float:
    """Return the learning rate of the table of the n-grams, divided by LEARNING_RATE."""
    return NGRAM_RATE * math.sqrt(num_labels) / LEARNING_RATE
