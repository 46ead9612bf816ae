"""The language model as a network: token ids [T, B] → logits [T, B, V].

    token ids ─▶ embedding ─▶ layer 0 ─▶ … ─▶ layer L−1 ─▶ head ─▶ logits
        │            │           ▲ state         ▲ state     ▲     (`cells/stack.py`: how the layers are connected)
        │            └──────▶ layer L ─▶ … ─▶ layer 2L−1 ─▶ head ─▶ …     an ensemble: the logits are the mean over
        └─▶ hashed n-gram features (optional) ───────────────┘              its members
            (`cells/ngram_features.py`)

The state is an argument and a result; the module keeps none. Time is the first axis, the batch the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.cells import Cell
from chargen.cells.cell import NetworkState
from chargen.cells.ngram_features import find_ngram_rows, make_hash_parameters
from chargen.cells.ngram_index import BUCKET_ROWS, NgramIndex, find_indexed_rows
from chargen.cells.stack import connect
from chargen.cells.weights import FIXED_DTYPES, NGRAM_INDEX, NGRAM_WORDS, check_weights, get_cells, parameter_shapes
from chargen.config import ModelConfig
from chargen.networks.draws import Draws
from chargen.networks.initial_weights import draw_weight
from chargen.networks.kernels import MIN_POSITIONS, use_numba
from chargen.networks.layers import (
    Dense,
    LayerBackend,
    Lookup,
    can_run_together,
    choose_backend,
    layer_norm,
    run_together,
)
from chargen.networks.layers import State as LayerState
from chargen.networks.sampled_softmax import sampled_losses

NGRAM_TABLE = "ngrams__weight"  #: a window reads a few rows of this parameter: see `TableReads`


class TableReads(NamedTuple):
    """What a window of P = T·B positions has read of the n-gram table, for an optimizer that changes these rows only.

    A position reads one row for each of its K n-grams. After back-propagation, the gradient of a row at a position is
    its factor times `features.grad` there.
    """

    rows: Tensor  #: rows of the table, [P, K]
    #: 0 for an n-gram that is dropped or has no row, 1 / (1 − p) for the others, [P, K]; None: 1 for all
    factors: Tensor | None
    features: Tensor  #: the sums of the rows, [P, D]


class Network(nn.Module):
    """An embedding, recurrent layers and a softmax head. An ensemble has layers and a head for each of its members.

    Args:
        config: The shape of the network.
        generator: The random generator of the initial weights. It is on the CPU, so that they are the same on every
            device.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.cells = get_cells(config)  # of the layers of an ensemble member
        for name, shape in parameter_shapes(config).items():
            if name in FIXED_DTYPES:
                continue
            weight = draw_weight(self._cell_of(name), name, shape, config, generator)
            self.register_parameter(name.replace(".", "__"), nn.Parameter(weight))
        if config.ngrams:
            multipliers, first = make_hash_parameters(config.ngrams, config.ngram_rows)
            self.register_buffer("_multipliers", torch.from_numpy(multipliers), persistent=False)
            self.register_buffer("_first", torch.from_numpy(first), persistent=False)
        if config.ngram_index:
            tags = torch.zeros(config.ngram_rows // BUCKET_ROWS, BUCKET_ROWS, dtype=torch.int32)
            self.register_buffer("_tags", tags, persistent=False)
            self.register_buffer("_words", torch.zeros(config.vocab_size, dtype=torch.int64), persistent=False)

    def forward(
        self,
        ids: Tensor,
        state: NetworkState,
        draws: Draws | None = None,
        backend: LayerBackend | Sequence[LayerBackend] | None = None,
    ) -> tuple[Tensor, NetworkState]:
        """Read a window of token ids.

        Args:
            ids: The token ids of the window, [T, B].
            state: The state before the window.
            draws: Draws the dropout masks; without it nothing is dropped.
            backend: The back end that runs all layers, or one for each layer of an ensemble member; None chooses the
                fastest ones.

        Returns:
            (logits [T, B, V], the state after the window).
        """
        outputs, after = self.run_layers(ids, state, draws, backend)
        return self.head(outputs), after

    def head(self, outputs: list[Tensor]) -> Tensor:
        """Return the logits [..., V] for the result of `run_layers`: the mean over the ensemble members."""
        num_members, tied = self.config.ensemble_size, self.config.tie_weights
        hidden = outputs[0] if num_members == 1 else torch.cat(outputs[:num_members], dim=-1) / num_members
        head = self.weight("embedding.weight").repeat(1, num_members) if tied else self.weight("head.weight")
        return F.linear(self._with_ngrams(hidden, outputs), self._head_with_ngrams(head), self.weight("head.bias"))

    def loss(
        self,
        ids: Tensor,
        targets: Tensor,
        state: NetworkState,
        draws: Draws | None = None,
        reads: list[TableReads] | None = None,
        product_dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, NetworkState]:
        """Return the training loss of a window. A large vocabulary uses a sampled softmax (`sampled_softmax.py`).

        Each ensemble member has a loss of its own. With a common loss the members would divide the work among them;
        with separate losses they learn the same task differently, and their mean is better than each of them.

        Args:
            ids: The token ids of the window, [T, B].
            targets: The token id that follows each of them, [T, B]; negative targets are ignored.
            state: The state before the window.
            draws: Draws the dropout masks and the rows of the sampled softmax; without it neither is used.
            reads: Gets what is read of the n-gram table, which then has no gradient of its own.
            product_dtype: The type of the products of the layers, and of those of the head in the backward pass:
                float32, or bf16 on a CPU with compiled passes.

        Returns:
            (the mean cross-entropy of the members in nats per token, the state after the window).
        """
        backends = None
        if product_dtype != torch.float32:
            backends = [choose_backend(name, ids.device, product_dtype) for name in self.config.cell_names]
        outputs, after = self.run_layers(ids, state, draws, backends, reads)
        inputs = [self._with_ngrams(hidden, outputs) for hidden in outputs[: self.config.ensemble_size]]
        heads = [self._head_with_ngrams(head) for head in self._heads()]
        member_losses = sampled_losses(inputs, heads, self.weight("head.bias"), targets, draws, product_dtype)
        return torch.stack(member_losses).mean(), after

    def run_layers(
        self,
        ids: Tensor,
        state: NetworkState,
        draws: Draws | None = None,
        backend: LayerBackend | Sequence[LayerBackend] | None = None,
        reads: list[TableReads] | None = None,
    ) -> tuple[list[Tensor], NetworkState]:
        """Run the layers of each ensemble member over a window.

        Returns:
            (the inputs of the heads, the state after the window). The inputs are what each member's head reads of its
            layers, [T, B, H] or with skip connections [T, B, L·H], and then, if there are any, the n-gram features,
            [T, B, D], which all heads read.
        """
        names = self.config.cell_names
        if backend is None and all(can_run_together(name, ids.device) for name in names):
            tops, after = self._run_members_together(ids, state, draws)
        else:
            if backend is None:
                backend = [choose_backend(name, ids.device) for name in names]
            backends = backend if isinstance(backend, Sequence) else [backend] * len(names)
            tops, after = self._run_members(ids, state, draws, backends)
        features, history = self.ngram_features(ids, state.ngram_history, draws, reads)
        return tops + features, NetworkState(after, history)

    def _run_members(
        self,
        ids: Tensor,
        state: NetworkState,
        draws: Draws | None,
        backends: Sequence[LayerBackend],
    ) -> tuple[list[Tensor], tuple[LayerState, ...]]:
        """Run the ensemble members one after another: → (the input of each head, the state of each layer)."""
        embedding = self.weight("embedding.weight")
        tops, after = [], []
        for first in range(0, self.config.total_layers, self.config.num_layers):
            inputs: Dense | Lookup = Lookup(ids, embedding)
            total, reads = None, []
            for level, (cell, backend) in enumerate(zip(self.cells, backends, strict=True)):
                layer = first + level
                params = self._drop_weights(cell, self.layer(layer), draws)
                outputs, layer_state = backend(cell, params, inputs, state.layers[layer])
                after.append(layer_state)
                total, read = connect(layer_norm, params, outputs, total if self.config.residual else None)
                reads.append(locked_dropout(read, self.config.dropout, draws))
                inputs = Dense(reads[-1])
            tops.append(self.head_input(reads))
        return tops, tuple(after)

    def head_input(self, reads: list[Tensor]) -> Tensor:
        """Return what the head of an ensemble member reads, of what is read of each of its layers, [..., H]."""
        return torch.cat(reads, dim=-1) if self.config.skip else reads[-1]

    def _run_members_together(
        self, ids: Tensor, state: NetworkState, draws: Draws | None
    ) -> tuple[list[Tensor], tuple[LayerState, ...]]:
        """Do the same with one batch of products for all members, [M, T, B, …]. Their masks are drawn together."""
        M, L = self.config.ensemble_size, self.config.num_layers
        x = F.embedding(ids, self.weight("embedding.weight")).expand(M, *ids.shape, -1)
        after: dict[int, LayerState] = {}
        total, reads = None, []
        for level, name in enumerate(self.config.cell_names):
            layers = range(level, M * L, L)
            members = [self.layer(layer) for layer in layers]
            params = {key: torch.stack([member[key] for member in members]) for key in members[0]}
            params = self._drop_weights(self.cells[level], params, draws)
            before = tuple(torch.stack(parts) for parts in zip(*(state.layers[layer] for layer in layers), strict=True))
            outputs, *state_after = run_together(name, params, x, before)
            after.update(zip(layers, zip(*state_after, strict=True), strict=True))
            total, read = connect(layer_norm, params, outputs, total if self.config.residual else None)
            x = locked_dropout(read, self.config.dropout, draws)
            reads.append(x)
        return list(self.head_input(reads)), tuple(after[layer] for layer in range(M * L))

    def _drop_weights(self, cell: Cell, params: dict[str, Tensor], draws: Draws | None) -> dict[str, Tensor]:
        """Return the parameters of a layer with `weight_dropout` applied to its recurrent matrices."""
        p = self.config.weight_dropout
        return {**params, **{name: weight_dropout(params[name], p, draws) for name in cell.recurrent_names}}

    def _cell_of(self, name: str) -> Cell | None:
        """Return the cell of the layer that a parameter belongs to; None for one outside the layers."""
        first, _, rest = name.partition(".")
        return self.cells[int(rest.partition(".")[0]) % self.config.num_layers] if first == "layers" else None

    def ngram_features(
        self,
        ids: Tensor,
        history: Tensor | None,
        draws: Draws | None = None,
        reads: list[TableReads] | None = None,
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return ([the n-gram features of a window, [T, B, D]], the history after it); ([], None) without n-grams."""
        if history is None:
            return [], None
        rows, is_found, history = self._find_rows(ids, history)
        table = self.weight("ngrams.weight")
        kept = ngram_dropout(rows, table.dtype, self.config.ngram_dropout, draws)
        if is_found is not None:
            kept = is_found.to(table.dtype) if kept is None else kept * is_found
        factors = None if kept is None else kept.flatten(0, 1)
        rows = rows.flatten(0, 1)  # [T·B, K]
        if reads is not None:
            table = table.detach()
        features = F.embedding_bag(rows, table, mode="sum", per_sample_weights=factors)
        if reads is not None:
            reads.append(TableReads(rows, factors, features.requires_grad_()))
        return [features.view(*ids.shape, -1)], history

    def _find_rows(self, ids: Tensor, history: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return (the rows of the n-grams of a window, which of them have a row or None for all, the history after)."""
        multipliers = self.get_buffer("_multipliers")
        if self.config.ngram_index:
            index = NgramIndex(multipliers, self.get_buffer("_words"), self.get_buffer("_tags"))
            if ids.device.type == "cpu" and ids.numel() >= MIN_POSITIONS and use_numba():
                from chargen.networks.kernels.ngram_rows_numba import find_rows

                return find_rows(ids, history, index)
            return find_indexed_rows(torch, ids, history, index)
        hashing_arrays = (multipliers, self.get_buffer("_first"))
        rows, history = find_ngram_rows(torch, ids, history, hashing_arrays, self.config.ngram_rows)
        return rows, None, history

    def _with_ngrams(self, hidden: Tensor, outputs: list[Tensor]) -> Tensor:
        """Return the input of a head: the output of its top layer, concatenated with the n-gram features if any."""
        return torch.cat([hidden, outputs[-1]], dim=-1) if self.config.ngrams else hidden

    def _head_with_ngrams(self, head: Tensor) -> Tensor:
        return torch.cat([head, self.weight("ngrams.head")], dim=1) if self.config.ngrams else head

    def _heads(self) -> list[Tensor]:
        """Return the head of each ensemble member, [V, H]."""
        if self.config.tie_weights:
            return [self.weight("embedding.weight")] * self.config.ensemble_size
        return list(torch.split(self.weight("head.weight"), self.config.head_size, dim=1))

    def initial_state(self, batch_size: int) -> NetworkState:
        """Return the state before the first token: zeros."""
        bias = self.weight("head.bias")
        shape = (batch_size, self.config.hidden_size)
        member = [cell.initial_state(torch, shape, dtype=bias.dtype, device=bias.device) for cell in self.cells]
        layers = tuple(member * self.config.ensemble_size)
        if not self.config.ngrams:
            return NetworkState(layers)
        history = torch.zeros(batch_size, self.config.num_history, dtype=torch.int64, device=bias.device)
        return NetworkState(layers, history)

    def weight(self, name: str) -> Tensor:
        """Return the parameter that a model file calls `name` ("layers.0.weight_hh")."""
        return self.get_parameter(name.replace(".", "__"))

    def layer(self, index: int) -> dict[str, Tensor]:
        """Return the parameters of a layer by their short names ("weight_hh")."""
        prefix = f"layers__{index}__"
        return {name.removeprefix(prefix): p for name, p in self.named_parameters() if name.startswith(prefix)}

    def export_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of every weight, on the CPU, by its name in a model file."""
        weights = {name.replace("__", "."): p.detach().cpu().numpy().copy() for name, p in self.named_parameters()}
        if self.config.ngram_index:
            weights[NGRAM_INDEX] = self.get_buffer("_tags").cpu().numpy().ravel().astype(FIXED_DTYPES[NGRAM_INDEX])
            weights[NGRAM_WORDS] = self.get_buffer("_words").cpu().numpy().astype(FIXED_DTYPES[NGRAM_WORDS])
        return weights

    @torch.no_grad()
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Copy weights that `export_weights` returned to the parameters.

        Raises:
            ModelError: If a weight is missing, or has another shape than the config requires.
        """
        check_weights(self.config, weights)
        for name in parameter_shapes(self.config):
            if name not in FIXED_DTYPES:
                self.weight(name).copy_(torch.from_numpy(np.array(weights[name])))
        if self.config.ngram_index:
            self.set_ngram_index(weights[NGRAM_INDEX], weights[NGRAM_WORDS])

    def set_ngram_index(self, tags: np.ndarray, words: np.ndarray) -> None:
        """Set the index of the n-gram table: the tag of each row [R], and the kind of each token id [V]."""
        buffer = self.get_buffer("_tags")
        buffer.copy_(torch.from_numpy(tags.astype(np.int32)).view(buffer.shape))
        self.get_buffer("_words").copy_(torch.from_numpy(words.astype(np.int64)))


def reset(state: NetworkState, is_reset: Tensor) -> NetworkState:
    """Return the state with the batch rows marked in `is_reset`, [B] of bool, set to zero."""
    keep = (~is_reset).unsqueeze(1)
    return state.map(lambda part: part * keep)


def detach(state: NetworkState) -> NetworkState:
    """Return the state detached from the autograd graph: it truncates back-propagation at the start of a window."""
    return state.map(torch.Tensor.detach)


def locked_dropout(x: Tensor, p: float, draws: Draws | None) -> Tensor:
    """Drop whole units of [..., T, B, H]: one mask for all steps of a window (Gal & Ghahramani 2016, arXiv:1512.05287).

    A training state has the state of the random generator, so a resumed run drops the same units.
    """
    if p == 0.0 or draws is None:
        return x
    *members, _, B, H = x.shape
    keep = draws.uniform((*members, 1, B, H), row_axis=len(members) + 1) >= p
    return x * (keep.to(x.device, x.dtype) / (1.0 - p))


def weight_dropout(weight: Tensor, p: float, draws: Draws | None) -> Tensor:
    """Drop single recurrent weights for a window (DropConnect, as in Merity et al. 2017, arXiv:1708.02182).

    It prevents a network from memorising a short text, which dropout of its outputs does not.
    """
    if p == 0.0 or draws is None:
        return weight
    keep = torch.empty_like(weight).bernoulli_(1.0 - p, generator=draws.generator)
    return weight * keep.div_(1.0 - p)


def ngram_dropout(rows: Tensor, dtype: torch.dtype, p: float, draws: Draws | None) -> Tensor | None:
    """Return the factor of each n-gram of a window: 0 if it is dropped, else 1 / (1 − p); None if p = 0.

    In a text that was read before, a long n-gram gives away the token that followed it. In a new text it is missing.
    Each position drops its own n-grams, so the network relies on no length alone, and its layers still learn.

    Args:
        rows: The rows of the table that each position reads, [T, B, K].
        dtype: The type of the factors, which have the shape of `rows`.
        p: Dropout rate.
        draws: Draws the n-grams to drop; without it nothing is dropped.
    """
    if p == 0.0 or draws is None:
        return None
    kept = draws.uniform(tuple(rows.shape), row_axis=1) >= p
    return kept.to(rows.device, dtype).div_(1.0 - p)
