"""JSON from any source, and JSON for any reader: whatever is wrong with a text is a `ValueError`."""

from __future__ import annotations

import json
import math
from typing import Any, Final

_TOO_DEEP: Final = "it is nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: the text is not JSON, or is nested deeper than this process can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def standard_json(value: Any) -> Any:
    """The same value with null for NaN and infinities: standard JSON has neither, and many parsers refuse them.

    Raises:
        ValueError: it is nested deeper than this process can follow, which is about half of what can be parsed.
    """
    try:
        return _standard(value)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _standard(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
