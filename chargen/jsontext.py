"""JSON as chargen writes it: one line, any script as it is, null for what is not a finite number."""

from __future__ import annotations

import json
import math
from typing import Any


def to_line(value: Any) -> str:
    """Return a value as one line of strict JSON.

    >>> to_line({"loss_nats": float("nan"), "text": "là"})
    '{"loss_nats": null, "text": "là"}'
    """
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """Return a value with null in place of every float that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
