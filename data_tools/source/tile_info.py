"""MMEarth's tile_info file: half a gigabyte of JSON for a million tiles. It is scanned once and stays text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from data_tools.source.json_files import read_text
from data_tools.source.metadata import UNKNOWN_LEVEL
from mmae.data.shards.columns import UNKNOWN_BIOME, UNKNOWN_DATE
from mmae.disk.json_text import parse_json
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEVELS: Final[Mapping[str, int]] = MappingProxyType({name: code for code, name in enumerate(S2_LEVELS)})
_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_COMMA: Final = re.compile(r"[ \t\n\r]*(,|})[ \t\n\r]*")


class Facts(NamedTuple):
    """One entry a tile: degrees (NaN unknown), yyyymmdd (0 unknown), biome (255 unknown)."""

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    date: NDArray[np.int32]
    biome: NDArray[np.uint8]


class TileInfo(Mapping[str, dict[str, Any]]):
    """Tile id -> its entry, which is parsed at each access: a million parsed entries would take gigabytes."""

    def __init__(self, text: str) -> None:
        """Scan an object of objects.

        Raises:
            ValueError: the text is not a JSON object. Entries that are not objects are left out.
        """
        self._text = text
        self._number: dict[str, int] = {}
        starts: list[int] = []
        ends: list[int] = []
        facts: list[tuple[float, float, int, int]] = []
        levels: list[int] = []
        for key, entry, start, end in _entries(text):
            self._number.pop(key, None)
            if not isinstance(entry, dict):
                continue
            self._number[key] = len(starts)
            starts.append(start)
            ends.append(end)
            facts.append(_facts(entry))
            levels.append(_level(entry.get("S2_type")))
        self._start, self._end = np.array(starts, np.int64), np.array(ends, np.int64)
        # The last entry stands for tiles without one.
        lat, lon, date, biome = zip(*facts, _facts({}), strict=True)
        self._facts = Facts(
            np.array(lat, np.float64), np.array(lon, np.float64), np.array(date, np.int32), np.array(biome, np.uint8)
        )
        self._levels = np.array([*levels, UNKNOWN_LEVEL], np.uint8)

    def __getitem__(self, tile_id: str) -> dict[str, Any]:
        entry: dict[str, Any] = parse_json(self.text(tile_id))
        return entry

    def __contains__(self, tile_id: object) -> bool:
        return tile_id in self._number

    def __iter__(self) -> Iterator[str]:
        return iter(self._number)

    def __len__(self) -> int:
        return len(self._number)

    def text(self, tile_id: str) -> str:
        """The entry as it stands in the file."""
        number = self._number[tile_id]
        return self._text[self._start[number] : self._end[number]]

    def facts(self, tile_ids: Sequence[str]) -> Facts:
        """Place, date and biome from the entries of these tiles; unknown for a tile without an entry."""
        numbers, listed = self._numbers(tile_ids), self._facts
        return Facts(listed.lat[numbers], listed.lon[numbers], listed.date[numbers], listed.biome[numbers])

    def levels(self, tile_ids: Sequence[str]) -> NDArray[np.uint8]:
        """The Sentinel-2 levels of these tiles, index into `S2_LEVELS`; `UNKNOWN_LEVEL` if the entry has none."""
        return self._levels[self._numbers(tile_ids)]

    def _numbers(self, tile_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([self._number.get(tile_id, -1) for tile_id in tile_ids], np.int64)


def read_tile_info(path: Path) -> TileInfo:
    """Scan the file.

    Raises:
        InputError: no such file, not JSON, or not an object.
    """
    try:
        return TileInfo(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or not a JSON object ({error}): download it again") from None


def _entries(text: str) -> Iterator[tuple[str, Any, int, int]]:
    """Key, value, and where the value stands."""
    decode = json.JSONDecoder().raw_decode
    at = _after(_SPACE, text, 0, "")
    if text[at : at + 1] != "{":
        decode(text, at)
        raise ValueError("an object was expected")
    at = _after(_SPACE, text, at + 1, "")
    going = text[at : at + 1] != "}"
    if not going:
        at += 1
    while going:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("a key was expected", text, at)
        key, at = decode(text, at)
        start = _after(_COLON, text, at, "':' was expected")
        value, end = decode(text, start)
        yield key, value, start, end
        separator = _COMMA.match(text, end)
        if separator is None:
            raise json.JSONDecodeError("',' was expected", text, end)
        at, going = separator.end(), separator.group(1) == ","
    if _after(_SPACE, text, at, "") != len(text):
        raise json.JSONDecodeError("nothing more was expected", text, at)


def _after(pattern: re.Pattern[str], text: str, at: int, expected: str) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise json.JSONDecodeError(expected, text, at)
    return match.end()


def _facts(entry: Mapping[str, Any]) -> tuple[float, float, int, int]:
    biome = entry.get("biome")
    known = type(biome) is int and 0 <= biome < UNKNOWN_BIOME
    return (
        _number(entry.get("lat"), 90.0),
        _number(entry.get("lon"), 180.0),
        _date(entry.get("S2_DATE")),
        biome if known else UNKNOWN_BIOME,  # type: ignore[return-value]
    )


def _level(value: object) -> int:
    return _LEVELS.get(value.lower(), UNKNOWN_LEVEL) if isinstance(value, str) else UNKNOWN_LEVEL


def _number(value: object, bound: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and -bound <= value <= bound
    return float(value) if known else math.nan  # type: ignore[arg-type]


def _date(value: object) -> int:
    match = _DATE.match(value) if isinstance(value, str) else None
    return int("".join(match.groups())) if match else UNKNOWN_DATE
