"""The settings of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chargen.config.base import DROPOUT_RATE, Config
from chargen.errors import ConfigError
from chargen.schema import Boolean, Integer, Spec, String, format_count

MAX_VOCAB_SIZE = 1 << 20  #: Unicode has 1,112,064 characters; a corpus rarely has more than 30,000
MAX_LAYER_SIZE = 1 << 16  #: limit of hidden and embedding size; a layer of this size has 13 billion weights
MAX_LAYERS = 256  #: limit of the recurrent layers of all ensemble members together
MAX_NGRAMS = 16  #: length of the longest n-gram, in tokens
MAX_NGRAM_ROWS = 1 << 24  #: rows of the n-gram table for each n
MAX_NGRAM_DIM = 1 << 12  #: size of an n-gram embedding


@dataclass(frozen=True)
class ModelConfig(Config):
    """The architecture of a network: embedding → `num_layers` recurrent layers → linear output layer (head) → softmax.

    An ensemble has `ensemble_size` members that share one embedding. Each member has its own layers, its own head and
    its own loss, and the logits of the network are the mean of the members' logits.
    """

    vocab_size: int  #: number of token ids V
    cell: str = "gru"  #: name of the recurrent cell in the registry `cells.CELLS`
    num_layers: int = 1  #: recurrent layers of each ensemble member
    hidden_size: int = 256  #: units of each layer H
    embedding_dim: int = 256  #: size of a token embedding E
    dropout: float = 0.0  #: dropout rate in training, between layers and before the head; 0: no dropout
    weight_dropout: float = 0.0  #: dropout rate in training, for recurrent weights (DropConnect); 0: no dropout
    ensemble_size: int = 1  #: number of networks that are trained together and whose logits are averaged
    tie_weights: bool = False  #: whether the head uses the embedding matrix; requires embedding_dim == hidden_size
    ngrams: int = 0  #: the head also reads hashed n-grams of the last tokens, from n = 2 to this n; 0: none
    ngram_rows: int = 1 << 15  #: rows of the n-gram table for each n; a power of two
    ngram_dim: int = 16  #: size of an n-gram embedding
    ngram_dropout: float = 0.0  #: dropout rate in training, for whole n-grams at each position; 0: no dropout

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "vocab_size": Integer(1, MAX_VOCAB_SIZE),
        "cell": String(100),
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
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ngrams == 1:
            raise ConfigError(f"ngrams is 1, but must be 0 or from 2 to {MAX_NGRAMS}")
        if self.ngram_rows.bit_count() != 1:
            raise ConfigError(
                f"ngram_rows is {self.ngram_rows:,}, but must be a power of two, at most {MAX_NGRAM_ROWS:,}"
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
    def total_layers(self) -> int:
        """The number of recurrent layers of all ensemble members together."""
        return self.ensemble_size * self.num_layers

    def __str__(self) -> str:
        """Return a short description: "gru 2×512", "mgru 1×448, ensemble of 2"."""
        ensemble = f", ensemble of {self.ensemble_size}" if self.ensemble_size > 1 else ""
        ngrams = f", {self.ngrams}-grams" if self.ngrams else ""
        return f"{self.cell} {self.num_layers}×{self.hidden_size}{ensemble}{ngrams}"
