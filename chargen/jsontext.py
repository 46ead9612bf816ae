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
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
