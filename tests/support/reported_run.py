"""A run's folder as a training leaves it, written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmae.config.recipe_file import build_config
from mmae.run.folder import RunFolder
from mmae.run.layout import TILES_KEY

START = {"step": 0, "time": 1000.0, "max_steps": 100, "stop": 100, "world": 2, "micro_batch": 4, "accumulation": 1,
         "zero_stage": 1, "precision": "bf16", "host": "node", "pid": 1, "log_every": 10, "steps_per_epoch": 7,
         "device_peak_tflops": None, "validation_tiles": 5, "checkpoint_every": 50}  # fmt: skip


def step_record(step: int, **more: Any) -> dict[str, Any]:
    losses = {"rgb": 2 / (1 + step), "semseg": 1.0}
    return {
        "kind": "train", "time": 1000.0 + step, "step": step, "loss": sum(losses.values()), "losses": losses,
        "loss_mean": 1.5 + 1 / (1 + step), "scored": {"rgb": 8, "semseg": 8}, "lr": 1e-3, "grad_norm": 0.5, "mfu": None,
        "skipped_steps": 0, "tiles_per_second": 9.0, "data_wait_share": 0.01, "peak_memory_gb": 1.0, "slowest_rank": 0,
        "slowest_step_seconds": 0.6, "median_step_seconds": 0.5, "step_seconds": 1.0, **more,
    }  # fmt: skip


def val_record(step: int, **more: Any) -> dict[str, Any]:
    losses = {"rgb": 1.0, "semseg": 2.0}
    return {"kind": "val", "time": 1000.0 + step, "step": step, "losses": losses, "scored": {"rgb": 5, "semseg": 5},
            "lost": {}, "seconds": 1.0, **more}  # fmt: skip


def history(last: int = 100) -> list[dict[str, Any]]:
    """Ten steps apart, with a save and a validation in the middle and at the end."""
    records: list[dict[str, Any]] = [{"kind": "start", **START}]
    for step in range(10, last + 1, 10):
        records.append(step_record(step))
        if step % 50 == 0:
            records.append(val_record(step))
            records.append({"kind": "save", "time": 1000.0 + step, "step": step, "checkpoint": "c", "bytes": 1})
    return [*records, {"kind": "end", "time": 2000.0, "step": last, "why": "finished", "reasons": []}]


def write_run(folder: Path, records: Sequence[dict[str, Any]] | None = None, pictures: int = 0, **keys: Any) -> Path:
    """The folder of a run with these records.

    Args:
        keys: recipe keys with two underscores for the dot.
    """
    flat = {"run.dir": str(folder), **{key.replace("__", "."): value for key, value in keys.items()}}
    RunFolder(folder).write_configs(build_config(flat, "test"), {}, {})
    lines = [json.dumps(record) for record in (history() if records is None else records)]
    (folder / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for number in range(1, pictures + 1):
        write_picture(folder / "pictures" / f"step_{number * 10}.png", seed=number)
    return folder


def write_picture(path: Path, seed: int = 0, tiles: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text(TILES_KEY, str(tiles))
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 10 * tiles, 3), np.uint8)
    Image.fromarray(pixels).resize((948 * tiles, 1224), Image.Resampling.NEAREST).save(path, pnginfo=info)
