"""The simple recurrent network with rectified linear units and identity initialization (Le, Jaitly & Hinton 2015,
arXiv:1504.00941, "IRNN"):

    h' = max(0, W_ih x + b_ih + W_hh h + b_hh)        W_hh = 0.9 I before training

With a multiple of the identity matrix, the network starts as one that keeps its state for a while, and the gradient
neither vanishes at once nor explodes. With the identity itself, a state that is carried through a text would add up all
inputs, because nothing bounds a rectified linear unit: one run of a benchmark then had a loss of 10⁴ nats and did not
recover from it (benchmarks/LOG.md). The paper scales the identity, too, for tasks that need no long memory.
A ceiling that a trained network does not reach keeps the numbers finite for all valid weights.

Shapes: weight_ih [H, I], weight_hh [H, H]; h is both the state and the output. Below the ceiling this is
torch.nn.RNN(nonlinearity="relu").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chargen.cells.cell import Array, Cell, Params, State

MAX_ACTIVATION = 1e6  #: times the largest valid weight, summed over the largest layer: still a finite float32
IDENTITY_SCALE = 0.9  #: the recurrent matrix before training, as a multiple of the identity


class ReluRNN(Cell):
    """A simple recurrent network with rectified linear units; its recurrent matrix starts as 0.9 times the identity."""

    num_gates = num_input_gates = 1
    state_names = ("h",)

    def initial_weight(
        self, xp: Any, name: str, shape: tuple[int, ...], uniform: Callable[[tuple[int, ...]], Array]
    ) -> Array | None:
        """Return a multiple of the identity matrix for weight_hh; see `Cell.initial_weight`."""
        return IDENTITY_SCALE * xp.eye(shape[0]) if name == "weight_hh" else None

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        return (xp.clip(x_gates + h @ params["weight_hh"].T + params["bias_hh"], 0.0, MAX_ACTIVATION),)


CELL = ReluRNN()
