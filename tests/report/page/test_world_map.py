"""The map of the world."""

from __future__ import annotations

import re
from xml.etree.ElementTree import tostring

import numpy as np

from mmae.report.page.land import CELL, land_runs
from mmae.report.page.world_map import world_map


def is_land(lat: float, lon: float) -> bool:
    row, column = int((90 - lat) / CELL), int((lon + 180) / CELL)
    return any(of == row and first <= column < first + count for of, first, count in land_runs())


def test_land_is_where_it_is() -> None:
    places = {"Sahara": (23, 10), "Siberia": (63, 100), "Amazonia": (-5, -62), "Antarctica": (-82, 20)}
    seas = {"Atlantic": (30, -40), "Pacific": (0, -140), "Indian Ocean": (-30, 80), "Arctic Ocean": (88, 0)}
    assert all(is_land(*place) for place in places.values())
    assert not any(is_land(*place) for place in seas.values())
    assert 0.2 < sum(count for *_, count in land_runs()) / (180 * 90) < 0.45  # cells near the poles are small


def test_many_places_are_few_dots_and_their_number_is_told() -> None:
    places = np.repeat([[46.8, 9.8], [-2.4, 34.9]], 1000, axis=0)
    text = tostring(world_map("where", [("train", places), ("none", np.empty((0, 2)))]), encoding="unicode")
    assert len(text) < 20_000
    assert "train: 2000 places" in text
    dots = next(path for path in re.findall(r'<path d="([^"]*)"[^>]*class="f0" stroke', text))
    assert dots.count("M") == 2
