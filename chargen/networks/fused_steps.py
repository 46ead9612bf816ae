"""Layers without gradients: steps that write in place and store nothing; the fast path of scoring on a CPU.

The input gates of the first layer are a table with one row for each of the V token ids, computed once. Each step is
then a lookup, a product that is added to it, and a few passes over [B, H] that stay in the cache. tanh x is computed as
2σ(2x) − 1, with the inner factor 2 in the weights, because the library's σ is several times as fast as its tanh.

With a batch size of 128, a step on one thread reaches nine tenths of the speed of the machine's large products. Threads
that share a product wait for each other at its end, so each thread gets batches of its own instead (`TorchEngine.map`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from chargen.cells.cell import NetworkState
from chargen.cells.stack import connect
from chargen.networks.layers import Params, State, layer_norm
from chargen.networks.network import Network

MINUS_ONE = torch.tensor(-1.0)


class FusedStep(ABC):
    """One step of a cell, computed in place with the equations of the cell (`cells/`)."""

    @abstractmethod
    def __init__(self, params: Params) -> None: ...

    @abstractmethod
    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the input gates, [..., X·H], in the pieces and with the factors that `step` needs."""

    @abstractmethod
    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        """Compute one step.

        Args:
            x: The pieces of `split` for this step, each [B, ·]; they are overwritten.
            state: The state before the step; all its parts except the first may be overwritten.
            spare: A buffer for intermediate results, [B, H].
            out: The array to which the output is written, [B, H].

        Returns:
            The state after the step; its first part is `out`.
        """


class FusedRNN(FusedStep):
    """The tanh RNN: a step is one product and one σ."""

    def __init__(self, params: Params) -> None:
        self._weight, self._bias = 2.0 * params["weight_hh"].t().contiguous(), params["bias_hh"]

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the input gates in the pieces, and with the factors, that `step` reads."""
        return (2.0 * (gates + self._bias),)

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        """Compute one step."""
        torch.add(MINUS_ONE, x[0].addmm_(state[0], self._weight).sigmoid_(), alpha=2.0, out=out)
        return (out,)


class FusedGRU(FusedStep):
    """The GRU: r and z are in one piece. n is in another one, because r scales its product."""

    def __init__(self, params: Params) -> None:
        weight, bias = params["weight_hh"], params["bias_hh"]
        self._H = H = weight.shape[1]
        self._weight_rz, self._bias_rz = weight[: 2 * H].t().contiguous(), bias[: 2 * H]
        self._weight_n, self._bias_n = 2.0 * weight[2 * H :].t().contiguous(), 2.0 * bias[2 * H :]

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the input gates in the pieces, and with the factors, that `step` reads."""
        return gates[..., : 2 * self._H] + self._bias_rz, 2.0 * gates[..., 2 * self._H :]

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        """Compute one step."""
        (h,), (rz, n) = state, x
        rz.addmm_(h, self._weight_rz).sigmoid_()
        torch.addmm(self._bias_n, h, self._weight_n, out=spare)
        n.addcmul_(rz[:, : self._H], spare).sigmoid_()
        torch.lerp(torch.add(MINUS_ONE, n, alpha=2.0, out=spare), h, rz[:, self._H :], out=out)
        return (out,)


