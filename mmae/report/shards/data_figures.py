"""The figures of a page about a shard set."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.evaluate.pictures.colours import LEGENDS, Stretch, colour_classes
from mmae.evaluate.pictures.tile_choice import date_in_words, place_in_words
from mmae.modalities import MODALITIES, S2_LEVELS, Modality
from mmae.report.page.bars import bar_figure
from mmae.report.page.chart import Chart, Line, chart_figure
from mmae.report.page.markup import el, table
from mmae.report.page.ticks import short
from mmae.report.shards.sample import BINS, BandValues, Sample, statistics

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

    from mmae.data.shards.index import Index
    from mmae.types import Tile

BIOMES: Final = (
    "tundra", "tropical moist forest", "mediterranean", "desert", "temperate grassland", "boreal forest",
    "temperate conifer", "temperate broadleaf", "montane grassland", "mangroves", "flooded grassland",
    "tropical grassland", "tropical dry forest", "tropical conifer forest",
)  # fmt: skip
"""Biomes of RESOLVE Ecoregions 2017 by MMEarth's numbers (`stats/biome_labels.json` of MMEarth-data), which are not
RESOLVE's own."""

FAR: Final = 0.5
"""A mean that is so many deviations away from the statistics' is pointed out, or a deviation twice or half theirs."""


