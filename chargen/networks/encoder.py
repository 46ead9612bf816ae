"""A bidirectional encoder: token ids [T, B] → logits of labels [B, K], for tasks that see the whole text.

    token ids ─▶ embedding ─┬▶ layer 0, forward  ─┬▶ layer 1, forward  ─┬▶ … ─▶ pooling ─▶ head ─┬▶ logits
                            └▶ layer 0, backward ─┴▶ layer 1, backward ─┘    over the text       │
    n-grams of the text ─▶ rows of a table ─▶ weighted sum ─▶ head of the n-grams ───────────────┘
                                                              (networks/ngram_bag.py)

Each layer is two layers of the same cell (Schuster & Paliwal 1997): one reads its input from the start, the other from
the end. The outputs of both, [T, B, 2H], are the input of the next layer. So each output knows the whole text.

The outputs of the last layer, one vector o_t of 2H units for each token, become one vector by pooling:

    last       the last output of the forward layer and the first output of the backward layer: each has read all tokens
    mean       Σ_t o_t / T
    max        the maximum of each unit over t
    attention  Σ_t a_t o_t with a = softmax_t(q · o_t), where q is learned (Lin et al. 2017, arXiv:1703.03130)
    meanmax    the mean and the maximum, 4H units

The bag of n-grams (Joulin et al. 2016, arXiv:1607.01759) ignores order beyond the n-gram, and learns from few texts.
The recurrent layers see order and distance. The two are trained with losses of their own, and their logits are mixed:

    logits = m · logits of the recurrent layers + (1 − m) · logits of the n-grams

With one loss for the sum of both, the recurrent layers fit the training texts within an epoch, and the n-grams learn
no more (log loss 0.67 instead of 0.57 nats on 3,729 short English texts).

That is why an encoder is not a language model. At each position it has already seen the characters that follow, so it
cannot say how probable they are, and nothing can be sampled from it: `WrongKindError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.cells import CELLS
from chargen.config import (
    DROPOUT_RATE,
    MAX_LAYER_SIZE,
    MAX_LAYERS,
    MAX_NGRAM_DIM,
    MAX_NGRAM_ROWS,
    MAX_NGRAMS,
    MAX_VOCAB_SIZE,
    Config,
)
from chargen.errors import ConfigError
from chargen.networks.draws import Draws
from chargen.networks.layers import Dense, Lookup, Params, choose_backend
from chargen.networks.network import locked_dropout
from chargen.networks.task_network import TaskNetwork
from chargen.schema import Integer, Spec, String

DIRECTIONS = ("forward", "backward")  #: the two halves of each layer
POOLINGS = ("last", "mean", "max", "attention", "meanmax")
MAX_LABELS = 10_000
MIX = "mix"  #: share of the recurrent layers in the logits, from 0 to 1; it is chosen by a validation, not by gradients
IDF = "ngrams.idf"  #: how much an n-gram of each row counts, by the number of training texts that have it
BUFFERS = {MIX: 0.5, IDF: 1.0}  #: weights that are not trained by gradients, with their initial values
BAG_TABLE = "ngrams.weight"  #: this weight gets sparse gradients: a batch reads a few of its rows


@dataclass(frozen=True)
class EncoderConfig(Config):
    """The architecture of an encoder."""

    vocab_size: int  #: number of token ids V
    num_labels: int  #: number of labels K
    cell: str = "gru"  #: name of the recurrent cell in the registry `cells.CELLS`
    num_layers: int = 1  #: layers, each in both directions
    hidden_size: int = 96  #: units of a layer in each direction H
    embedding_dim: int = 64  #: size of a token embedding E
    dropout: float = 0.3  #: dropout rate in training, for the input of each layer and of the head
    pooling: str = "meanmax"  #: how the outputs become one vector, one of POOLINGS
    ngrams: int = 0  #: length of the longest n-gram, in characters; 0: no n-grams
    ngram_rows: int = 1 << 15  #: rows R of the table of the n-grams; a power of two
    ngram_dim: int = 16  #: size D of an n-gram embedding
    ngram_dropout: float = 0.3  #: dropout rate in training, for whole n-grams

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "vocab_size": Integer(1, MAX_VOCAB_SIZE),
        "num_labels": Integer(1, MAX_LABELS),
        "cell": String(100),
        "num_layers": Integer(1, MAX_LAYERS),
        "hidden_size": Integer(1, MAX_LAYER_SIZE),
        "embedding_dim": Integer(1, MAX_LAYER_SIZE),
        "dropout": DROPOUT_RATE,
        "pooling": String(choices=POOLINGS),
        "ngrams": Integer(0, MAX_NGRAMS),
        "ngram_rows": Integer(1, MAX_NGRAM_ROWS),
        "ngram_dim": Integer(1, MAX_NGRAM_DIM),
        "ngram_dropout": DROPOUT_RATE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ngram_rows.bit_count() != 1:
            raise ConfigError(f"ngram_rows is {self.ngram_rows:,}, but must be a power of two")

    def __str__(self) -> str:
        """Return a short description: "gru 2×128 in both directions, meanmax pooling, 5-grams"."""
        bag = f", {self.ngrams}-grams" if self.ngrams else ""
        return f"{self.cell} {self.num_layers}×{self.hidden_size} in both directions, {self.pooling} pooling{bag}"

    @property
    def pooled_size(self) -> int:
        """The number of units that the head reads."""
        return (4 if self.pooling == "meanmax" else 2) * self.hidden_size

    @property
    def table_rows(self) -> dict[str, int]:
        """The number of rows of each array of which a file may leave out the rows of zeros (`storage/`)."""
        return {BAG_TABLE: self.ngram_rows} if self.ngrams else {}


def encoder_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by name: embedding.weight, layers.L.DIRECTION.NAME, head.weight, ….

    Raises:
        ConfigError: If no cell has the configured name.
    """
    H, K, cell = config.hidden_size, config.num_labels, CELLS.get(config.cell)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, config.embedding_dim)}
    for layer in range(config.num_layers):
        for direction in DIRECTIONS:
            for name, shape in cell.parameter_shapes(2 * H if layer else config.embedding_dim, H).items():
                shapes[f"layers.{layer}.{direction}.{name}"] = shape
    if config.pooling == "attention":
        shapes["attention.weight"] = (1, 2 * H)
    if config.ngrams:
        D = config.ngram_dim
        shapes |= {BAG_TABLE: (config.ngram_rows, D), "ngrams.head": (K, D), "ngrams.bias": (K,), MIX: (1,)}
        shapes[IDF] = (config.ngram_rows,)
    return {**shapes, "head.weight": (K, config.pooled_size), "head.bias": (K,)}


