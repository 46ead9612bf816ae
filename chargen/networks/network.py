"""The language model as a network: ids [T, B] → logits [T, B, V].

    ids ─▶ embedding ─▶ layer 0 ─▶ … ─▶ layer L−1 ─▶ head ─▶ logits
                         ▲ state          ▲ state
             └─▶ layer L ─▶ … ─▶ layer 2L−1 ─▶ head ─▶ …      with several members: the logits are their mean
        └─▶ hashed n-grams, where there are any ─▲                  (`cells/ngrams.py`)

The state is an argument and a result; the network remembers nothing. Time comes first, then the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.cells import CELLS
from chargen.cells.ngram_features import find_ngram_rows, make_hash_parameters
from chargen.cells.weights import check_weights, parameter_shapes
from chargen.config import ModelConfig
from chargen.networks.layers import Dense, LayerBackend, Lookup, State, choose_backend, packed
from chargen.networks.sampled_softmax import losses

NGRAM_TABLE = "ngrams__weight"  #: the parameter of which a window reads a few rows
NetworkState = tuple[State, ...]  #: one state a layer, and the last ids read where there are n-grams


class Network(nn.Module):
    """An embedding, a stack of recurrent layers, and a softmax head.

    Args:
        config: the shape.
        generator: where the initial weights are drawn from; on the CPU, so that every device starts alike.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.cell = CELLS.get(config.cell)
        for name, shape in parameter_shapes(config).items():
            self.register_parameter(name.replace(".", "__"), nn.Parameter(_initial(name, shape, config, generator)))
        if config.ngrams:
            multipliers, first = make_hash_parameters(config.ngrams, config.ngram_rows)
            self.register_buffer("_multipliers", torch.from_numpy(multipliers), persistent=False)
            self.register_buffer("_first", torch.from_numpy(first), persistent=False)

    def forward(
        self,
        ids: Tensor,
        state: NetworkState,
        dropout_generator: torch.Generator | None = None,
        path: LayerBackend | None = None,
    ) -> tuple[Tensor, NetworkState]:
        """Read a window.

        Args:
            ids: [T, B].
            state: the state before it.
            dropout_generator: where dropout's masks are drawn from; without one nothing is dropped.
            path: another way to run the layers than the fastest.

        Returns:
            (logits [T, B, V], the state after it).
        """
        outputs, after = self.read(ids, state, dropout_generator, path)
        return self.head(outputs), after

    def head(self, outputs: list[Tensor]) -> Tensor:
        """Return the logits [..., V] of what `read` gave: the mean of the members'."""
        members, tied = self.config.ensemble_size, self.config.tie_weights
        hidden = outputs[0] if members == 1 else torch.cat(outputs[:members], dim=-1) / members
        head = self.weight("embedding.weight").repeat(1, members) if tied else self.weight("head.weight")
        return F.linear(self._beside(hidden, outputs), self._beside_head(head), self.weight("head.bias"))

    def loss(
        self, ids: Tensor, targets: Tensor, state: NetworkState, dropout_generator: torch.Generator | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Read a window of ids [T, B] to learn from it; of a large vocabulary with a part of the head (`sampled.py`).

        Members that shared a loss would share out the work; with a loss each they learn the same thing differently, and
        their mean errs less than any of them.

        Returns:
            (the members' mean cross-entropy in nats per id, the state after the window).
        """
        outputs, after = self.read(ids, state, dropout_generator)
        read = [self._beside(hidden, outputs) for hidden in outputs[: self.config.ensemble_size]]
        heads = [self._beside_head(head) for head in self._heads()]
        each = losses(read, heads, self.weight("head.bias"), targets, dropout_generator)
        return torch.stack(each).mean(), after

    def read(
        self,
        ids: Tensor,
        state: NetworkState,
        dropout_generator: torch.Generator | None = None,
        path: LayerBackend | None = None,
    ) -> tuple[list[Tensor], NetworkState]:
        """Run the layers of every member: → (what its head reads, [T, B, H] each, the state after it).

        Where there are n-grams, what they stand for comes last, [T, B, D]; all heads read it.
        """
        path = path or choose_backend(self.config.cell, ids.device)
        embedding = self.weight("embedding.weight")
        tops, after, depth = [], [], self.config.num_layers
        for first in range(0, self.config.total_layers, depth):
            inputs: Dense | Lookup = Lookup(ids, embedding)
            for layer in range(first, first + depth):
                params = self.layer(layer)
                params["weight_hh"] = weight_dropout(params["weight_hh"], self.config.weight_dropout, dropout_generator)
                outputs, layer_state = path(self.cell, params, inputs, state[layer])
                after.append(layer_state)
                inputs = Dense(locked_dropout(outputs, self.config.dropout, dropout_generator))
            tops.append(inputs.values())
        self.read_ngrams(ids, state, tops, after, dropout_generator)
        return tops, tuple(after)

    def read_ngrams(
        self,
        ids: Tensor,
        state: NetworkState,
        tops: list[Tensor],
        after: list[State],
        dropout_generator: torch.Generator | None = None,
    ) -> None:
        """Where there are n-grams, add what a window's stand for to `tops`, and the last ids to the state after."""
        if not self.config.ngrams:
            return
        hashed_by = (self.get_buffer("_multipliers"), self.get_buffer("_first"))
        rows, history = find_ngram_rows(torch, ids, state[-1][0], hashed_by, self.config.ngram_rows)
        table = self.weight("ngrams.weight")
        rows = rows.flatten(0, 1)  # [T·B, N − 1]
        kept = ngram_dropout(rows, table.dtype, self.config.ngram_dropout, dropout_generator)
        found = F.embedding_bag(rows, table, mode="sum", sparse=table.device.type != "mps", per_sample_weights=kept)
        tops.append(found.view(*ids.shape, -1))
        after.append((history,))

    def _beside(self, hidden: Tensor, outputs: list[Tensor]) -> Tensor:
        """Return what a head reads: the top of its layers, and beside it the n-grams if there are any."""
        return torch.cat([hidden, outputs[-1]], dim=-1) if self.config.ngrams else hidden

    def _beside_head(self, head: Tensor) -> Tensor:
        return torch.cat([head, self.weight("ngrams.head")], dim=1) if self.config.ngrams else head

    def _heads(self) -> list[Tensor]:
        """Return the members' heads, [V, H] each."""
        if self.config.tie_weights:
            return [self.weight("embedding.weight")] * self.config.ensemble_size
        return list(torch.split(self.weight("head.weight"), self.config.hidden_size, dim=1))

    def initial_state(self, batch_size: int) -> NetworkState:
        """Return the state before the first character: for every layer, parts of [B, H]."""
        bias = self.weight("head.bias")
        shape = (batch_size, self.config.hidden_size)
        one = self.cell.initial_state(torch, shape, dtype=bias.dtype, device=bias.device)
        layers = tuple(one for _ in range(self.config.total_layers))
        if not self.config.ngrams:
            return layers
        history = torch.zeros(batch_size, self.config.ngrams - 1, dtype=torch.int64, device=bias.device)
        return (*layers, (history,))

    def weight(self, name: str) -> Tensor:
        """Return the parameter that a model file calls `name` ("layers.0.weight_hh")."""
        return self.get_parameter(name.replace(".", "__"))

    def layer(self, index: int) -> dict[str, Tensor]:
        """Return one layer's parameters by their short names."""
        prefix = f"layers__{index}__"
        return {name.removeprefix(prefix): p for name, p in self.named_parameters() if name.startswith(prefix)}

    def pack(self) -> None:
        """Lay each layer's weights in memory as a GPU's kernel wants them; to be called once they are on it."""
        for index in range(self.config.total_layers):
            for name, parameter in packed(self.config.cell, self.layer(index)).items():
                self.register_parameter(f"layers__{index}__{name}", nn.Parameter(parameter))

    def export_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of every weight, on the CPU, by the name that a model file gives it."""
        return {name.replace("__", "."): p.detach().cpu().numpy().copy() for name, p in self.named_parameters()}

    @torch.no_grad()
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take the weights that `export_weights` returned.

        Raises:
            ModelError: a weight is missing, or has another shape than the config says.
        """
        check_weights(self.config, weights)
        for name in parameter_shapes(self.config):
            self.weight(name).copy_(torch.from_numpy(np.array(weights[name])))


def reset(state: NetworkState, fresh: Tensor) -> NetworkState:
    """Return the state with the lanes marked in `fresh` [B] put back to zero."""
    keep = (~fresh).unsqueeze(1)
    return tuple(tuple(part * keep for part in layer) for layer in state)


def detach(state: NetworkState) -> NetworkState:
    """Return the state cut off from the graph: what truncates back-propagation at a window's beginning."""
    return tuple(tuple(part.detach() for part in layer) for layer in state)


def locked_dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Drop whole units of [T, B, H] for a window: one mask for all of its steps (Gal & Ghahramani 2016, 1512.05287).

    The mask comes from `generator`, whose state a checkpoint keeps, so that a resumed run drops the same units.
    """
    if p == 0.0 or generator is None:
        return x
    keep = torch.rand(x.shape[1:], generator=generator, device=generator.device) >= p
    return x * (keep.to(x.device, x.dtype) / (1.0 - p))


def weight_dropout(weight: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Drop single recurrent weights for a window (DropConnect, as Merity et al. 2017, 1708.02182, use it).

    It keeps a network from learning a short text by heart, which dropping units of its output does not.
    """
    if p == 0.0 or generator is None:
        return weight
    keep = torch.empty_like(weight).bernoulli_(1.0 - p, generator=generator)
    return weight * keep.div_(1.0 - p)


def ngram_dropout(rows: Tensor, dtype: torch.dtype, p: float, generator: torch.Generator | None) -> Tensor | None:
    """Return what each n-gram of [T·B, N − 1] counts for in a window: 0 if it is dropped, else 1 / (1 − p); None for 1.

    In a text that was read before, a long n-gram gives away what followed it; at another place of a new text it is not
    there. Each place drops its own, so that no length is relied on alone, and the layers learn what they would without.
    """
    if p == 0.0 or generator is None:
        return None
    kept = torch.rand(rows.shape, generator=generator, device=generator.device) >= p
    return kept.to(rows.device, dtype).div_(1.0 - p)


def _initial(name: str, shape: tuple[int, ...], config: ModelConfig, generator: torch.Generator | None) -> Tensor:
    """Draw one weight: normal for the embedding, uniform in ±1/√(inputs) for matrices, zero for biases and n-grams."""
    if name.endswith(("bias", "bias_ih", "bias_hh", "ngrams.weight")):
        return torch.zeros(shape)
    if name == "embedding.weight":
        scale = 1.0 / math.sqrt(config.embedding_dim) if config.tie_weights else 1.0
        return torch.randn(shape, generator=generator) * scale
    inputs = config.hidden_size if name == "head.weight" else shape[1]
    return (2.0 * torch.rand(shape, generator=generator) - 1.0) / math.sqrt(inputs)