def when_and_where_figures(index: Index) -> list[Element]:
    """Months, levels and biomes of all tiles, by split."""
    splits = [(split, index.of_split(split)) for split in index.splits if len(index.of_split(split))]
    years = sorted({int(date) // 10_000 for date in np.unique(index.date) if date > 0})

    def counts(values: NDArray[Any], wanted: Sequence[int]) -> list[tuple[str, list[int]]]:
        return [(split, [int((values[at] == each).sum()) for each in wanted]) for split, at in splits]

    month_N = index.date // 100 % 100
    months = ["unknown", *(f"{month:02d}" for month in range(1, 13))]
    levels = [level.upper() for level in S2_LEVELS]
    found = [
        bar_figure("Months", "tiles", months, counts(month_N, range(13))),
        bar_figure("Years", "tiles", [str(year) for year in years], counts(index.date // 10_000, years)),
        bar_figure("Sentinel-2 levels", "tiles", levels, counts(index.level, range(len(levels)))),
    ]
    biomes = np.unique(index.biome).tolist()
    names = [BIOMES[biome] if biome < len(BIOMES) else "unknown" for biome in biomes]
    return [*found, bar_figure("Biomes", "tiles", names, counts(index.biome, biomes))]


def class_figures(index: Index, sample: Sample) -> list[Element]:
    """The share of each class, by split."""
    figures = []
    for name, by_split in sample.classes.items():
        modality = MODALITIES[name]
        shares = [
            (split, (100 * by_split[split] / max(1, by_split[split].sum())).tolist())
            for split in index.splits
            if split in by_split
        ]
        names = [*modality.class_names, "no data"]
        figures.append(bar_figure(modality.title, "share of pixels in the sample (%)", names, shares))
    return figures


def band_figures(index: Index, sample: Sample) -> list[Element]:
    """A histogram a band, beside mean and deviation of the statistics that normalise it."""
    by_band: dict[tuple[str, int], list[BandValues]] = {}
    for each in sample.bands.values():
        by_band.setdefault((each.modality.dataset, each.band), []).append(each)
    figures = [_histogram(index, found) for found in by_band.values() if any(len(each.all_values) for each in found)]
    empty = [found[0].title for found in by_band.values() if not any(len(each.all_values) for each in found)]
    return [*figures, el("p", f"No tile of the sample has data in: {', '.join(empty)}.")] if empty else figures


def statistics_table(index: Index, sample: Sample) -> tuple[Element, list[str]]:
    """What the sample's bands are beside the statistics, and a line for each band that does not fit them."""
    rows, doubts = [], []
    for each in sorted(sample.bands.values(), key=lambda each: (list(MODALITIES).index(each.modality.name), each.band)):
        values, known = each.all_values, statistics(index, each)
        share = f"{100 * (1 - each.valid / each.pixels):.1f}" if each.pixels else "-"
        mean, deviation = (float(values.mean()), float(values.std())) if len(values) else (np.nan, np.nan)
        numbers = [
            short(number) if np.isfinite(number) else "-" for number in (mean, deviation, *(known or (np.nan, np.nan)))
        ]
        rows.append([each.title, each.entry, share, *numbers])
        if (doubt := _doubt(mean, deviation, known)) and len(values):
            doubts.append(f"{each.title} ({each.entry}) {doubt}")
    headings = ["band", "statistics of", "no data (%)", "mean here", "deviation here", "mean used", "deviation used"]
    return table(headings, rows, f"Bands of {len(sample.positions)} tiles beside the set's statistics"), doubts


def tile_figures(index: Index, sample: Sample) -> list[Element]:
    """Small pictures of tiles: colour and land cover, with id, place and date."""
    figures = []
    for position, tile in sample.tiles:
        pictures = [
            el("img", src=_source(pixels), alt=f"{MODALITIES[name].title} of the tile", width=pixels.shape[1])
            for name in ("rgb", "semseg", "depth")
            if (pixels := _picture(MODALITIES[name], tile)) is not None
        ]
        tile_id = bytes(index.tile_id[position]).decode(errors="replace")
        place = place_in_words(float(index.lat[position]), float(index.lon[position]))
        date, level = date_in_words(int(index.date[position])), S2_LEVELS[int(index.level[position])].upper()
        about = ", ".join([index.splits[int(index.split[position])], place, date, level, *_heights(tile)])
        figures.append(el("figure", el("figcaption", tile_id), el("p", about), *pictures))
    return figures


def land_cover_key() -> Element:
    """The colours of land cover in the pictures of tiles."""
    row = MODALITIES["semseg"]
    colours = zip(LEGENDS[row.name], row.class_names, strict=True)
    parts = [
        el("li", el("svg", el("rect", x=0, y=0, width=20, height=10, fill=f"#{colour}"), viewBox="0 0 32 10",
                    aria_hidden="true"), f" {name}")
        for colour, name in colours
    ]  # fmt: skip
    return el("ul", *parts, class_="legend")


def _heights(tile: Tile) -> list[str]:
    """`elevation 104 to 131 m`; nothing without it."""
    row = MODALITIES["depth"]
    if row.dataset not in tile.arrays:
        return []
    stored = tile.arrays[row.dataset][row.bands[0]]
    known = stored[~np.isin(stored, row.no_data)]
    return [f"{row.title} {short(float(known.min()))} to {short(float(known.max()))} {row.units}"] if known.size else []


def _histogram(index: Index, found: Sequence[BandValues]) -> Element:
    """One line for each entry of the statistics (a Sentinel-2 level), and bars at mean and deviation."""
    first = found[0]
    together = np.concatenate([each.all_values for each in found])
    title = first.title
    low, high = np.percentile(together, [0.5, 99.5])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    lines, most = [], 0.0
    for number, each in enumerate(found):
        values = each.all_values
        shares = 100 * np.histogram(values, edges)[0] / max(1, len(values))
        most = max(most, float(shares.max()))
        lines.append(Line(each.entry, middles, shares.tolist(), kind=number))
    for number, each in enumerate(found):
        known = statistics(index, each)
        if known is not None:
            mean, deviation = known
            across = [mean - deviation, mean, mean, mean, mean + deviation]
            upwards = [most * 0.02, most * 0.02, most * 1.02, most * 0.02, most * 0.02]
            lines.append(Line(f"mean and deviation used, {each.entry}", across, list(upwards), kind=number + 3))
    return chart_figure(
        Chart(title, f"stored value ({first.modality.units})", "share of pixels (%)", lines, from_zero=True)
    )


def _doubt(mean: float, deviation: float, known: tuple[float, float] | None) -> str:
    if known is None:
        return "has data, but no statistics: its pixels are left out"
    used, spread = known
    if spread > 0 and abs(mean - used) > FAR * spread:
        return f"has mean {short(mean)}, and {short(used)} is used: {abs(mean - used) / spread:.1f} deviations away"
    if spread > 0 and not 0.5 <= deviation / spread <= 2:
        return f"has deviation {short(deviation)}, and {short(spread)} is used"
    return ""


def _picture(row: Modality, tile: Tile) -> NDArray[np.uint8] | None:
    stored: NDArray[Any] | None = tile.arrays.get(row.dataset)
    if stored is None:
        return None
    bands = stored[list(row.bands)]
    if row.categorical:
        ids = np.full(bands.shape[1:], row.no_data_class, np.int64)
        for number, code in enumerate(row.class_codes):
            ids[bands[0] == code] = number
        return colour_classes(ids, row)
    values = bands.astype(np.float32)
    valid = np.isfinite(values) & ~np.isin(values, row.no_data)
    values = np.where(valid, values, 0)
    return Stretch.of(values, valid).colour(values, valid)


def _source(picture_hw3: NDArray[np.uint8]) -> str:
    from PIL import Image

    data = BytesIO()
    Image.fromarray(picture_hw3).save(data, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
