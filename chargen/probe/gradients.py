"""How far back a network learns: the norm of ∂loss_t/∂h_{t−k} against the lag k.

    x_{t−k} ─▶ h_{t−k} ─▶ … ─▶ h_{t−1} ─▶ h_t ─▶ logits ─▶ loss_t            the loss of a single prediction
                  ◀──────────── gradient ────────────────────

h is the state that the network carries from one token to the next: h of a simple recurrent network, h and c of an
LSTM, the states of all layers if there are several. At k = 0 it is what the output layer reads. If the gradient is
10⁻⁶ of what it is at k = 0, a mistake at t teaches the network nothing about what it read at t − k: the gradient has
vanished. If it grows with k, it explodes, and one step of training can ruin the weights, unless large gradients are
clipped.

All positions are computed at once, each in a batch row of its own. The rows share one backward pass:

    row 0     x x x x x x x x ▷ loss                     the gradients of a row are those of its own loss,
    row 1             x x x x x x x x ▷ loss             because no row reads another one
              └─ W ─┘ └── K + 1 ────┘
              no gradient here: it only gives h a value

The computation is in float64, so that a gradient of 10⁻³⁰⁰ can still be told from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from chargen.cells import CELLS, Cell
from chargen.cells.cell import NetworkState
from chargen.config import ModelConfig
from chargen.errors import ConfigError, CorpusError
from chargen.networks.layers import run_equations
from chargen.networks.network import Network
from chargen.networks.torch_runtime import single_thread

MAX_CONTEXT = 128  #: tokens that are read before the steps whose gradients are measured
HORIZON_SHARE = 0.01  #: a gradient below this share of the largest one counts as vanished
EXPLODING = 10.0  #: a gradient that has grown to this multiple of that at k = 0 counts as exploding
MAX_LAG = 10_000


@dataclass(frozen=True)
class GradientNorms:
    """The median norm of ∂loss_t/∂h_{t−k} over the positions t, for each lag k from 0 on."""

    norms: list[
        float
    ]  #: norm of the gradient with respect to the whole state, for each k; in nats per unit of the state
    loss_nats: float  #: mean loss at the positions, in nats per token
    num_positions: int
    parts: dict[str, list[float]] = field(default_factory=dict)  #: the same for each part of the state: h, c

    @property
    def horizon(self) -> int | None:
        """The smallest lag from which on the gradient is below 1 % of the largest one; None if it is not that small.

        The largest one is taken up to this lag: what an exploding gradient reaches later does not count.
        """
        return gradient_horizon(self.norms)

    @property
    def growth(self) -> float:
        """The geometric mean of the factors from one lag to the next: below 1 the gradient vanishes, above 1 it grows.

        It is computed from k = 1 on: the output layer reads a part of the state, and the next step reads all of it.
        """
        return gradient_growth(self.norms)

    @property
    def explodes(self) -> bool:
        """Whether the gradient grows with the lag to more than `EXPLODING` times its value at k = 0."""
        return self.norms[-1] > EXPLODING * self.norms[0]


def gradient_horizon(norms: Sequence[float], share: float = HORIZON_SHARE) -> int | None:
    """Return the smallest lag whose gradient is below a share of the largest one before it; None if there is none.

    >>> gradient_horizon([1.0, 0.5, 0.1, 0.001])
    3
    """
    largest = 0.0
    for lag, norm in enumerate(norms):
        largest = max(largest, norm)
        if norm < share * largest:
            return lag
    return None


def gradient_growth(norms: Sequence[float]) -> float:
    """Return the geometric mean of the factors between neighbouring lags, from k = 1 on; 0 if the gradient is zero.

    >>> round(gradient_growth([1.0, 8.0, 4.0, 2.0]), 3)
    0.5
    """
    if len(norms) < 3 or not norms[1] or not norms[-1]:
        return 0.0
    return float((norms[-1] / norms[1]) ** (1 / (len(norms) - 2)))


def check_text_length(num_ids: int, max_lag: int) -> None:
    """Check that a text is long enough for a lag.

    Raises:
        CorpusError: If it is not.
    """
    if num_ids < max_lag + 2:
        raise CorpusError(
            f"a lag of {max_lag:,} needs a text of at least {max_lag + 2:,} tokens, but this one has {num_ids:,}",
            "Give a longer text, or a smaller --lag.",
        )


def check_has_state(name: str) -> None:
    """Check that a cell, or any cell of a stack "lstm,gru", carries a hidden state from step to step.

    Raises:
        ConfigError: If there is no cell of this name, or it forgets everything after a fixed number of steps.
    """
    if not any(carries_state(CELLS.get(layer)) for layer in name.split(",")):
        raise ConfigError(
            f"the cell {name} has no hidden state: its output depends on the last few tokens alone, and the gradient "
            "to all earlier ones is zero",
            f"Leave it out. `chargen probe memory --cells {name}` shows what it can remember.",
        )


def carries_state(cell: Cell) -> bool:
    """Return whether a cell's state depends on its first state for ever, and not only for a fixed number of steps.

    Two runs start from different states and read the same inputs. The state of a cell that reads a fixed window is a
    buffer: after as many steps as the state has parts, nothing of the first state is left, and both are equal.
    """
    rng = np.random.default_rng(0)
    params = {name: 0.5 * rng.random(shape) for name, shape in cell.parameter_shapes(4, 4).items()}
    shape = (1, 4)
    states = [tuple(value + part for part in cell.initial_state(np, shape)) for value in (0.0, 1.0)]
    for _ in cell.state_names:
        gates = cell.input_gates(params, rng.random(shape))
        states = [cell.step(np, params, gates, state) for state in states]
    return any(not np.array_equal(a, b) for a, b in zip(*states, strict=True))


def measure_gradients(network: Network, ids: NDArray[Any], max_lag: int, num_positions: int) -> GradientNorms:
    """Measure the gradients of single losses by the states before them.

    Args:
        network: The network; it is not changed.
        ids: Token ids of a text.
        max_lag: The largest lag K.
        num_positions: The number of positions t, which are spread evenly over the text; fewer if it is short.

    Raises:
        CorpusError: If the text is too short for the lag.
        ConfigError: If the cell has no hidden state.
    """
    check_has_state(network.config.cell)
    check_text_length(len(ids), max_lag)
    copy = Network(network.config)
    copy.import_weights(network.export_weights())
    copy.double()
    windows = cut_windows(ids, max_lag, num_positions)
    return _measure(copy, torch.from_numpy(windows), max_lag)


def cut_windows(ids: NDArray[Any], max_lag: int, num_positions: int) -> NDArray[np.int64]:
    """Return pieces of a text, [W + K + 2, N]: the context, the inputs of the measured steps, and the last target."""
    context = min(MAX_CONTEXT, (len(ids) - max_lag - 2) // 2)  # a short text still has several positions
    length = context + max_lag + 2
    starts = np.unique(np.linspace(0, len(ids) - length, num_positions).round().astype(np.int64))
    return np.asarray(ids)[starts + np.arange(length)[:, None]].astype(np.int64)


@single_thread()
def _measure(network: Network, windows: Tensor, max_lag: int) -> GradientNorms:
    *inputs, targets = windows.unbind(0)
    num_rows = len(targets)
    state = network.initial_state(num_rows)
    states: list[NetworkState] = []
    outputs: list[Tensor] = []
    for step, ids in enumerate(inputs):
        with torch.set_grad_enabled(step >= len(inputs) - max_lag - 1):
            outputs, state = network.run_layers(ids[None], state, backend=run_equations)
            state = state.map(Tensor.clone)  # what the next step reads; the layer above reads the original
        states.append(state)
    losses = F.cross_entropy(network.head(outputs)[0], targets, reduction="none")
    # At k = 0 the loss depends on what the heads read, at k > 0 on the state that was carried from step t − k.
    tops = outputs[: network.config.ensemble_size]
    lagged = [state.layers for state in reversed(states[-max_lag - 1 : -1])]
    names = _part_names(network.config)
    tensors = [part for layers in lagged for parts in layers for part in parts]
    gradients = torch.autograd.grad(losses.sum(), tops + tensors, allow_unused=True)
    squares = [_squared_norms(gradient, num_rows) for gradient in gradients]
    by_lag = torch.zeros(max_lag + 1, len(names), num_rows, dtype=torch.float64)
    by_lag[0, 0] = torch.stack(squares[: len(tops)]).sum(dim=0)
    by_lag[1:] = torch.stack(squares[len(tops) :]).view(max_lag, len(names), num_rows)
    return GradientNorms(
        norms=_median_norms(by_lag),
        loss_nats=float(losses.detach().mean()),
        num_positions=num_rows,
        parts={name: _median_norms(by_lag[:, [each == name for each in names]]) for name in dict.fromkeys(names)},
    )


def _squared_norms(gradient: Tensor | None, num_rows: int) -> Tensor:
    """Return the squared norm of a gradient [..., N, H] for each row, [N]; zero if the loss does not depend on it."""
    if gradient is None:
        return torch.zeros(num_rows, dtype=torch.float64)
    return gradient.square().sum(dim=-1).view(num_rows)


def _median_norms(squares: Tensor) -> list[float]:
    """Return the median over the rows of the norm of all parts together, for squared norms [K + 1, parts, N]."""
    norms: list[float] = squares.sum(dim=1).sqrt().quantile(0.5, dim=1).tolist()
    return norms


def _part_names(config: ModelConfig) -> list[str]:
    """Return the names of all parts of the state, in its order: h, c for an LSTM; h, c, h, c for two layers of it."""
    names = config.cell_names * config.ensemble_size
    return [part for name in names for part in CELLS.get(name).state_names]
