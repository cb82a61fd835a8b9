"""Names of bands as files spell them, as MMEarth's."""

from __future__ import annotations

import pytest

from mmae.errors import InputError
from mmae.finetune.sources.band_names import match_band, match_bands

SPELLINGS = {
    "B02": ("sentinel2", "B2"),
    "b8a": ("sentinel2", "B8A"),
    "B08A": ("sentinel2", "B8A"),
    "S2_B11": ("sentinel2", "B11"),
    "band 4": ("sentinel2", "B4"),
    "Red": ("sentinel2", "B4"),
    "red-edge 1": ("sentinel2", "B5"),
    "NIR": ("sentinel2", "B8"),
    "swir16": ("sentinel2", "B11"),
    "VV": ("sentinel1", "asc VV"),
    "VH descending": ("sentinel1", "desc VH"),
    "asc HH": ("sentinel1", "asc HH"),
    "DEM": ("aster", "elevation"),
    "canopy_height": ("canopy_height_eth", "height"),
    "B0": None,
    "thermal": None,
    "S1_B1": None,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_band_has_many_spellings(name: str) -> None:
    assert match_band(name) == SPELLINGS[name]


def test_bands_keep_the_place_that_they_have_in_the_image() -> None:
    found = match_bands(["VV", "B04", "-", "thermal", "B2"], "images")
    assert found.bands == {"sentinel1": ("asc VV",), "sentinel2": ("B4", "B2")}
    assert found.places == {"sentinel1": (0,), "sentinel2": (1, 4)}
    assert [note.partition(":")[0] for note in found.notes] == ["bands that match nothing, not read", "VV"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["thermal", "B0"], "none of its bands .* is one of MMEarth's"),
        (["B2", "blue"], r"bands 1 \(B2\) and 2 \(blue\) are both B2"),
        (["B1", "B2", "B13"], "has a band B13, so its numbers are not Sentinel-2's"),
    ],
)
def test_bands_that_would_be_read_as_others_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        match_bands(names, "images")