class FusedMGRU(FusedStep):
    """The multiplicative gated unit: z and n are in one piece. s is in another one; the table already contains it."""

    def __init__(self, params: Params) -> None:
        weight, bias = params["weight_hh"], params["bias_hh"]
        self._H = H = weight.shape[1]
        self._scale = torch.cat([weight.new_ones(H), weight.new_full((H,), 2.0)])  # the factors of z and n
        self._weight, self._bias = (weight.t() * self._scale).contiguous(), bias

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the input gates in the pieces, and with the factors, that `step` reads."""
        H = self._H
        return (gates[..., : 2 * H] + self._bias) * self._scale, 2.0 * torch.sigmoid(gates[..., 2 * H :])

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        """Compute one step."""
        (h,), (zn, s) = state, x
        zn.addmm_(s.mul_(h), self._weight).sigmoid_()
        torch.add(MINUS_ONE, zn[:, self._H :], alpha=2.0, out=spare)
        torch.lerp(spare, h, zn[:, : self._H], out=out)
        return (out,)


class FusedLSTM(FusedStep):
    """The LSTM: all gates are in one piece, and one σ is applied to all of them."""

    def __init__(self, params: Params) -> None:
        weight, bias = params["weight_hh"], params["bias_hh"]
        self._H = H = weight.shape[1]
        self._scale = weight.new_ones(4 * H)
        self._scale[2 * H : 3 * H] = 2.0  # the factor of g
        self._weight, self._bias = (weight.t() * self._scale).contiguous(), bias

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the input gates in the pieces, and with the factors, that `step` reads."""
        return ((gates + self._bias) * self._scale,)

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        """Compute one step."""
        h, c = state
        i, f, g, o = torch.split(x[0].addmm_(h, self._weight).sigmoid_(), self._H, dim=1)
        c.mul_(f).addcmul_(i, torch.add(MINUS_ONE, g, alpha=2.0, out=spare))
        torch.add(MINUS_ONE, torch.mul(c, 2.0, out=spare).sigmoid_(), alpha=2.0, out=out).mul_(o)
        return out, c


FUSED_STEPS: dict[str, type[FusedStep]] = {"rnn": FusedRNN, "gru": FusedGRU, "mgru": FusedMGRU, "lstm": FusedLSTM}


class FusedNetwork:
    """A network with frozen weights that runs its layers in fused steps.

    Args:
        network: A network in float32 on a CPU, with cells of FUSED_STEPS. Weights are copied where another layout is
            faster.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._num_layers = network.config.num_layers  # layers of each ensemble member
        self._params = [network.layer(index) for index in range(network.config.total_layers)]
        names = network.config.cell_names * network.config.ensemble_size
        self._steps = [FUSED_STEPS[name](params) for name, params in zip(names, self._params, strict=True)]
        embedding = network.weight("embedding.weight")
        self._tables = [
            steps.split(network.cells[0].input_gates(params, embedding))
            for params, steps in list(zip(self._params, self._steps, strict=True))[:: self._num_layers]
        ]

    def run_layers(self, ids: Tensor, state: NetworkState) -> tuple[list[Tensor], NetworkState]:
        """Run the layers over token ids, [T, B], as `Network.run_layers` does."""
        tops, after = [], []
        for number, table in enumerate(self._tables):
            total: Tensor | None = None
            reads: list[Tensor] = []
            for level, cell in enumerate(self._network.cells):
                layer = number * self._num_layers + level
                steps, params = self._steps[layer], self._params[layer]
                # the gates of this window, [T, B, ·], or of all token ids, [V, ·]
                pieces = steps.split(cell.input_gates(params, reads[-1])) if level else table
                outputs, layer_state = _run_layer(steps, pieces, None if level else ids, ids.shape, state.layers[layer])
                after.append(layer_state)
                total, read = connect(layer_norm, params, outputs, total if self._network.config.residual else None)
                reads.append(read)
            tops.append(self._network.head_input(reads))
        features, history = self._network.ngram_features(ids, state.ngram_history)
        return tops + features, NetworkState(tuple(after), history)


def _run_layer(
    steps: FusedStep, pieces: tuple[Tensor, ...], ids: Tensor | None, shape: torch.Size, state: State
) -> tuple[Tensor, State]:
    T, B = shape
    H = state[0].shape[1]
    outputs, spare = state[0].new_empty(T, B, H), state[0].new_empty(B, H)
    buffers = [piece.new_empty(B, piece.shape[-1]) for piece in pieces]
    state = (state[0], *(part.clone() for part in state[1:]))  # a state is a value: do not overwrite the caller's
    for t in range(T):
        for piece, buffer in zip(pieces, buffers, strict=True):
            if ids is None:
                buffer.copy_(piece[t])
            else:
                torch.index_select(piece, 0, ids[t], out=buffer)
        state = steps.step(buffers, state, spare, outputs[t])
    return outputs, (state[0].clone(), *state[1:])
