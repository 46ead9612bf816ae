"""How the layers of a network are connected to each other and to the head.

    h_l                 the output of layer l, l = 0 … L − 1
    s_l = h_l           or, with residual connections and l > 0,   s_l = h_l + s_{l−1}
    r_l = s_l           or, with layer normalization,              r_l = γ_l ∘ (s_l − μ) / √(σ² + ε) + β_l

    layer l + 1 reads r_l;      the head reads r_{L−1}, or, with skip connections, [r_0, …, r_{L−1}]

μ and σ² are the mean and the variance of the H units of s_l (Ba et al. 2016, arXiv:1607.06450).

The first layer has no residual connection, because its input is an embedding, which has another size in general.
Normalization is applied where a vector is read ("pre-norm"), and never to the sum s_l itself. So the gradient of a sum
reaches every layer below it unchanged, and a deep stack needs neither a long warm-up nor a small learning rate (Xiong
et al. 2020, arXiv:2002.04745). Skip connections are those of Graves (2013, arXiv:1308.0850): the head has weights of
its own for each layer. A sum instead would add nothing to residual connections, whose last s_l already is that sum.

Shapes: γ_l is `layers.{l}.norm_weight` [H], β_l is `layers.{l}.norm_bias` [H]; the head is [V, L·H] for each ensemble
member if there are skip connections. The functions use only the operations that NumPy, PyTorch and the graph compiler
share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chargen.cells.cell import Array, Params

EPSILON = 1e-5  #: ε, as in torch.nn.LayerNorm
NORM_WEIGHT, NORM_BIAS = "norm_weight", "norm_bias"  #: the names of γ and β among the parameters of a layer

Normalize = Callable[[Params, Array], Array]  #: (parameters of a layer, s_l [..., H]) → r_l [..., H]


def normalize(xp: Any, params: Params, x: Array) -> Array:
    """Return γ ∘ (x − μ) / √(σ² + ε) + β over the last axis.

    Args:
        xp: The module that the arrays belong to (numpy, torch, …).
        params: The parameters of the layer.
        x: The vectors to normalize, [..., H].
    """
    centered = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centered * centered, axis=-1, keepdims=True)
    return centered / xp.sqrt(variance + EPSILON) * params[NORM_WEIGHT] + params[NORM_BIAS]


def connect(normalize: Normalize, params: Params, output: Array, below: Array | None) -> tuple[Array, Array]:
    """Return what the next layer adds its output to, and what it reads.

    Args:
        normalize: The function that normalizes a vector; it is called if the layer has parameters for it.
        params: The parameters of the layer.
        output: The output of the layer h_l, [..., H].
        below: s_{l−1}, of the same shape, if there is a residual connection; else None.

    Returns:
        (s_l, r_l), both [..., H].
    """
    total = output if below is None else output + below
    return total, normalize(params, total) if NORM_WEIGHT in params else total
