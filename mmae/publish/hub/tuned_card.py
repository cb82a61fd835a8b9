"""The parts of a model card that are those of fine-tuned models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mmae.publish.hub.card_parts import mapping, markdown_table, number, plain

if TYPE_CHECKING:
    from mmae.model.saved.saved_config import SavedModel
    from mmae.model.tuned.task import Task
    from mmae.model.tuned.tuned_config import TunedConfig

FINETUNING: Final = "finetuning"
"""Key of the notes in config.json: `recipe` (key -> value) and `scores` (split -> metric -> number)."""
BASE: Final = "base_model"
"""Key of the notes in config.json: the name of the model that fine-tuning started from."""
BASE_LICENSE: Final = "base_license"
"""Key of the notes in config.json: that model's licence, if its folder states one."""

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PIPELINES: Final = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "segmentation": "image-segmentation",
}
_SHOWN: Final = 50
"""Classes or targets that the card lists."""


def tuned_metadata(saved: SavedModel, task: Task) -> dict[str, Any]:
    """What the hub reads of a fine-tuned model: its kind, and the model that it started from if that is on the hub."""
    base = saved.extra.get(BASE)
    found = {"pipeline_tag": _PIPELINES[task.kind]} if task.kind in _PIPELINES else {}
    return found | ({BASE: base} if isinstance(base, str) and _HUB_NAME.fullmatch(base) else {})


def tuned_title(saved: SavedModel, task: Task) -> str:
    return f"MultiMAE {saved.config.size}, fine-tuned for {task.name}"


def tuned_about(saved: SavedModel, tuned: TunedConfig) -> str:
    """What the model predicts, from what, and where its encoder comes from."""
    task, config, variant = tuned.task, saved.config, saved.variant
    height, width = config.image_hw
    base = saved.extra.get(BASE)
    came = "started at random" if base is None else f"comes from the pretrained model {plain(base)}"
    of = "each pixel" if task.dense else "a tile"
    return (
        f"It predicts {task.name} ({task.kind.replace('_', ' ')} of {of}) from {', '.join(config.in_domains)}. Its "
        f"encoder {came}: a vision transformer of width {variant.dim}, depth {variant.depth} and {variant.num_heads} "
        f"heads, patches of {config.patch_size} x {config.patch_size} pixels, with the head {tuned.head.kind}. It was "
        f"fine-tuned on images of {height} x {width} pixels, and takes any subset of its inputs.\n\n{_outputs(task)}"
    )


def _outputs(task: Task) -> str:
    """A table of the classes, or of the targets."""
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if task.regression:
        head = ("target", "units", "mean", "standard deviation")
        rows = [
            (plain(name), plain(unit), number(mean), number(std))
            for name, unit, mean, std in zip(task.targets, task.units, task.mean, task.std, strict=True)
        ]
    else:
        head = ("code", "class")
        rows = [(str(code), plain(name)) for code, name in zip(task.codes, task.classes, strict=True)]
    shown = markdown_table(head, rows[:_SHOWN])
    return shown if len(rows) <= _SHOWN else f"{shown}\n\nAnd {len(rows) - _SHOWN} more: see config.json."


def tuned_use(saved: SavedModel) -> str:
    """How predictions are made in Python and on the command line."""
    rows = saved.table.values()
    dataset = next(iter(rows)).dataset if saved.tuned else ""
    bands = [name for row in rows if row.dataset == dataset for name in row.band_names]
    level = ', level="l2a"' if any(row.by_level for row in rows if row.dataset == dataset) else ""
    return (
        "```python\nimport mmae\n\n"
        'model = mmae.load_encoder("THIS_FOLDER_OR_ITS_NAME_ON_THE_HUB")\n'
        f'predicted = model.predict({{"{dataset}": array_BCHW}}, bands={{"{dataset}": {_quoted(bands)}}}{level})\n'
        "```\n\n`mmae predict MODEL SCENE OUT` predicts a whole scene. Here classes come as probabilities, and numbers "
        "in their units."
    )


def _quoted(bands: list[str]) -> str:
    return "[" + ", ".join(f'"{plain(band)}"' for band in dict.fromkeys(bands)) + "]"


def tuned_training(saved: SavedModel) -> Iterator[tuple[str, str]]:
    """Rows on the pretrained model and on the recipe of fine-tuning."""
    for key, words in ((BASE, "fine-tuned from"), ("base_step", "step of that model"), (BASE_LICENSE, "its licence")):
        if key in saved.extra:
            yield words, plain(saved.extra[key])
    for key, value in mapping(mapping(saved.extra.get(FINETUNING)).get("recipe")).items():
        yield f"`{plain(key)}`", plain(value)


def tuned_scores(saved: SavedModel) -> str:
    """A table of the scores by split, or a sentence that there are none."""
    rows = [
        (plain(split), plain(metric), number(value))
        for split, metrics in mapping(mapping(saved.extra.get(FINETUNING)).get("scores")).items()
        for metric, value in mapping(metrics).items()
    ]
    return markdown_table(("split", "metric", "value"), rows) if rows else "No scores are known of."
