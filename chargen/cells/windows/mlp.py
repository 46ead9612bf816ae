"""A multilayer perceptron on a fixed window of embeddings (Bengio et al. 2003, "A neural probabilistic language
model"):

    h_t = tanh(W_0 x_t + W_1 x_{t−1} + … + W_{n−1} x_{t−n+1} + b)

x is the embedding of a token. The concatenated embeddings of the last n tokens are multiplied with one matrix
[W_0 … W_{n−1}], which gives each position in the window weights of its own. The window is a part of the name: `mlp:16`;
`mlp` alone has 8. Every further layer is again a window on the layer below.

Shapes: weight_ih [n·H, I], the rows of W_0 first; bias [H].
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array
from chargen.cells.windows.window import WindowCell

DEFAULT_WIDTH = 8  #: model files with the name "mlp" rely on it


class MLP(WindowCell):
    """A layer of tanh units on the last n inputs."""

    def activation(self, xp: Any, x: Array) -> Array:
        """Return tanh x."""
        return xp.tanh(x)


CELL = MLP(DEFAULT_WIDTH)
