"""A causal convolution: a small kernel with the same weights at every position, and depth for context (as in the
temporal convolutional network of Bai et al. 2018, arXiv:1803.01271, without dilation):

    h_t = max(0, W_0 x_t + W_1 x_{t−1} + … + W_{n−1} x_{t−n+1} + b)

Each layer sees n − 1 steps further back than the layer below: `--layers 4` with a kernel of 3 sees 9 tokens. The width
of the kernel is a part of the name: `conv:5`; `conv` alone has 3. There is no memory beyond that.

Shapes: weight_ih [n·H, I], the rows of W_0 first; bias [H].
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, relu
from chargen.cells.windows.window import WindowCell

DEFAULT_WIDTH = 3  #: model files with the name "conv" rely on it


class Convolution(WindowCell):
    """A layer of rectified linear units on the last n inputs."""

    def activation(self, xp: Any, x: Array) -> Array:
        """Return max(x, 0)."""
        return relu(xp, x)


CELL = Convolution(DEFAULT_WIDTH)
