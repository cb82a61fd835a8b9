"""`mmae data-report SHARDS --out page.html`: what a shard set holds, on one page, before a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.errors import InputError
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mmae.data.shards.index import Index
    from mmae.report.shards.sample import Sample

_OUT: Final = "--out"
PICTURES: Final = 12
"""Tiles that the page shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", metavar="SHARDS", help="a folder that mmae repack wrote, or its address")
    parser.add_argument(_OUT, type=Path, required=True, metavar="PAGE.html", help="the page; it must not exist yet")
    parser.add_argument("--tiles", type=int, default=256, help="tiles to read for histograms and classes (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="another number reads other tiles")
    parser.add_argument("--cache-dir", metavar="DIR", help="where shards of an address are fetched to")


def run(args: argparse.Namespace) -> int:
    from mmae.data.remote.open_shards import open_shards
    from mmae.report.page.shell import page_text
    from mmae.report.shards.sample import read_sample
    from mmae.terminal.table import check_json_path, write_json

    check_json_path(args.out, _OUT)
    if args.tiles < 1:
        raise InputError(f"--tiles {args.tiles}: at least one tile is needed")
    index, store = open_shards(args.shards, args.cache_dir, 100.0)
    sample = read_sample(index, store, args.tiles, PICTURES, args.seed)
    title = f"Shards: {Path(args.shards).name}"
    write_json(args.out, page_text(title, _sections(index, sample)), _OUT)
    print(printable(args.out))
    return 0


def _sections(index: Index, sample: Sample) -> list[Element]:
    from mmae.report.page.markup import el
    from mmae.report.page.shell import section
    from mmae.report.shards import data_figures

    def figures(*found: Element) -> Element:
        return el("div", *found, class_="figures")

    bands, doubts = data_figures.statistics_table(index, sample)
    warnings = [*_split_warnings(index), *doubts, *sample.damaged]
    said = [el("p", el("strong", "Warning: "), each, class_="warning") for each in warnings]
    return [
        section("about", "What is in it", *_about(index, sample), *(said or [el("p", "Nothing strange was found.")])),
        section("places", "Places and splits", *_places(index)),
        section("times", "Dates, levels and biomes", figures(*data_figures.when_and_where_figures(index))),
        section("classes", "Classes", figures(*data_figures.class_figures(index, sample))),
        section("bands", "Bands and their statistics", bands, figures(*data_figures.band_figures(index, sample))),
        section(
            "tiles",
            "Tiles at random",
            el("p", "Colour, land cover, and elevation from dark (low) to light (high), each with its own range."),
            data_figures.land_cover_key(),
            el("div", *data_figures.tile_figures(index, sample), class_="tiles"),
        ),
    ]


def _about(index: Index, sample: Sample) -> list[Element]:
    from mmae.data.shards.index_labels import words_of
    from mmae.report.page.markup import facts, table

    size = sum(shard.bytes for shard in index.shards) / 1e9
    source = index.source
    pairs = [
        ("tiles", ", ".join(f"{split} {len(index.of_split(split))}" for split in index.splits)),
        ("shards", f"{len(index.shards)}, {size:.3g} GB"),
        ("source", f"{source.name}, {source.rows} rows, {source.bytes / 1e9:.3g} GB"),
        ("identity", index.fingerprint),
        ("packed with", "; ".join(f"{name} {_words(value)}" for name, value in index.options.items()) or "-"),
        ("labels", "; ".join(words_of({name: each.info for name, each in index.labels.items()})) or "-"),
        ("not packed", f"{len(index.losses)} tiles" + (f", first {index.losses[0].tile_id}" if index.losses else "")),
        ("read for this page", f"{len(sample.positions)} tiles at random"),
    ]
    rows = [[name, str(info.dtype), " x ".join(map(str, info.shape))] for name, info in index.datasets.items()]
    return [facts(pairs), table(["dataset", "numbers", "shape of a tile"], rows, "Datasets")]


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _places(index: Index) -> list[Element]:
    from mmae.report.page.markup import el
    from mmae.report.page.world_map import world_map
    from mmae.report.shards.places import distance_line, places_of

    groups = [(f"{split} ({len(index.of_split(split))} tiles)", places_of(index, split)) for split in index.splits]
    groups = [(name, places) for name, places in groups if len(places)]
    lines = [distance_line(index, split) for split in index.splits if split != "train"]
    return [world_map("Where the tiles lie", groups[:6]), *(el("p", line) for line in lines if line)]


def _split_warnings(index: Index) -> list[str]:
    from mmae.data.sampling.leaks import leaks_of_set, warnings

    return list(warnings(leaks_of_set(index)))
