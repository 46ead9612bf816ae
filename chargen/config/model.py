"""The settings of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from chargen.config.base import DROPOUT_RATE, Config
from chargen.errors import ConfigError
from chargen.schema import Boolean, Integer, Spec, String, format_count, format_value

MAX_VOCAB_SIZE = 1 << 20  #: Unicode has 1,112,064 characters; a corpus rarely has more than 30,000
MAX_LAYER_SIZE = 1 << 16  #: limit of hidden and embedding size; a layer of this size has 13 billion weights
MAX_LAYERS = 256  #: limit of the recurrent layers of all ensemble members together
MAX_CELL_CHARS = 1 << 12  #: limit of the names of the cells of all layers, in characters
STACK_SWITCHES = ("residual", "skip", "layer_norm")  #: fields of `ModelConfig` that are new in format version 2
STACK_FIELDS = ("cell", "num_layers", "residual", "skip", "tie_weights")  #: fields of `ModelConfig` for `check_stack`
MAX_NGRAMS = 16  #: length of the longest n-gram, in tokens
MAX_NGRAM_ROWS = 1 << 24  #: rows of the n-gram table for each n
MAX_NGRAM_DIM = 1 << 12  #: size of an n-gram embedding
MAX_NGRAM_WORDS = 4  #: words of the longest n-gram that starts with a word
NO_WORD, WORD, WORD_START = 0, 1, 2  #: kinds of token ids: outside of words, in words, always the start of a word
MIN_INDEXED_ROWS = 16  #: rows of an n-gram table with an index
NGRAM_SWITCHES = ("ngram_words", "ngram_index")  #: fields of `ModelConfig` that are new in format version 3


@dataclass(frozen=True)
class ModelConfig(Config):
    """The architecture of a network: embedding → `num_layers` recurrent layers → linear output layer (head) → softmax.

    `cell` names one cell for all layers, or one for each layer, separated by commas. `cells/stack.py` describes how the
    layers are connected.

    An ensemble has `ensemble_size` members that share one embedding. Each member has its own layers, its own head and
    its own loss, and the logits of the network are the mean of the members' logits.
    """

    vocab_size: int  #: number of token ids V
    cell: str = "gru"  #: a name of the registry `cells.CELLS` for all layers, or a name for each layer: "lstm,gru"
    #: recurrent layers of each ensemble member; None: one for each name in `cell`
    num_layers: int = None  # type: ignore[assignment]
    hidden_size: int = 256  #: units of each layer H
    embedding_dim: int = 256  #: size of a token embedding E
    dropout: float = 0.0  #: dropout rate in training, between layers and before the head; 0: no dropout
    weight_dropout: float = 0.0  #: dropout rate in training, for recurrent weights (DropConnect); 0: no dropout
    ensemble_size: int = 1  #: number of networks that are trained together and whose logits are averaged
    tie_weights: bool = False  #: whether the head uses the embedding matrix; requires embedding_dim == hidden_size
    ngrams: int = 0  #: the head also reads hashed n-grams of the last tokens, from n = 2 to this n; 0: none
    ngram_rows: int = 1 << 15  #: rows of the n-gram table, with an index in all, else for each n; a power of two
    ngram_dim: int = 16  #: size of an n-gram embedding
    ngram_dropout: float = 0.0  #: dropout rate in training, for whole n-grams at each position; 0: no dropout
    #: n-grams that start with a word: 1: the letters from the start of the last word, 2: also from the word before, …
    ngram_words: int = 0
    ngram_index: bool = False  #: whether the table has rows for n-grams of an index only (`cells/ngram_index.py`)
    residual: bool = False  #: whether the output of each layer but the first is added to that of the layer below
    skip: bool = False  #: whether the head reads the outputs of all layers, not only that of the last one
    layer_norm: bool = False  #: whether the output of each layer is normalized where it is read

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "vocab_size": Integer(1, MAX_VOCAB_SIZE),
        "cell": String(MAX_CELL_CHARS),
        "num_layers": Integer(1, MAX_LAYERS),
        "hidden_size": Integer(1, MAX_LAYER_SIZE),
        "embedding_dim": Integer(1, MAX_LAYER_SIZE),
        "dropout": DROPOUT_RATE,
        "weight_dropout": DROPOUT_RATE,
        "ensemble_size": Integer(1, MAX_LAYERS),
        "tie_weights": Boolean(),
        "ngrams": Integer(0, MAX_NGRAMS),
        "ngram_rows": Integer(1, MAX_NGRAM_ROWS),
        "ngram_dim": Integer(1, MAX_NGRAM_DIM),
        "ngram_dropout": DROPOUT_RATE,
        "ngram_words": Integer(0, MAX_NGRAM_WORDS),
        "ngram_index": Boolean(),
        "residual": Boolean(),
        "skip": Boolean(),
        "layer_norm": Boolean(),
    }

    def __post_init__(self) -> None:
        if self.num_layers is None:
            object.__setattr__(self, "num_layers", str(self.cell).count(",") + 1)
        super().__post_init__()
        check_stack(**{name: getattr(self, name) for name in STACK_FIELDS})
        if self.ngrams == 1:
            raise ConfigError(f"ngrams is 1, but must be 0 or from 2 to {MAX_NGRAMS}")
        if self.ngram_rows.bit_count() != 1:
            raise ConfigError(
                f"ngram_rows is {self.ngram_rows:,}, but must be a power of two, at most {MAX_NGRAM_ROWS:,}"
            )
        if self.ngram_index and self.ngram_rows < MIN_INDEXED_ROWS:
            raise ConfigError(f"ngram_rows is {self.ngram_rows}, but with an index must be at least {MIN_INDEXED_ROWS}")
        if self.ngram_words and not (self.ngrams and self.ngram_index):
            raise ConfigError(
                f"ngram_words is {self.ngram_words}, but n-grams that start with a word need ngrams and ngram_index",
                "Leave out --ngram-words, or give --ngrams N.",
            )
        if self.total_layers > MAX_LAYERS:
            raise ConfigError(
                f"an ensemble of {format_count(self.ensemble_size, 'member')} with "
                f"{format_count(self.num_layers, 'layer')} each has "
                f"{self.total_layers:,} layers, but at most {MAX_LAYERS:,} are possible",
                "Reduce --ensemble or --layers.",
            )
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise ConfigError(
                f"tied weights need embedding_dim == hidden_size, not {self.embedding_dim} and {self.hidden_size}",
                "Leave out --embedding or --tie-weights.",
            )
        if self.layer_norm and self.hidden_size == 1:
            raise ConfigError(
                "layer_norm needs a hidden_size of at least 2: a single unit minus its mean is always 0",
                "Leave out --layer-norm, or give a larger --hidden.",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a dict of JSON values.

        The settings that are new in a later version are left out where they are off: earlier versions then read the
        file, too.
        """
        new = (*STACK_SWITCHES, *NGRAM_SWITCHES)
        return {name: value for name, value in asdict(self).items() if value or name not in new}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the settings that a dict from `to_json` contains.

        Files of earlier versions have the key "members" for `ensemble_size`; it is still read.

        Raises:
            ConfigError: If a key is unknown or missing, or its value is out of range.
        """
        if isinstance(values, Mapping) and "members" in values and "ensemble_size" not in values:
            values = {"ensemble_size" if key == "members" else key: value for key, value in values.items()}
        return super().from_json(values)

    @property
    def cell_names(self) -> tuple[str, ...]:
        """The name of the cell of each layer of an ensemble member, from the first layer to the last."""
        return list_cells(self.cell, self.num_layers)

    @property
    def head_size(self) -> int:
        """The number of units that the head of an ensemble member reads, without n-gram features."""
        return self.hidden_size * (self.num_layers if self.skip else 1)

    @property
    def num_ngrams(self) -> int:
        """The number of n-grams that each position reads: for each n from 2 to N, and those that start with a word."""
        return self.ngrams - 1 + self.ngram_words if self.ngrams else 0

    @property
    def num_history(self) -> int:
        """The length of the n-gram history: the last N − 1 token ids, and a hash for each word; 0 without n-grams."""
        return self.num_ngrams

    @property
    def num_table_rows(self) -> int:
        """The number of rows of the n-gram table; 0 without n-grams."""
        if not self.ngrams:
            return 0
        return self.ngram_rows if self.ngram_index else (self.ngrams - 1) * self.ngram_rows

    @property
    def is_plain_stack(self) -> bool:
        """Whether all layers have one cell, and each reads the output of the layer below as it is."""
        return "," not in self.cell and not any(getattr(self, name) for name in STACK_SWITCHES)

    @property
    def total_layers(self) -> int:
        """The number of recurrent layers of all ensemble members together."""
        return self.ensemble_size * self.num_layers

    def __str__(self) -> str:
        """Return a short description: "gru 2×512", "lstm,gru 2×64, residual", "mgru 1×448, ensemble of 2"."""
        stack = "".join(f", {name.replace('_', ' ')}" for name in STACK_SWITCHES if getattr(self, name))
        ensemble = f", ensemble of {self.ensemble_size}" if self.ensemble_size > 1 else ""
        ngrams = f", {self.ngrams}-grams" if self.ngrams else ""
        return f"{self.cell} {self.num_layers}×{self.hidden_size}{stack}{ensemble}{ngrams}"


def list_cells(cell: str, num_layers: int) -> tuple[str, ...]:
    """Return the name of the cell of each layer: `cell` is one name, or has as many names as there are layers."""
    return tuple(cell.split(",")) if "," in cell else (cell,) * num_layers


def check_stack(
    cell: str | None, num_layers: int | None, residual: bool | None, skip: bool | None, tie_weights: bool | None
) -> None:
    """Check that the settings of a stack of layers do not contradict each other. Those that are None are not known yet.

    Raises:
        ConfigError: If they do, or if one of them has no effect.
    """
    num_cells = cell.count(",") + 1 if cell else 1
    if num_cells > 1 and num_layers not in (None, num_cells):
        raise ConfigError(
            f"cell (--cell) is {format_value(cell)} and names {num_cells} layers, but num_layers (--layers) is "
            f"{num_layers}",
            f"Leave out --layers, give --layers {num_cells}, or name one cell for all layers.",
        )
    for option, is_on in (("residual", residual), ("skip", skip)):
        if is_on and num_layers == 1:
            raise ConfigError(
                f"{option} (--{option}) has no effect: it connects layers, but the network has a single one",
                f"Give --layers N with at least 2 layers, or leave out --{option}.",
            )
    if skip and tie_weights:
        raise ConfigError(
            "tie_weights (--tie-weights) cannot be combined with skip (--skip): the head reads the outputs of all "
            "layers, so its matrix is larger than that of the embedding",
            "Leave out --tie-weights or --skip.",
        )
