"""Reading without learning: a layer's steps in place, nothing kept for a gradient; the fast path of scoring on a CPU.

What the input decides of the gates is a table with a row for each of the V characters, made once. Each step then is a
look-up, a product that adds to what was looked up, and a few passes over [B, H] that stay in the cache. tanh x is
2σ(2x) − 1, the inner factor in the weights: the library's σ is several times as fast as its tanh.

With 128 lanes a step has nine tenths of the speed of the machine's large products, on one thread. Threads that share a
product wait for each other at its end, so each is given lanes of its own instead (`engine/torch_engine.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from chargen.networks.layers import Params, State
from chargen.networks.network import Network, NetworkState

MINUS_ONE = torch.tensor(-1.0)


class FusedStep(ABC):
    """One cell's steps in place; the equations are the cell's own (`cells/`)."""

    @abstractmethod
    def __init__(self, params: Params) -> None: ...

    @abstractmethod
    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        """Return the input's part of the gates, [..., X·H], in the pieces and scales that a step wants."""

    @abstractmethod
    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        """Do one step.

        Args:
            x: the pieces for this step, each [B, ·], to be overwritten.
            state: the state before; all parts but the first may be overwritten.
            spare: room, [B, H].
            out: where the output goes, [B, H].

        Returns:
            The state after; its first part is `out`.
        """


class RNNSteps(FusedStep):
    """The plain recurrent network: one product, one σ."""

    def __init__(self, params: Params) -> None:
        self._weight, self._bias = 2.0 * params["weight_hh"].t().contiguous(), params["bias_hh"]

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        return (2.0 * (gates + self._bias),)

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        torch.add(MINUS_ONE, x[0].addmm_(state[0], self._weight).sigmoid_(), alpha=2.0, out=out)
        return (out,)


class GRUSteps(FusedStep):
    """The GRU: r and z in one piece, n in another, whose product r scales."""

    def __init__(self, params: Params) -> None:
        weight, bias = params["weight_hh"], params["bias_hh"]
        self._H = H = weight.shape[1]
        self._weight_rz, self._bias_rz = weight[: 2 * H].t().contiguous(), bias[: 2 * H]
        self._weight_n, self._bias_n = 2.0 * weight[2 * H :].t().contiguous(), 2.0 * bias[2 * H :]

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        return gates[..., : 2 * self._H] + self._bias_rz, 2.0 * gates[..., 2 * self._H :]

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        (h,), (rz, n) = state, x
        rz.addmm_(h, self._weight_rz).sigmoid_()
        torch.addmm(self._bias_n, h, self._weight_n, out=spare)
        n.addcmul_(rz[:, : self._H], spare).sigmoid_()
        torch.lerp(torch.add(MINUS_ONE, n, alpha=2.0, out=spare), h, rz[:, self._H :], out=out)
        return (out,)


class MGRUSteps(FusedStep):
    """The multiplicative gated unit: z and n in one piece; the other, s, is ready in the table."""

    def __init__(self, params: Params) -> None:
        weight, bias = params["weight_hh"], params["bias_hh"]
        self._H = H = weight.shape[1]
        self._scale = torch.cat([weight.new_ones(H), weight.new_full((H,), 2.0)])  # of z, n
        self._weight, self._bias = (weight.t() * self._scale).contiguous(), bias

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        H = self._H
        return (gates[..., : 2 * H] + self._bias) * self._scale, 2.0 * torch.sigmoid(gates[..., 2 * H :])

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        (h,), (zn, s) = state, x
        zn.addmm_(s.mul_(h), self._weight).sigmoid_()
        torch.add(MINUS_ONE, zn[:, self._H :], alpha=2.0, out=spare)
        torch.lerp(spare, h, zn[:, : self._H], out=out)
        return (out,)


class LSTMSteps(FusedStep):
    """The LSTM: all gates in one piece, one σ over all of them."""

    def __init__(self, params: Params) -> None:
        weight, bias = params["weight_hh"], params["bias_hh"]
        self._H = H = weight.shape[1]
        self._scale = weight.new_ones(4 * H)
        self._scale[2 * H : 3 * H] = 2.0  # of g
        self._weight, self._bias = (weight.t() * self._scale).contiguous(), bias

    def split(self, gates: Tensor) -> tuple[Tensor, ...]:
        return ((gates + self._bias) * self._scale,)

    def step(self, x: list[Tensor], state: State, spare: Tensor, out: Tensor) -> State:
        h, c = state
        i, f, g, o = torch.split(x[0].addmm_(h, self._weight).sigmoid_(), self._H, dim=1)
        c.mul_(f).addcmul_(i, torch.add(MINUS_ONE, g, alpha=2.0, out=spare))
        torch.add(MINUS_ONE, torch.mul(c, 2.0, out=spare).sigmoid_(), alpha=2.0, out=out).mul_(o)
        return out, c


STEPS: dict[str, type[FusedStep]] = {"rnn": RNNSteps, "gru": GRUSteps, "mgru": MGRUSteps, "lstm": LSTMSteps}


class Forward:
    """A network whose weights no longer change, made ready to be read with.

    Args:
        network: with a cell of STEPS, on a CPU, in float32; the weights are copied where another layout is faster.
    """

    def __init__(self, network: Network) -> None:
        self._network, self._depth, self._cell = network, network.config.num_layers, network.cell
        self._params = [network.layer(index) for index in range(network.config.total_layers)]
        self._steps = [STEPS[network.config.cell](params) for params in self._params]
        embedding = network.weight("embedding.weight")
        self._tables = [
            steps.split(self._cell.input_gates(params, embedding))
            for params, steps in list(zip(self._params, self._steps, strict=True))[:: self._depth]
        ]

    def read(self, ids: Tensor, state: NetworkState) -> tuple[list[Tensor], NetworkState]:
        """Run the layers of every member over ids [T, B]: → (what its head reads, [T, B, H] each, the state after)."""
        tops, after = [], []
        for member, table in enumerate(self._tables):
            outputs = torch.empty(0)
            for level in range(self._depth):
                layer = member * self._depth + level
                steps = self._steps[layer]
                # [T, B, ·] the gates of this window, or rows of the table
                pieces = steps.split(self._cell.input_gates(self._params[layer], outputs)) if level else table
                outputs, new = _walk(steps, pieces, None if level else ids, ids.shape, state[layer])
                after.append(new)
            tops.append(outputs)
        self._network.read_ngrams(ids, state, tops, after)
        return tops, tuple(after)


def _walk(
    steps: FusedStep, pieces: tuple[Tensor, ...], ids: Tensor | None, shape: torch.Size, state: State
) -> tuple[Tensor, State]:
    (T, B), H = shape, state[0].shape[1]
    outputs, spare = state[0].new_empty(T, B, H), state[0].new_empty(B, H)
    room = [piece.new_empty(B, piece.shape[-1]) for piece in pieces]
    state = (state[0], *(part.clone() for part in state[1:]))  # the caller's is a value
    for t in range(T):
        for piece, here in zip(pieces, room, strict=True):
            if ids is None:
                here.copy_(piece[t])
            else:
                torch.index_select(piece, 0, ids[t], out=here)
        state = steps.step(room, state, spare, outputs[t])
    return outputs, (state[0].clone(), *state[1:])
