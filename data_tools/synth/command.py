"""`mmae synth OUT`: a small data set in MMEarth's layout, with every no-data case in it.

OUT holds NAME.h5, NAME_band_stats.json, NAME_splits.json and NAME_tile_info.json, where NAME is the folder's
own name. Each location appears at both Sentinel-2 levels, in neighbouring rows. The tiles of `val` are all from
one place that `train` never sees, and the statistics are those of `train`.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.free_space import need_space
from mmae.errors import InputError, check_seed
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    import argparse

    from data_tools.synth.gaps import Gap
    from data_tools.synth.scene import Arrays

MIN_SIZE: Final = 8
MAX_SIZE: Final = 2048
"""A larger tile could not be packed into a shard."""
_JSON_BYTES: Final = 450
"""The approximate size of a tile's entry in `tile_info`."""
_GZIP_LEVEL: Final = 4
"""The level that h5py takes by default."""
KM_A_DEGREE: Final = 111.32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; it must not exist yet, or be empty")
    parser.add_argument("--tiles", type=int, default=64, help="tiles, both Sentinel-2 levels counted (default: 64)")
    parser.add_argument("--size", type=int, default=64, help="width and height of a tile in pixels (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another landscape (default: 0)")


def run(args: argparse.Namespace) -> int:
    synthesise(args.out, args.tiles, args.size, args.seed)
    print(
        f"{args.out}: {counted(args.tiles, 'tile')} of {args.size}x{args.size} pixels; "
        f"next: mmae repack {args.out} SHARDS"
    )
    return 0


def synthesise(out: Path, tiles: int = 64, size: int = 64, seed: int = 0) -> None:
    """Write the data set, whole or not at all. The same arguments give the same pixels.

    Raises:
        InputError: too few tiles to hold every no-data case, tiles too small or too large, an `out` that is not empty
            or cannot be written to, or a disk that is too small.
    """
    from data_tools.synth.gaps import GAPS
    from mmae.disk.files import atomic_folder, check_new_folder, writing

    if tiles < len(GAPS):
        raise InputError(f"--tiles {tiles}: use {len(GAPS)} or more, because every no-data case needs its own tile")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"--size {size}: use {MIN_SIZE} to {MAX_SIZE}")
    check_seed(seed, "--seed")
    out = Path(os.path.abspath(out))
    check_new_folder(out)
    need_space(out.parent, tiles * _tile_bytes(size, seed), "choose another folder, or fewer --tiles")
    with writing(out, "make room, or choose another folder"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out) as folder:
            _write(folder, out.name, tiles, size, seed)


def _tile_bytes(size: int, seed: int) -> int:
    """The approximate bytes of a tile on the disk, measured on a pair of tiles without gaps."""
    arrays = [array for row in range(2) for array in _tile(row, size, seed, None)[0].values()]
    packed = sum(len(zlib.compress(array.tobytes(), _GZIP_LEVEL)) for array in arrays)
    return packed // 2 + _JSON_BYTES


def _write(folder: Path, name: str, tiles: int, size: int, seed: int) -> None:
    from data_tools.synth.gaps import gap_rows
    from data_tools.synth.hdf5_output import new_hdf5
    from data_tools.synth.scene import HELD_OUT, PLACES
    from data_tools.synth.synthetic_stats import BandStats

    stats = BandStats()
    gaps = gap_rows(tiles)
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    infos: dict[str, Any] = {}
    with new_hdf5(folder / f"{name}.h5") as (file, check_disk):
        for row in range(tiles):
            arrays, info = _tile(row, size, seed, gaps.get(row))
            if row == 0:
                _create(file, arrays, tiles)
            for dataset, array in arrays.items():
                file[dataset][row] = array
            tile_id = info.pop("tile_id")
            file["metadata"][row] = (tile_id.encode(), info["S2_type"].encode())
            infos[tile_id] = info
            held_out = row // 2 % len(PLACES) == HELD_OUT
            splits["val" if held_out else "train"].append(row)
            if not held_out:
                stats.add(arrays, row % 2)
            check_disk()
    for part, content in (("band_stats", stats.tables()), ("splits", splits), ("tile_info", infos)):
        (folder / f"{name}_{part}.json").write_text(json.dumps(content), encoding="utf-8")