@dataclass(frozen=True)
class EncoderBatch:
    """B texts as the input of an encoder.

    The n-grams of all texts stand one after another, M together.
    """

    ids: Tensor  #: token ids, [T, B]; what is after the end of a text is not used
    lengths: Tensor  #: number of token ids of each text, [B], from 1 to T
    rows: Tensor  #: rows of the table of the n-grams, [M]
    amounts: Tensor  #: weight of each n-gram in the sum of its text, [M]
    starts: Tensor  #: number of the first n-gram of each text, [B]

    def to(self, device: torch.device) -> EncoderBatch:
        """Return the batch on a device."""
        return EncoderBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class Encoder(TaskNetwork):
    """The network. Its buffer `mix` is the share m of the recurrent layers in the logits, [1].

    Args:
        config: Its shape.
        generator: The random generator of the initial weights, on the CPU.
    """

    def __init__(self, config: EncoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.mix: Tensor
        self.ngrams__idf: Tensor
        self.config, self.cell = config, CELLS.get(config.cell)
        for name, shape in encoder_shapes(config).items():
            if name in BUFFERS:
                self.register_buffer(name.replace(".", "__"), torch.full(shape, BUFFERS[name]))
            else:
                self.register_parameter(name.replace(".", "__"), nn.Parameter(_initial(name, shape, generator)))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._weight("head.bias").device

    def forward(self, batch: EncoderBatch, draws: Draws | None = None) -> Tensor:
        """Read whole texts.

        Args:
            batch: The texts.
            draws: Draws the dropout masks; without it nothing is dropped.

        Returns:
            The logits of the labels, [B, K].
        """
        return self.combine(self.part_logits(batch, draws))

    def part_logits(self, batch: EncoderBatch, draws: Draws | None = None) -> list[Tensor]:
        """Return the logits by the recurrent layers and, if there are n-grams, those by the n-grams, [B, K] each."""
        parts = [self.recurrent_logits(batch, draws)]
        return [*parts, self.ngram_logits(batch, draws)] if self.config.ngrams else parts

    def recurrent_logits(self, batch: EncoderBatch, draws: Draws | None = None) -> Tensor:
        """Return the logits by the recurrent layers, [B, K]."""
        outputs, is_inside = self._read(batch, draws)
        pooled = self._pool(outputs, is_inside, batch.lengths)
        return F.linear(pooled, self._weight("head.weight"), self._weight("head.bias"))

    def ngram_logits(self, batch: EncoderBatch, draws: Draws | None = None) -> Tensor:
        """Return the logits by the n-grams, [B, K]; the token ids are not read."""
        bag = self._sum_ngrams(batch, draws)
        return F.linear(bag, self._weight("ngrams.head"), self._weight("ngrams.bias"))

    def combine(self, parts: list[Tensor]) -> Tensor:
        """Return the weighted sum of the logits of the parts, [B, K]."""
        if len(parts) == 1:
            return parts[0]
        mix = self.mix.to(parts[0].device)  # logits that were collected from several batches are on the CPU
        return mix * parts[0] + (1.0 - mix) * parts[1]

    def _read(self, batch: EncoderBatch, draws: Draws | None) -> tuple[Tensor, Tensor]:
        """Run the layers: → (outputs [T, B, 2H], whether a step is inside its text [T, B])."""
        ids, lengths = batch.ids, batch.lengths
        steps = torch.arange(len(ids), device=ids.device)[:, None]  # [T, 1]
        is_inside = steps < lengths  # [T, B]
        mirror = torch.where(is_inside, lengths - 1 - steps, steps)  # the same step, counted from the end of the text
        embedding = self._weight("embedding.weight")
        inputs: list[Dense | Lookup] = [Lookup(each, embedding) for each in (ids, ids.gather(0, mirror))]
        for layer in range(self.config.num_layers):
            forward, backward = (self._run(layer, d, x) for d, x in zip(DIRECTIONS, inputs, strict=True))
            outputs = torch.cat([forward, _take(backward, mirror)], dim=-1)  # [T, B, 2H]
            outputs = locked_dropout(outputs, self.config.dropout, draws)
            inputs = [Dense(outputs), Dense(_take(outputs, mirror))]
        return outputs, is_inside

    def _pool(self, outputs: Tensor, is_inside: Tensor, lengths: Tensor) -> Tensor:
        """Make one vector of the outputs [T, B, 2H] of each text: → [B, 2H] or [B, 4H]."""
        pooling, inside = self.config.pooling, is_inside[:, :, None]
        if pooling == "last":
            forward, backward = outputs.chunk(2, dim=-1)
            return torch.cat([_take(forward, lengths[None] - 1)[0], backward[0]], dim=-1)
        if pooling == "attention":
            scores = F.linear(outputs, self._weight("attention.weight")).masked_fill(~inside, -math.inf)  # [T, B, 1]
            return (scores.softmax(0) * outputs.masked_fill(~inside, 0.0)).sum(0)
        mean = outputs.masked_fill(~inside, 0.0).sum(0) / lengths[:, None]
        if pooling == "mean":
            return mean
        largest = outputs.masked_fill(~inside, -math.inf).amax(0)
        return largest if pooling == "max" else torch.cat([mean, largest], dim=-1)

    def _sum_ngrams(self, batch: EncoderBatch, draws: Draws | None) -> Tensor:
        """Return the weighted sum of the embeddings of the n-grams of each text, [B, D]."""
        table, rate = self._weight(BAG_TABLE), self.config.ngram_dropout
        amounts = batch.amounts.to(table.dtype)
        if draws is not None and rate:
            kept = torch.rand(amounts.shape, generator=draws.generator, device=amounts.device) >= rate
            amounts = amounts * kept / (1.0 - rate)
        return F.embedding_bag(
            batch.rows, table, batch.starts, mode="sum", per_sample_weights=amounts, sparse=table.device.type != "mps"
        )

    def export_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights by name, float32."""
        return {name: self._weight(name).detach().cpu().numpy().copy() for name in encoder_shapes(self.config)}

    @torch.no_grad()
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Copy weights with the names and shapes of `encoder_shapes` into the network."""
        for name in encoder_shapes(self.config):
            self._weight(name).copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))

    def _run(self, layer: int, direction: str, inputs: Dense | Lookup) -> Tensor:
        """Run one direction of a layer from zeros: → outputs [T, B, H]."""
        names = self.cell.parameter_shapes(1, 1)
        params: Params = {name: self._weight(f"layers.{layer}.{direction}.{name}") for name in names}
        x = inputs.values()
        state = self.cell.initial_state(torch, (x.shape[1], self.config.hidden_size), dtype=x.dtype, device=x.device)
        return choose_backend(self.config.cell, x.device)(self.cell, params, inputs, state)[0]

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = getattr(self, name.replace(".", "__"))
        return weight


def _take(values: Tensor, steps: Tensor) -> Tensor:
    """Return values [T, B, D] at the given steps of each row, [S, B]: → [S, B, D]."""
    return values.gather(0, steps[:, :, None].expand(-1, -1, values.shape[-1]))


def _initial(name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Draw one weight: normal for the embedding, uniform in ±1/√(inputs) for matrices, zero for biases.

    The table of the n-grams is zero at first, so that an n-gram that no training text has says nothing.
    """
    if len(shape) == 1 or name == BAG_TABLE:
        return torch.zeros(shape)
    if name in ("embedding.weight", "ngrams.head"):
        return torch.randn(shape, generator=generator)
    return (2.0 * torch.rand(shape, generator=generator) - 1.0) / math.sqrt(shape[-1])
