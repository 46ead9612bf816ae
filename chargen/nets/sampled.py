"""A softmax over a part of a large vocabulary, while training: the head's product and exponentials for fewer rows.

    Z = Σ_v exp(l_v)  ≈  Σ_{v in the window} exp(l_v)  +  |others| / S · Σ_{S of the others} exp(l_v)

The characters that the window has as targets are counted exactly, and a few others, drawn anew for each window, stand
for all the rest: an unbiased estimate of Z (the importance sampling of Jean et al. 2015, arXiv 1412.2007, with the most
likely characters not left to chance). A model is sampled and scored with its whole vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

OTHERS = 256  #: drawn for each window
WORTH = 0.5  #: of the vocabulary: where more rows than that were needed, all are taken


def rows_to_compare(
    targets: Tensor, vocab_size: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Choose the rows of the head that a window is learned with.

    Args:
        targets: [T, B]; negative ones count for nothing.
        vocab_size: V.
        generator: where the others are drawn from; without one all rows are taken.

    Returns:
        (ids of the rows [R], the targets as places among them [T, B], what to add to their logits [R]); None where a
        part would save little.
    """
    if generator is None or WORTH * vocab_size <= OTHERS or targets.device.type != "cpu":
        return None  # a GPU would have to wait for the number of rows, and has time for all of them
    present = torch.unique(targets.clamp(min=0))
    if len(present) + OTHERS >= WORTH * vocab_size:
        return None
    absent = torch.ones(vocab_size, dtype=torch.bool)
    absent[present] = False
    others = absent.nonzero().squeeze(1)
    others = others[torch.randperm(len(others), generator=generator)[:OTHERS]]
    rows = torch.cat([present, others])
    more = torch.zeros(len(rows))
    more[len(present) :] = math.log((vocab_size - len(present)) / OTHERS)
    places = torch.searchsorted(present, targets.clamp(min=0))
    return rows, torch.where(targets < 0, targets, places), more
