"""JSON that is read from files that others wrote, and values that every JSON parser can read."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is not JSON, or nested deeper than this process can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def standard(value: Any) -> Any:
    """The same value with null for NaN and infinities, which standard JSON does not have; tuples become lists."""
    if isinstance(value, dict):
        return {key: standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [standard(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
