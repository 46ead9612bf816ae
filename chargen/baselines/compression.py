"""What a general compressor makes of a text: LZMA, as in .xz files."""

from __future__ import annotations

import lzma
import math


def lzma_nats(train: str, test: str) -> float:
    """Return what `test` costs after `train`, in nats per character: the growth of the compressed size."""
    if not test:
        return 0.0
    before = len(lzma.compress(train.encode("utf-8", "surrogatepass"), preset=6))
    after = len(lzma.compress((train + test).encode("utf-8", "surrogatepass"), preset=6))
    return (after - before) * 8 * math.log(2) / len(test)
