"""The `.json` member of a tile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from data_tools.source_json import standard
from mmae.json_text import parse_json
from mmae.modalities import S2_LEVELS

_dumps: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def info_member(row: int, tile_id: str, split: str, level: int, tile_info: str, constants: Sequence[str]) -> bytes:
    """The `.json` member: standard JSON, keys sorted, no spaces.

    Args:
        tile_info: JSON text, in which NaN and infinities may occur.
        constants: `"<dataset>":<constant_entry>` of each constant array.
    """
    entry = parse_json(tile_info)
    try:
        listed = _dumps(entry)
    except ValueError:
        listed = _dumps(standard(entry))
    # Datasets and splits are plain words; tile ids may hold anything.
    return (
        f'{{"constants":{{{",".join(sorted(constants))}}},"row":{row},"s2_level":"{S2_LEVELS[level]}",'
        f'"split":"{split}","tile_id":{json.dumps(tile_id)},"tile_info":{listed}}}'
    ).encode()
