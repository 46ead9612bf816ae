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
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PIECE_TOKENS = 384  # tokens of a window that share the same rows of the head
NUM_SAMPLED = 256  # absent token ids that are sampled for each piece
MAX_SHARE = 0.5  # share of the vocabulary; if a piece needs more rows, the full softmax is used


class SampledRows(NamedTuple):
    """The rows of the head that a piece uses."""

    ids: Tensor  #: [R]
    targets: Tensor  #: [t, B], as indices into `ids`; negative targets are unchanged
    log_weights: Tensor  #: [R], is added to the logits: log(|absent| / S) for sampled token ids, else 0


def sampled_losses(
    outputs: list[Tensor], heads: list[Tensor], bias: Tensor, targets: Tensor, generator: torch.Generator | None
) -> list[Tensor]:
    """Return the mean cross-entropy of each ensemble member, in nats per token.

    Args:
        outputs: The input of each member's head, [T, B, H].
        heads: The head of each member, [V, H].
        bias: The output bias, which all heads share, [V].
        targets: The token ids to predict, [T, B]; negative targets are ignored.
        generator: The random generator that samples the absent token ids; None for the full softmax.
    """
    steps = max(1, PIECE_TOKENS // targets.shape[1])
    sampled = sample_rows(torch.split(targets, steps), len(bias), generator)
    if not sampled:
        pairs = zip(outputs, heads, strict=True)
        return [F.cross_entropy(F.linear(x, head, bias).flatten(0, 1), targets.flatten()) for x, head in pairs]
    ids, sizes = torch.cat([rows.ids for rows in sampled]), [len(rows.ids) for rows in sampled]
    biases = torch.split(bias[ids] + torch.cat([rows.log_weights for rows in sampled]), sizes)
    count = (targets >= 0).sum()
    losses = []
    for x, head in zip(outputs, heads, strict=True):
        pieces = zip(torch.split(x, steps), torch.split(F.embedding(ids, head), sizes), biases, sampled, strict=True)
        parts = [
            F.cross_entropy(F.linear(inputs, rows, piece_bias).flatten(0, 1), piece.targets.flatten(), reduction="sum")
            for inputs, rows, piece_bias, piece in pieces
        ]
        losses.append(torch.stack(parts).sum() / count)
    return losses


def sample_rows(
    pieces: tuple[Tensor, ...], vocab_size: int, generator: torch.Generator | None
) -> list[SampledRows] | None:
    """Return the rows for the targets [t, B] of each piece; None if sampling would save little."""
    if generator is None or MAX_SHARE * vocab_size <= NUM_SAMPLED or pieces[0].device.type != "cpu":
        return None  # a GPU would have to wait for the number of rows, and is fast enough for all of them
    order = torch.randperm(vocab_size, generator=generator)
    sampled = []
    for targets in pieces:
        order = order.roll(NUM_SAMPLED)
        present = torch.unique(targets.clamp(min=0))
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
