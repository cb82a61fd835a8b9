"""The model card of a model folder: README.md with the hub's metadata, written from what config.json says.

So a folder that is exported again has the same card, and nobody has to find the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import yaml

from mmae.errors import InputError
from mmae.modalities import S2_LEVELS, Modality, stats_entry
from mmae.model.saved.saved_config import SavedModel
from mmae.publish.hub.card_parts import listed, mapping, markdown_table, number, plain
from mmae.publish.hub.card_text import CITATION, INSTALL, LIMITS, USE
from mmae.publish.hub.tuned_card import (
    tuned_about,
    tuned_metadata,
    tuned_scores,
    tuned_title,
    tuned_training,
    tuned_use,
)
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable

CARD_NAME: Final = "README.md"
LICENSE: Final = "license"
"""Key of the notes in config.json."""
TRAINING: Final = "training"
"""Key of the notes in config.json: what `training_facts` gives."""
AVERAGED: Final = "averaged_half_life"
"""Key of the notes in config.json: the half-life, in tiles, of the average that the weights are (`train.ema`)."""

_LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_SHOWN: Final = 80
"""Characters of a wrong licence that an error repeats."""
_SOURCE: Final = re.compile(r"data_(1M|100k)_v\d+(_64)?\.h5")
_TAGS: Final = ("earth-observation", "remote-sensing", "satellite", "masked-autoencoder", "multimae", "vit")


def check_license(words: str | None) -> None:
    """Refuse what is no identifier of a licence as the hub writes them.

    Raises:
        InputError: another form than `apache-2.0`, `cc-by-4.0`, `other`.
    """
    if words is not None and not _is_license(words):
        raise InputError(f"--license {words}: say its identifier in small letters, such as apache-2.0 or cc-by-4.0")


def _is_license(words: object) -> bool:
    return isinstance(words, str) and _LICENSE.fullmatch(words) is not None


def _check_noted(license_: object) -> None:
    if license_ is not None and not _is_license(license_):
        raise InputError(
            f"config.json: extra.license is {printable(repr(license_)[:_SHOWN])}, which is no identifier of a licence "
            "such as cc-by-4.0: state one with --license, or correct the file"
        )


def model_card(saved: SavedModel) -> str:
    """The text of README.md: metadata between two lines of dashes, then Markdown.

    Args:
        saved: the model's description. Its notes `training` (`training_facts`) and `license` are told where they are.

    Raises:
        InputError: the note `license` is no identifier of a licence.
    """
    _check_noted(saved.extra.get(LICENSE))
    facts = mapping(saved.extra.get(TRAINING))
    parts = [
        f"---\n{yaml.safe_dump(_metadata(saved, facts), sort_keys=False)}---",
        f"# {_title(saved)}",
        _about(saved, facts),
        "## Use",
        USE if saved.tuned is None else f"{tuned_use(saved)}\n\n{INSTALL}",
        "## Inputs",
        _inputs(saved),
        "## Training",
        "\n".join(_training(saved, facts)) or "The model folder does not say how the model was trained.",
        "## Validation" if saved.tuned is None else "## Scores",
        _validation(facts) if saved.tuned is None else tuned_scores(saved),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(saved, facts)),
        "## Licence",
        _licence(saved),
        "## Citation",
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(saved: SavedModel, facts: Mapping[str, Any]) -> dict[str, Any]:
    stated = saved.extra.get(LICENSE)
    metadata: dict[str, Any] = {"license": stated or "other"}
    if not stated:
        metadata |= {"license_name": "not-stated"}
    # The names of other files are no names of data sets that people could look up.
    datasets = list(dict.fromkeys(filter(None, map(_mmearth, _sources(facts)))))
    sensors = {saved.table[name].dataset for name in saved.config.in_domains} & {"sentinel1", "sentinel2"}
    return {
        **metadata,
        "library_name": "mmae",
        "pipeline_tag": "image-feature-extraction",
        "tags": [*_TAGS, *(f"{name[:-1]}-{name[-1]}" for name in sorted(sensors))],
        **({"datasets": datasets} if datasets else {}),
        **({} if saved.tuned is None else tuned_metadata(saved, saved.tuned.task)),
    }


def _title(saved: SavedModel) -> str:
    if saved.tuned is not None:
        return tuned_title(saved, saved.tuned.task)
    return f"MultiMAE {saved.config.size}, {len(saved.config.in_domains)} modalities"


def _about(saved: SavedModel, facts: Mapping[str, Any]) -> str:
    if saved.tuned is not None:
        return tuned_about(saved, saved.tuned)
    config, variant = saved.config, saved.variant
    height, width = config.image_hw
    about = (
        f"A multi-modal masked autoencoder of satellite images: a vision transformer of width {variant.dim}, depth "
        f"{variant.depth} and {variant.num_heads} heads, patches of {config.patch_size} x {config.patch_size} pixels, "
        f"{counted(config.num_global_tokens, 'global token')}. It was trained on images of {height} x {width} "
        f"pixels of 10 m. It takes any subset of its inputs ({', '.join(config.in_domains)}) and was "
        f"trained to reconstruct {', '.join(config.outputs)}."
    )
    if not all(map(_mmearth, _sources(facts))):
        about += " **Not all of its tiles are from files of MMEarth**: see below what they are from."
    return about


def _inputs(saved: SavedModel) -> str:
    """A table of modalities, and one of the statistics."""
    rows = [saved.table[name] for name in saved.config.in_domains]
    inputs = markdown_table(
        ("modality", "dataset", "bands", "units", "level", "no data"),
        (
            (row.name, row.dataset, ", ".join(row.band_names), _units(row), _levels(row, saved), _no_data(row))
            for row in rows
        ),
    )
    statistics = markdown_table(("statistics of", "band", "mean", "standard deviation"), _statistics(rows, saved))
    words = (
        "Values become (value - mean) / standard deviation with these numbers, in the stored units, before the encoder "
        "sees them; `mmae.load_encoder` does that by itself. Elevation is then standardised in each tile."
    )
    return (
        f"{inputs}\n\n{words}\n\n{statistics}"
        if saved.band_stats
        else (f"{inputs}\n\nThe model folder holds no band statistics: inputs must be normalised by the user.")
    )


def _units(row: Modality) -> str:
    return f"{row.units}: {', '.join(map(str, row.class_codes))}" if row.categorical else row.units


def _no_data(row: Modality) -> str:
    return ", ".join([f"{value:g}" for value in row.no_data] or ["not finite"])


def _levels(row: Modality, saved: SavedModel) -> str:
    if not row.by_level:
        return "any"
    known = [level.upper() for level in S2_LEVELS if saved.band_stats.get(stats_entry(row, level)) is not None]
    return ", ".join(known) or "none: no statistics"


def _statistics(rows: Iterable[Modality], saved: SavedModel) -> Iterator[tuple[str, ...]]:
    for row in rows:
        for entry in dict.fromkeys(stats_entry(row, level) for level in S2_LEVELS) if not row.categorical else ():
            table = mapping(saved.band_stats.get(entry))
            means, deviations = (listed(table.get(kind)) for kind in ("mean", "std"))
            for band, name in zip(row.bands, row.band_names, strict=True):
                if band < len(means) and band < len(deviations):
                    yield entry, name, number(means[band]), number(deviations[band])


def _training(saved: SavedModel, facts: Mapping[str, Any]) -> Iterator[str]:
    recipe, versions = mapping(facts.get("recipe")), mapping(facts.get("versions"))
    said = {
        "steps": saved.extra.get("step"),
        "tiles seen": facts.get("tiles_seen"),
        "precision": facts.get("precision"),
        "published checkpoint": saved.extra.get("published"),
        "epoch": saved.extra.get("epoch"),
        "weights": None if (tiles := saved.extra.get(AVERAGED)) is None else f"averaged, half-life of {tiles} tiles",
    }
    rows = [(key, plain(value)) for key, value in said.items() if value is not None]
    if parent := mapping(facts.get("parent")):
        rows.append(("went on from", f"step {plain(parent.get('step'))} of the run {plain(parent.get('run'))}"))
    rows += tuned_training(saved)
    rows += [(f"`{plain(key)}`", plain(value)) for key, value in recipe.items() if value is not None]
    for source in _sources(facts):
        tiles = ", ".join(f"{split} {plain(count)}" for split, count in mapping(source.get("tiles")).items())
        rows.append(("packed from", f"{plain(source.get('name'))} (tiles: {plain(tiles)})"))
        rows.append(("fingerprint of that file", f"`{plain(source.get('fingerprint'))}`"))
    rows += [("fingerprint of the shards", f"`{plain(each)}`") for each in listed(facts.get("shards"))]
    rows += [
        ("commit of mmae" if name == "git" else f"version of {plain(name)}", plain(version))
        for name, version in versions.items()
    ]
    rows.append(("exported by mmae", plain(saved.mmae_version)))
    yield markdown_table(("fact", "value"), rows)


def _validation(facts: Mapping[str, Any]) -> str:
    found = mapping(facts.get("validation"))
    losses = mapping(found.get("losses"))
    if not losses:
        return "No validation is known of."
    table = markdown_table(("output", "loss"), ((plain(name), number(loss)) for name, loss in losses.items()))
    return (
        f"Losses on the validation split at step {plain(found.get('step'))}, on normalised values (cross-entropy for "
        f"land cover); they say how well hidden patches are reconstructed, not how well features transfer.\n\n{table}"
    )


def _limits(saved: SavedModel, facts: Mapping[str, Any]) -> Iterator[str]:
    height, width = saved.config.image_hw
    yield f"It saw images of {height} x {width} pixels only. Larger images work, and nobody has measured how well."
    if saved.config.positions == "learned":
        yield "Its positions were learned for that size; those of other sizes are interpolated."
    missing = [level.upper() for level in S2_LEVELS if saved.band_stats.get(f"sentinel2_{level}") is None]
    if missing and any(saved.table[name].by_level for name in saved.config.in_domains):
        yield f"Sentinel-2 of level {' and '.join(missing)} cannot be normalised: there are no statistics of it."
    if not facts and saved.tuned is None:
        yield "How it was trained is not known here."
    yield from LIMITS


def _licence(saved: SavedModel) -> str:
    stated = saved.extra.get(LICENSE)
    if stated:
        return f"The weights: {plain(stated)}. The code of mmae: Apache-2.0."
    return (
        "Whoever exported these weights has not stated a licence for them (`mmae export --license`): ask before use. "
        "The code of mmae is under Apache-2.0, which says nothing about the weights."
    )


def _sources(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in listed(facts.get("sources")) if isinstance(each, Mapping)]


def _mmearth(source: Mapping[str, Any]) -> str | None:
    """MMEarth, MMEarth64 or MMEarth100k, by the name of the source's file; None if it is another file."""
    found = _SOURCE.fullmatch(str(source.get("name")))
    return found and "MMEarth" + ("100k" if found[1] == "100k" else "") + (found[2] or "").removeprefix("_")
