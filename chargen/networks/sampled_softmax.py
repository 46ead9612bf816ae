"""A softmax over a part of a large vocabulary, while training: the head's product and exponentials for fewer rows.

    Z = Σ_v exp(l_v)  ≈  Σ_{v in the part} exp(l_v)  +  |others| / S · Σ_{S of the others} exp(l_v)

A window is taken apart into pieces of a few hundred ids. The characters that a piece has as targets are counted
exactly, and a few others, drawn anew for each piece, stand for all the rest: an unbiased estimate of Z (the importance
sampling of Jean et al. 2015, arXiv 1412.2007, with the most likely characters not left to chance). A small piece has
few different characters, so its product is small, and over a window more of the others are seen.

A model is sampled and scored with its whole vocabulary.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PIECE = 384  #: ids of a window that share the rows they are compared with
OTHERS = 256  #: drawn for each piece
WORTH = 0.5  #: of the vocabulary: where more rows than that were needed, all are taken


class Rows(NamedTuple):
    """The rows of the head that a piece is learned with."""

    ids: Tensor  #: [R]
    targets: Tensor  #: [t, B], as places among them; negative ones as they were
    more: Tensor  #: [R], to be added to the logits


def losses(
    outputs: list[Tensor], heads: list[Tensor], bias: Tensor, targets: Tensor, generator: torch.Generator | None
) -> list[Tensor]:
    """Return the members' mean cross-entropies in nats per id.

    Args:
        outputs: what each member's layers gave, [T, B, H].
        heads: each member's, [V, H].
        bias: the heads', [V].
        targets: [T, B]; negative ones count for nothing.
        generator: where the others are drawn from; without one all rows are taken.
    """
    steps = max(1, PIECE // targets.shape[1])
    chosen = rows_to_compare(torch.split(targets, steps), len(bias), generator)
    if not chosen:
        pairs = zip(outputs, heads, strict=True)
        return [F.cross_entropy(F.linear(x, head, bias).flatten(0, 1), targets.flatten()) for x, head in pairs]
    ids, sizes = torch.cat([rows.ids for rows in chosen]), [len(rows.ids) for rows in chosen]
    biases = torch.split(bias[ids] + torch.cat([rows.more for rows in chosen]), sizes)
    count = (targets >= 0).sum()
    found = []
    for x, head in zip(outputs, heads, strict=True):
        pieces = zip(torch.split(x, steps), torch.split(F.embedding(ids, head), sizes), biases, chosen, strict=True)
        parts = [
            F.cross_entropy(F.linear(inputs, rows, more).flatten(0, 1), piece.targets.flatten(), reduction="sum")
            for inputs, rows, more, piece in pieces
        ]
        found.append(torch.stack(parts).sum() / count)
    return found


def rows_to_compare(
    pieces: tuple[Tensor, ...], vocab_size: int, generator: torch.Generator | None
) -> list[Rows] | None:
    """Choose the rows that each piece's targets [t, B] are learned with; None where a part would save little."""
    if generator is None or WORTH * vocab_size <= OTHERS or pieces[0].device.type != "cpu":
        return None  # a GPU would have to wait for the number of rows, and has time for all of them
    order = torch.randperm(vocab_size, generator=generator)
    chosen = []
    for targets in pieces:
        order = order.roll(OTHERS)
        present = torch.unique(targets.clamp(min=0))
        if len(present) + OTHERS >= WORTH * vocab_size:
            return None
        absent = torch.ones(vocab_size, dtype=torch.bool)
        absent[present] = False
        others = order[absent[order]][:OTHERS]
        more = torch.zeros(len(present) + OTHERS)
        more[len(present) :] = math.log((vocab_size - len(present)) / OTHERS)
        places = torch.searchsorted(present, targets.clamp(min=0))
        chosen.append(Rows(torch.cat([present, others]), torch.where(targets < 0, targets, places), more))
    return chosen