def _create(file: Any, arrays: Arrays, tiles: int) -> None:
    """Create the datasets as MMEarth's own writer does: gzip, one tile a chunk, no shuffle."""
    for dataset, array in arrays.items():
        file.create_dataset(
            dataset, (tiles, *array.shape), array.dtype, chunks=(1, *array.shape), compression="gzip", shuffle=False
        )
    columns = [("tile_id", "S100"), ("S2_type", "S10")]
    file.create_dataset("metadata", (tiles,), columns, chunks=(1,), compression="gzip", shuffle=False)


def _tile(row: int, size: int, seed: int, gap: Gap | None) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of one row, with `gap` applied, and its `tile_info` entry, which also holds `tile_id`."""
    from data_tools.synth.scene import PLACES, pixel_arrays
    from mmae.modalities import S2_LEVELS

    pair, level = divmod(row, 2)
    number, place_number = divmod(pair, len(PLACES))
    place = PLACES[place_number]
    # Locations lie side by side in rows of four, and the month changes from one to the next.
    y, x = (size * step for step in divmod(number, 4))
    month = 1 + (5 * number + place_number) % 12
    lat, lon = place.lat - y / 100 / KM_A_DEGREE, place.lon + x / 100 / KM_A_DEGREE
    arrays = pixel_arrays(seed, place_number, x, y, size, level, row)
    arrays |= _vectors(place_number, lat, lon, month)
    info = {
        "tile_id": f"{place.name}_{y:05d}_{x:05d}_{S2_LEVELS[level]}",
        "S2_DATE": f"{2017 + (number + place_number) % 4}-{month:02d}-{1 + 7 * number % 28:02d}",
        "S2_type": S2_LEVELS[level],
        "CRS": _utm(place.lat, place.lon),
        "lat": lat,
        "lon": lon,
        "biome": place.biome,
        "eco_region": place.eco_region,
    }
    if gap is not None:
        gap(arrays)
    return arrays, info | {"NO_DATA": gap is not None, "BANDS": _bands(arrays)}


def _utm(lat: float, lon: float) -> str:
    """The code of the UTM zone that a place lies in."""
    return f"EPSG:{(32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1}"


def _vectors(place_number: int, lat: float, lon: float, month: int) -> Arrays:
    """The datasets without pixels: position and month as sine and cosine, weather, biome and eco-region."""
    import numpy as np

    from data_tools.synth.scene import PLACES

    place = PLACES[place_number]
    angles = {"lat": np.radians(lat), "lon": np.radians(lon), "month": 2 * np.pi * month / 12}
    arrays: Arrays = {name: np.array([np.sin(a), np.cos(a)], np.float32) for name, a in angles.items()}
    era5 = []
    for season in (month - 1, month, None):
        # Temperatures are in kelvin, rain is in metres. The last four values are those of the year.
        swing = 0.0 if season is None else -np.sign(lat) * 10 * np.cos(2 * np.pi * season / 12)
        mean = 273.15 + place.celsius + swing
        era5 += [mean, mean - 8, mean + 9, 0.05 * (12 if season is None else 1) * (1 + place_number / 4)]
    arrays["era5"] = np.array(era5, np.float32)
    arrays["biome"] = (np.arange(14) == place.biome).astype(np.uint8)
    arrays["eco_region"] = (np.arange(846) == place.eco_region).astype(np.uint16)
    return arrays


def _bands(arrays: Arrays) -> dict[str, list[str] | None]:
    """The entry BANDS of `tile_info`: the bands that the tile has."""
    import numpy as np

    from mmae.modalities import MODALITIES

    sentinel2 = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8A", "B8", "B9", "B10", "B11", "B12"]
    names = MODALITIES["sentinel1"].band_names
    measured = [name.split() for name, band in zip(names, arrays["sentinel1"], strict=True) if np.isfinite(band).any()]
    orbits = {orbit: [band for pass_, band in measured if pass_ == orbit] or None for orbit in ("asc", "desc")}
    return {
        "sentinel2": [name for name, band in zip(sentinel2, arrays["sentinel2"], strict=True) if band.any()] or None,
        "sentinel1_asc": orbits["asc"],
        "sentinel1_desc": orbits["desc"],
        "aster": ["b1", "slope"],
        "dynamic_world": ["label"],
        "esa_worldcover": ["Map"],
    }
