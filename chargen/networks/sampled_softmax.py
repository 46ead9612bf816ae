"""Sampled softmax: while training, compute the head for a part of a large vocabulary only.

    Z = Σ_v exp(l_v)  ≈  Σ_{v in present} exp(l_v)  +  |absent| / S · Σ_{S of the absent} exp(l_v)

A window is split into pieces of a few hundred tokens. The token ids that a piece has as targets are counted exactly. A
sample of the others, new for each piece, represents the rest: an unbiased estimate of Z (the importance sampling of
Jean et al. 2015, arXiv:1412.2007, without sampling error for the most likely token ids). A small piece has few
different token ids, so its product is small, and a whole window covers more of the absent token ids.

Generating and scoring always use the whole vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from chargen.networks.draws import Draws

PIECE_TOKENS = 384  # tokens of a window that share the same rows of the head
NUM_SAMPLED = 256  # absent token ids that are sampled for each piece
MAX_SHARE = 0.5  # share of the vocabulary; if a piece needs more rows, the full softmax is used


class SampledRows(NamedTuple):
    """The rows of the head that a piece uses."""

    ids: Tensor  #: [R]
    targets: Tensor  #: [t, B], as indices into `ids`; negative targets are unchanged
    log_weights: Tensor  #: [R], is added to the logits: log(|absent| / S) for sampled token ids, else 0


class LinearFunction(torch.autograd.Function):
    """(x [t,B,H], weight [V,H], bias [V]) → x Wᵀ + b [t,B,V] in float32, with the products of the gradient in bf16.

    Small changes of the logits change the loss, but small errors of a gradient are like those of a smaller batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the logits."""
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        x, weight = ctx.saved_tensors
        flat = d_logits.flatten(0, 1)
        rounded = flat.bfloat16()
        d_x = (rounded @ weight.bfloat16()).to(x.dtype).view_as(x)
        return d_x, (rounded.t() @ x.flatten(0, 1).bfloat16()).to(weight.dtype), flat.sum(0)


def sampled_losses(
    outputs: list[Tensor],
    heads: list[Tensor],
    bias: Tensor,
    targets: Tensor,
    draws: Draws | None,
    product_dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Return the mean cross-entropy of each ensemble member, in nats per token.

    If the caller computes only some rows of a batch, it is their part of the mean over the whole batch.

    Args:
        outputs: The input of each member's head, [T, B, H].
        heads: The head of each member, [V, H].
        bias: The output bias, which all heads share, [V].
        targets: The token ids to predict, [T, B]; negative targets are ignored.
        draws: Samples the absent token ids, for the targets of the whole batch; None for the full softmax.
        product_dtype: The type of the products in the backward pass: float32, or bf16 on a CPU.
    """
    linear = F.linear if product_dtype == torch.float32 else LinearFunction.apply
    of_batch = targets if draws is None or draws.all_targets is None else draws.all_targets
    steps = max(1, PIECE_TOKENS // of_batch.shape[1])
    own, whole = torch.split(targets, steps), torch.split(of_batch, steps)
    sampled = sample_rows(own, whole, len(bias), draws)
    count = (of_batch >= 0).sum()
    if not sampled:
        logits = [linear(x, head, bias).flatten(0, 1) for x, head in zip(outputs, heads, strict=True)]
        if of_batch is targets:
            return [F.cross_entropy(each, targets.flatten()) for each in logits]
        return [F.cross_entropy(each, targets.flatten(), reduction="sum") / count for each in logits]
    ids, sizes = torch.cat([rows.ids for rows in sampled]), [len(rows.ids) for rows in sampled]
    biases = torch.split(bias[ids] + torch.cat([rows.log_weights for rows in sampled]), sizes)
    losses = []
    for x, head in zip(outputs, heads, strict=True):
        pieces = zip(torch.split(x, steps), torch.split(F.embedding(ids, head), sizes), biases, sampled, strict=True)
        parts = [
            F.cross_entropy(linear(inputs, rows, piece_bias).flatten(0, 1), piece.targets.flatten(), reduction="sum")
            for inputs, rows, piece_bias, piece in pieces
        ]
        losses.append(torch.stack(parts).sum() / count)
    return losses


def sample_rows(
    pieces: tuple[Tensor, ...], whole_pieces: tuple[Tensor, ...], vocab_size: int, draws: Draws | None
) -> list[SampledRows] | None:
    """Return the rows for the targets of each piece; None if sampling would save little.

    Args:
        pieces: The targets of each piece, [t, B].
        whole_pieces: The same for all rows of the batch, of which the caller may compute only some.
        vocab_size: Number of token ids.
        draws: Draws the absent token ids.
    """
    if draws is None or MAX_SHARE * vocab_size <= NUM_SAMPLED or pieces[0].device.type != "cpu":
        return None  # a GPU would have to wait for the number of rows, and is fast enough for all of them
    order = torch.randperm(vocab_size, generator=draws.generator)
    sampled = []
    for targets, whole in zip(pieces, whole_pieces, strict=True):
        order = order.roll(NUM_SAMPLED)
        present = torch.unique(whole.clamp(min=0))
        if len(present) + NUM_SAMPLED >= MAX_SHARE * vocab_size:
            return None
        absent = torch.ones(vocab_size, dtype=torch.bool)
        absent[present] = False
        others = order[absent[order]][:NUM_SAMPLED]
        log_weights = torch.zeros(len(present) + NUM_SAMPLED)
        log_weights[len(present) :] = math.log((vocab_size - len(present)) / NUM_SAMPLED)
        indices = torch.searchsorted(present, targets.clamp(min=0))
        sampled.append(
            SampledRows(torch.cat([present, others]), torch.where(targets < 0, targets, indices), log_weights)
        )
    return sampled
