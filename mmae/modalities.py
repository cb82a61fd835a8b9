"""The one table of modalities: their datasets in MMEarth, the meaning of their numbers, and which numbers are data.

Everything else in the project derives from `MODALITIES`. A new modality is a new row. One from a dataset that no row
takes yet also needs the dataset's size in `mmae/plan/memory.py` and in `mmae/bench/step/step_batch.py`.
Facts: MMEarth (Nedungadi et al., ECCV 2024) for datasets, units and no-data;
MultiMAE meets Earth Observation (Sosa et al., ICIP 2025) for the first six rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

LossKind = Literal["mse", "l1", "cross_entropy"]
S2Level = Literal["l1c", "l2a"]

S2_LEVELS: Final[tuple[S2Level, ...]] = ("l1c", "l2a")
"""Sentinel-2 processing levels; an index into this tuple is how a level is stored and carried."""


@dataclass(frozen=True)
class Modality:
    """One modality. A stored value is data unless it is listed in `no_data` or is not finite.

    Attributes:
        name: the modality's name in recipes, weights and logs.
        dataset: the HDF5 dataset of MMEarth that holds it.
        bands: indices along the dataset's band axis, in the order the model sees them.
        band_names: one name a band.
        units: the units of the stored numbers.
        no_data: stored values that mean "nothing was measured here".
        class_codes: stored codes of a categorical modality; code i becomes class id i, and
            id `len(class_codes)` stands for no data. Empty for continuous modalities.
        stride: image pixels a side for each pixel of the modality (4: a quarter of the resolution).
        loss: how a decoder of this modality is scored.
        standardise: after the global normalisation, standardise each tile by its own inner values.
        by_level: the band statistics are those of the tile's own Sentinel-2 level.
        title: the modality in words, for pictures and reports.
        class_names: the classes in words, one a code.
    """

    name: str
    dataset: str
    bands: tuple[int, ...]
    band_names: tuple[str, ...]
    units: str
    no_data: tuple[float, ...] = ()
    class_codes: tuple[int, ...] = ()
    stride: int = 1
    loss: LossKind = "mse"
    standardise: bool = False
    by_level: bool = False
    title: str = ""
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.bands) != len(self.band_names):
            raise ValueError(f"{self.name}: {len(self.bands)} bands but {len(self.band_names)} names")
        if self.categorical and (len(self.bands) != 1 or self.loss != "cross_entropy"):
            raise ValueError(f"{self.name}: a categorical modality has one band and cross-entropy")
        if len(self.class_codes) != len(self.class_names):
            raise ValueError(f"{self.name}: {len(self.class_codes)} codes but {len(self.class_names)} names of classes")

    @property
    def categorical(self) -> bool:
        return bool(self.class_codes)

    @property
    def num_classes(self) -> int:
        """Class ids, the one for no data included; 0 for continuous modalities."""
        return len(self.class_codes) + 1 if self.categorical else 0

    @property
    def no_data_class(self) -> int:
        """The class id of a pixel without data (the last one)."""
        if not self.categorical:
            raise ValueError(f"{self.name} is not categorical")
        return len(self.class_codes)

    @property
    def channels(self) -> int:
        """Channels of a prediction: bands, or logits over all class ids."""
        return self.num_classes if self.categorical else len(self.bands)

    def patch(self, patch_size: int) -> int:
        """Pixels of this modality a side of a patch of `patch_size` image pixels."""
        return patch_size // self.stride


def _sentinel2(name: str, title: str, *bands: tuple[int, str]) -> Modality:
    return Modality(
        name=name,
        title=title,
        dataset="sentinel2",
        bands=tuple(index for index, _ in bands),
        band_names=tuple(band for _, band in bands),
        units="reflectance x 10000",
        no_data=(0,),
        by_level=True,
    )


_ROWS: Final = (
    _sentinel2("rgb", "colour (red, green, blue)", (3, "B4"), (2, "B3"), (1, "B2")),
    Modality("depth", "aster", (0,), ("elevation",), "m", loss="l1", standardise=True, title="elevation"),
    Modality(
        "semseg",
        "esa_worldcover",
        (0,),
        ("class",),
        "ESA WorldCover code",
        no_data=(0, 255),
        class_codes=(10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100),
        stride=4,
        loss="cross_entropy",
        title="land cover (ESA WorldCover)",
        class_names=(
            "tree cover",
            "shrubland",
            "grassland",
            "cropland",
            "built-up",
            "bare or sparse vegetation",
            "snow and ice",
            "permanent water",
            "herbaceous wetland",
            "mangroves",
            "moss and lichen",
        ),
    ),
    _sentinel2("ired", "red edge", (4, "B5"), (5, "B6"), (6, "B7")),
    _sentinel2("sired", "shortwave infrared", (11, "B11"), (12, "B12")),
    # MMEarth stores B8A before B8.
    _sentinel2("ebands", "near infrared", (7, "B8A"), (8, "B8")),
    Modality(
        "sentinel1",
        "sentinel1",
        tuple(range(8)),
        tuple(f"{orbit} {pol}" for orbit in ("asc", "desc") for pol in ("VV", "VH", "HH", "HV")),
        "dB",
        title="radar backscatter (Sentinel-1)",
    ),
    Modality(
        "dynamic_world",
        "dynamic_world",
        (0,),
        ("class",),
        "Dynamic World label + 1",
        no_data=(0,),
        class_codes=tuple(range(1, 10)),
        stride=4,
        loss="cross_entropy",
        title="land cover (Dynamic World)",
        class_names=(
            "water",
            "trees",
            "grass",
            "flooded vegetation",
            "crops",
            "shrub and scrub",
            "built area",
            "bare ground",
            "snow and ice",
        ),
    ),
    # The file holds 127 where the writer meant 255: int8 clamps it.
    Modality(
        "canopy_height", "canopy_height_eth", (0,), ("height",), "m", no_data=(127,), loss="l1", title="canopy height"
    ),
    Modality("slope", "aster", (1,), ("slope",), "degree", loss="l1", title="slope"),
)

MODALITIES: Final = MappingProxyType({row.name: row for row in _ROWS})

PUBLISHED: Final = ("rgb", "depth", "semseg", "ired", "sired", "ebands")
"""The six modalities of the published model, in its order."""

NORM_RGB: Final = "norm_rgb"
"""The second rgb decoder. Its target is the rgb patch, normalised by its own mean and variance."""


DATASET_BANDS: Final = MappingProxyType(
    {
        "sentinel2": 13,
        "aster": 2,
        "esa_worldcover": 1,
        "sentinel1": 8,
        "dynamic_world": 1,
        "canopy_height_eth": 2,
    }
)
"""Bands that MMEarth stores of each dataset: `Modality.bands` are indices among them."""

S2_BANDS: Final = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8A", "B8", "B9", "B10", "B11", "B12")
"""Sentinel-2's bands as MMEarth stores them."""

