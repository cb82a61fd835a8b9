"""One probe from tiles to rows of the table: for each encoder and seed, parts, features, then scores of each task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.remote.open_shards import open_shards
from mmae.data.sampling.shared_ground import APART, footprint_km, ground_of, shared_ground
from mmae.data.shards.columns import Columns
from mmae.draws import tile_keys
from mmae.errors import InputError
from mmae.evaluate.frozen.token_vectors import untrained
from mmae.evaluate.probe.block_split import PARTS, Places, place_groups, split_blocks, split_val, with_gap
from mmae.evaluate.probe.encoder_source import EncoderSource, weights_hash
from mmae.evaluate.probe.feature_bytes import check_space
from mmae.evaluate.probe.probe_features import (
    ENCODER,
    UNTRAINED,
    FeatureJob,
    Wanted,
    compute,
    labels_wanted,
    load_labels,
    statistics_hash,
)
from mmae.evaluate.probe.probe_tasks import ProbeTask, SplitBy
from mmae.evaluate.probe.scoring import Protocol, Row, diagnostics_of, score_task, wanted_of
from mmae.evaluate.probe.task_rows import NoLabelsError, TilePlan, rows_of
from mmae.modalities import MODALITIES
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index

_CACHE_GB: Final = 100.0
_TILE_DRAW: Final = 3
"""The epoch of `draws.tile_keys` that chooses tiles; blocks take 2."""


@dataclass(frozen=True)
class ProbeOptions:
    """What `mmae probe` was asked for; `chosen`: the tasks were named, so that one without labels is an error."""

    tasks: tuple[ProbeTask, ...]
    chosen: bool
    shards: str
    splits: SplitBy
    block_km: float
    gap_km: float
    tiles: int
    seeds: tuple[int, ...]
    protocol: Protocol
    features: Path
    devices: tuple[str, ...]
    batch: int
    cache_dir: str | None
    check_units: bool


@dataclass(frozen=True)
class Found:
    """What one encoder with one seed gave.

    Attributes:
        step: of the run's checkpoint; None for a model.
        rows: scores.
        diagnostics: of features.
        counts: part -> tiles.
        notes: what was left out.
    """

    step: int | None
    seed: int
    rows: Sequence[Row]
    diagnostics: Sequence[Row]
    counts: Mapping[str, int]
    notes: Sequence[str]


def probe_encoders(sources: Iterable[EncoderSource], options: ProbeOptions) -> list[Found]:
    """Probe each encoder with each seed.

    Raises:
        InputError: shards, model or labels do not allow it.
    """
    index, _ = open_shards(options.shards, options.cache_dir, _CACHE_GB)
    return [_probe(source, index, options, seed) for source in sources for seed in options.seeds]


def _probe(source: EncoderSource, index: Index, options: ProbeOptions, seed: int) -> Found:
    encoder = source.load("cpu")
    positions = _positions(index, options, seed)
    weights = {ENCODER: weights_hash(encoder), UNTRAINED: weights_hash(untrained(encoder, seed))}
    job = FeatureJob(source, options.shards, options.cache_dir, positions, options.features, weights,
                     statistics_hash(encoder), seed, options.batch, options.devices)  # fmt: skip
    columns = _columns(index, positions)
    part_N, notes = _parts(index, columns, options, seed)
    tasks, inputs, said = _with_inputs(options, encoder.saved.config.in_domains, index)
    groups = place_groups(_places(columns), footprint_km(index.datasets))
    labels = tuple(dict.fromkeys(task.modality for task in tasks if task.modality is not None))
    if labels:
        check_space(job, [labels_wanted(labels)])
        compute(job, [labels_wanted(labels)])
    plan = TilePlan(columns, part_N, groups, load_labels(job, labels))
    # What has no labels is found before features are computed.
    tasks, more = _with_labels(tasks, plan, options, seed)
    wanted = [wanted_of(task, inputs[task.name]) for task in tasks]
    # Ranks are those of tiles' vectors.
    whole = next((each for each in wanted if each.form == "tile"), Wanted(wanted[0].inputs, "tile"))
    wanted = list(dict.fromkeys([*wanted, whole]))
    for each in wanted:
        job.check_sample(each.inputs, options.check_units)
    check_space(job, wanted)
    compute(job, wanted)
    notes, rows = [*notes, *overlap_notes(index, positions, part_N, options.gap_km), *said, *more], []
    for task in tasks:
        scored, said = score_task(task, plan, job, inputs[task.name], options.protocol)
        rows += scored
        notes += said
    counts = {name: int((part_N == number).sum()) for number, name in enumerate(PARTS)}
    return Found(source.step, seed, rows, diagnostics_of(job, whole), counts, list(dict.fromkeys(notes)))


def overlap_notes(index: Index, positions: NDArray[np.int64], part_N: NDArray[np.int8], gap_km: float) -> list[str]:
    """A sentence if tiles of different parts show the same ground, as they do where the gap is less than a tile."""
    ground = ground_of(index, positions)
    shared = 0
    for part in (0, 1):
        kind_A, _ = shared_ground(ground[part_N == part], ground[part_N > part])
        shared += int((kind_A != APART).sum())
    if not shared:
        return []
    return [
        f"{counted(shared, 'tile')} of train or val show ground of tiles in another part: scores are too good; "
        f"say a larger --gap-km than {gap_km:g}"
    ]


def _with_inputs(
    options: ProbeOptions, in_domains: Sequence[str], index: Index
) -> tuple[list[ProbeTask], dict[str, tuple[str, ...]], list[str]]:
    """The tasks whose datasets the shards hold and whose inputs the model has; and notes on the others."""
    kept, inputs, notes = [], {}, []
    for task in options.tasks:
        try:
            dataset = None if task.modality is None else MODALITIES[task.modality].dataset
            if dataset is not None and dataset not in index.datasets:
                raise InputError(f"{task.name} needs {dataset}, which the shards do not hold: repack with it")
            inputs[task.name] = task.inputs(in_domains, tuple(index.datasets))
            kept.append(task)
        except InputError as error:
            if options.chosen:
                raise
            notes.append(f"left out: {error}")
    return kept, inputs, notes


def _with_labels(
    tasks: Sequence[ProbeTask], plan: TilePlan, options: ProbeOptions, seed: int
) -> tuple[list[ProbeTask], list[str]]:
    """The tasks that the parts have labels for, and notes on the others.

    Raises:
        InputError: there is none, or one that was asked for has none.
    """
    kept, notes = [], []
    for task in tasks:
        try:
            rows_of(task, plan, seed, options.protocol.min_class)
            kept.append(task)
        except NoLabelsError as error:
            if options.chosen:
                raise
            notes.append(f"left out: {error}")
    if not kept:
        raise InputError(f"{options.shards}: no task can be probed: {notes[0] if notes else 'model and shards differ'}")
    return kept, notes


def _positions(index: Index, options: ProbeOptions, seed: int) -> NDArray[np.int64]:
    """The tiles that are looked at, in stored order: with a place, drawn where there are more than asked for.

    Raises:
        InputError: no tile has a place.
    """
    placed = np.flatnonzero(np.isfinite(index.lat) & np.isfinite(index.lon))
    if not len(placed):
        raise InputError(
            f"{options.shards}: no tile has a place (tile_info), and parts are made by place: repack again"
        )
    order = np.argsort(tile_keys(seed, _TILE_DRAW, index.row[placed]), kind="stable")
    return np.sort(placed[order[: options.tiles]]).astype(np.int64)


def _columns(index: Index, positions: NDArray[np.int64]) -> Columns:
    return Columns(**{field.name: getattr(index, field.name)[positions] for field in fields(Columns)})


def _places(columns: Columns) -> Places:
    return Places(columns.lat, columns.lon, columns.row)


def _parts(index: Index, columns: Columns, options: ProbeOptions, seed: int) -> tuple[NDArray[np.int8], list[str]]:
    """The part of each tile, and notes on it."""
    places = _places(columns)
    if options.splits == "blocks":
        return split_blocks(places, options.block_km, options.gap_km, seed), []
    names = [index.splits[number] if number < len(index.splits) else "" for number in range(256)]
    split_N = np.array(names)[columns.split]
    if "test" in split_N and "val" in split_N:
        part_N = np.select([split_N == name for name in PARTS], range(3), -1).astype(np.int8)
        return with_gap(places, part_N, options.gap_km), []
    held = "test" if "test" in split_N else "val"
    if held not in split_N:
        raise InputError(f"{options.shards}: neither val nor test has a tile: say --splits blocks")
    inside = np.flatnonzero(split_N == "train")
    some = Places(places.lat[inside], places.lon[inside], places.row[inside])
    part_N = np.where(split_N == held, 2, -1).astype(np.int8)
    part_N[inside] = split_val(some, options.block_km, seed)
    note = f"the shards' {held} is the test part here; val are blocks of their train"
    return with_gap(places, part_N, options.gap_km), [note]
