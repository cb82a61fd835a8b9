"""JSON from any source, and JSON for any reader: whatever is wrong with a text is a `ValueError`."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: the text is not JSON, or is nested deeper than this process can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def standard_json(value: Any) -> Any:
    """The same value with null for NaN and infinities: standard JSON has neither, and many parsers refuse them."""
    if isinstance(value, dict):
        return {key: standard_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [standard_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