S2_CIRRUS: Final = 10
"""Index of B10, the cirrus band: the darkest of L1C, and not part of L2A, where MMEarth stores 0."""

ABSENT_BANDS: Final = MappingProxyType({"sentinel2_l2a": (S2_CIRRUS,)})
"""Bands that an entry of the band statistics has by layout only: mean and deviation 0, as MMEarth writes them."""


BY_LEVEL: Final = frozenset(row.dataset for row in _ROWS if row.by_level)
"""Datasets with a separate entry in the band statistics for each Sentinel-2 level."""


def stats_entry(modality: Modality, level: S2Level) -> str:
    """Name of a modality's entry in the band statistics, for tiles of a Sentinel-2 level."""
    return f"{modality.dataset}_{level}" if modality.by_level else modality.dataset


def entry_levels(dataset: str) -> dict[str, tuple[int, ...]]:
    """A dataset's entries in the band statistics -> the levels (indices into `S2_LEVELS`) of the tiles in each."""
    if dataset in BY_LEVEL:
        return {f"{dataset}_{level}": (number,) for number, level in enumerate(S2_LEVELS)}
    return {dataset: tuple(range(len(S2_LEVELS)))}


def output_source(output: str) -> Modality:
    """The modality that an output (a decoder) is compared with."""
    return MODALITIES["rgb" if output == NORM_RGB else output]


def with_bands(bands: Mapping[str, Sequence[str]]) -> dict[str, Modality]:
    """Modalities with bands of their own: some of the table's, in any order, and others.

    A band that MMEarth's dataset does not have gets a number behind its last one.

    Args:
        bands: modality of the table -> names of its bands, spelled as there; not of categorical ones.
    """
    foreign: dict[str, list[str]] = {}
    rows = {}
    for modality, names in bands.items():
        row = MODALITIES[modality]
        known = _band_numbers(row.dataset)
        others = foreign.setdefault(row.dataset, [])
        for name in names:
            if name not in known and name not in others:
                others.append(name)
        numbers = tuple(
            known[name] if name in known else DATASET_BANDS[row.dataset] + others.index(name) for name in names
        )
        rows[modality] = replace(row, bands=numbers, band_names=tuple(names))
    return rows


def _band_numbers(dataset: str) -> dict[str, int]:
    """Name of each named band of a dataset -> its index."""
    named = {
        name: band
        for row in _ROWS
        if row.dataset == dataset
        for band, name in zip(row.bands, row.band_names, strict=True)
    }
    return {name: number for number, name in enumerate(S2_BANDS)} if dataset == "sentinel2" else named
