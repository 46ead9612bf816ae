"""Batches as tensors where the network is.

A GPU keeps the whole text, and cuts its windows out itself: a step copies a few hundred bytes from the host and waits
for nothing. Where the text is too large for that or made of documents, and on a CPU, windows are cut from the
(memory-mapped) ids.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from chargen.data.streams import LaneStream, Position, Stream

RESIDENT_IDS = 1 << 30  #: 4 GB as int32


class Feed:
    """The batches of a stream, on a device.

    Args:
        stream: where they come from.
        device: where they go.
        resident: keep the text there; by default, where that is not the CPU and there is room.
    """

    def __init__(self, stream: Stream, device: torch.device, resident: bool | None = None) -> None:
        self._stream, self._device = stream, device
        keep = device.type != "cpu" and stream.num_ids <= RESIDENT_IDS if resident is None else resident
        self._lanes = stream if keep and isinstance(stream, LaneStream) else None
        self._ids = torch.from_numpy(self._lanes.text()).to(device) if self._lanes else None
        self._steps = torch.arange(stream.seq_len + 1, device=device).unsqueeze(1)

    def batch(self, position: Position) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (inputs [T, B], targets [T, B], fresh [B], or None where no lane starts anew)."""
        if self._lanes is None or self._ids is None:
            batch = self._stream.batch(position)
            fresh = torch.from_numpy(batch.fresh).to(self._device) if batch.fresh.any() else None
            return self._to(batch.inputs), self._to(batch.targets), fresh
        begins, length = self._lanes.window(position)
        window = self._ids[self._to(begins) + self._steps[: length + 1]].long()  # [T + 1, B]
        starts_anew = self._lanes.fresh(position)
        return window[:-1], window[1:], self._to(starts_anew) if starts_anew.any() else None

    def _to(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)
