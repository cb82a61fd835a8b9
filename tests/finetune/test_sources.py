"""`mmae finetune` as a whole on labelled data that is not in shards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from mmae.cli import main
from tests.support.commands import BIN, free_port, run_command
from tests.support.finetuned_models import pretrained
from tests.support.geobench_suite import write_task
from tests.support.labelled_images import SIDE, place_of, write_eurosat, write_images, write_masks
from tests.support.live import records_so_far
from tests.support.mmearth_bench import write_bench
from tests.support.tuning_case import SMALL

pytestmark = pytest.mark.process

NAMES = tuple(f"{split}/{number}" for split in ("train", "val", "test") for number in range(5))
MODULE = "mmae.finetune.command"


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What a start in this process sets is undone."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def words(folder: Path, kind: str, data: Path, task_kind: str, *more: str) -> list[str]:
    recipe = {"pixel_regression": "regression"}.get(task_kind, task_kind)
    head = "patch_linear" if task_kind in {"segmentation", "pixel_regression"} else "linear"
    given = {word.partition("=")[0] for word in (*more, "data.check_units=")}
    return [
        "--config", f"finetune_{recipe}", f"task.kind={task_kind}", f"model.head={head}", f"source.kind={kind}",
        f"source.folder={data}", f"run.dir={folder / 'run'}",
        *(word for word in SMALL if word.partition("=")[0] not in given), *more,
    ]  # fmt: skip


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    return found


def images(folder: Path, bands: tuple[str, ...] = ("B2", "B3", "B4", "B8")) -> tuple[Path, Path]:
    return write_images(folder / "images", NAMES, bands), write_masks(folder / "masks", NAMES)


def test_images_with_masks_start_from_a_model_whose_bands_they_have_in_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, masks = images(tmp_path)
    model = pretrained(tmp_path / "model")
    more = (f"source.masks={masks}", "source.level=l2a", f"model.init_from={model}", "model.input_size=8")
    call = [word for word in words(tmp_path, "geotiffs", folder, "segmentation", *more) if "in_domains" not in word]
    assert main(["finetune", *call]) == 0
    said = capsys.readouterr().err
    for line in (
        "15 samples of 16x16 pixels (test 5, train 5, val 5)",
        "bands that match sentinel2: B2, B3, B4, B8 (reflectance x 10000, l2a)",
        "the data has no band of the model's inputs depth, semseg: left out",
        "ebands is made of B8: the data has no B8A",
        "ebands keeps B8, lacks B8A; its kernel is scaled by 2/1",
    ):
        assert line in said
    run = tmp_path / "run"
    assert results(run)["test"]["tiles"] == 5
    assert (run / "pictures" / "samples.png").is_file()
    maps = sorted((run / "predictions").glob("*.tif"))
    assert len(maps) == 5
    with rasterio.open(maps[2]) as file:
        # A sample is the middle of its tile.
        moved = (0, 0, 40.0, 0, 0, -40.0)
        assert tuple(file.transform)[:6] == tuple(np.add(place_of(NAMES.index("test/2")), moved))
        assert (file.width, file.crs.to_epsg()) == (SIDE // 2, 32632)
        assert set(np.unique(file.read(1))) <= {3, 7}


def test_a_task_of_geobench_leaves_scores_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(tmp_path / "suite", "m-forestnet", (8, 4, 4))
    more = ("source.task=m-forestnet", "model.in_domains=[rgb,ebands]")
    call = words(tmp_path, "geobench1", tmp_path / "suite", "classification", *more)
    assert main(["finetune", *call]) == 0
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "run" / "predictions" / "test.parquet").to_pydict()
    assert table["key"] == [f"sample_{number:04d}" for number in range(12, 16)]
    assert table["label"] == ["class 0", "class 1", "class 2", "class 3"]
    assert np.isfinite(table["latitude"]).all()
    recipe = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(recipe)
    assert "numbers without units" in capsys.readouterr().err


FAULTS = {
    "data.test_split=nowhere": "no tile in split 'nowhere'",
    "data.shards=S": "both say where the tiles lie",
    "model.in_domains=[rgb,depth]": "no band of the inputs depth is there",
    "model.bands=[ired:B5]": "model.bands names ired",
    "source.partition=0.5x": "source.partition is for source.kind=geobench1 or mmearth-bench",
    "task.kind=regression": "source.masks is for segmentation or pixel_regression",
    "data.normalise=model": "data.normalise=model needs a pretrained model",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recipe_that_does_not_fit_ends_with_one_line(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, masks = images(tmp_path)
    more = (f"source.masks={masks}", "source.level=l2a", "model.in_domains=[rgb]")
    kept = [word for word in more if word.partition("=")[0] != fault.partition("=")[0]]
    call = words(tmp_path, "geotiffs", folder, "segmentation", *kept, fault)
    assert main(["finetune", *call]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if FAULTS[fault] in line] == lines[-1:]
    assert not (tmp_path / "run").exists()


OTHERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "m-bigearthnet": ("geobench1", "multilabel", ()),
    "m-so2sat": ("geobench1", "classification", ("model.in_domains=[rgb,sentinel1]",)),
    "m-cashew-plant": ("geobench1", "segmentation", ("train.cutmix=1.0",)),
    "soil_pH": ("mmearth-bench", "regression", ("data.test_split=geographic_test", "model.in_domains=[rgb,semseg]")),
    "biomass": ("mmearth-bench", "pixel_regression", ("data.test_split=random_test",)),
    "species": ("mmearth-bench", "multilabel", ("data.test_split=random_test", "data.val_fraction=0.3")),
    "EuroSAT": ("torchgeo", "classification", ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHERS)
def test_every_source_trains_and_is_scored(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, task_kind, more = OTHERS[task]
    if kind == "torchgeo":
        pytest.importorskip("torchgeo", reason="torchgeo is missing: pip install 'mmae[torchgeo]'")
        write_eurosat(tmp_path / "data")
    elif kind == "geobench1":
        write_task(tmp_path / "data", task, (12, 6, 6))
    else:
        write_bench(tmp_path / "data", task)
    call = words(tmp_path, kind, tmp_path / "data", task_kind, f"source.task={task}", *more)
    assert main(["finetune", *call]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line["step"] == 6
    assert (tmp_path / "run" / "predictions").is_dir()
    # A run that has ended is not scored again, so the source is the same as before.
    assert main(["finetune", *call]) == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["test"] == line["test"]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["geotiffs", "geobench1"])
def test_two_ranks_have_the_losses_and_scores_of_one(source: str, tmp_path: Path) -> None:
    more = ["train.cutmix=1.0", "train.random_erase=0.5", "train.micro_batch=4", "train.max_steps=8", "data.workers=1"]
    if source == "geotiffs":
        data, masks = images(tmp_path)
        more += [f"source.masks={masks}", "source.level=l2a", "model.in_domains=[rgb]"]
    else:
        data = tmp_path / "suite"
        write_task(data, "m-SA-crop-type", (12, 6, 5))
        more.append("source.task=m-SA-crop-type")
    starts = {
        "one": [sys.executable],
        "two": [str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", str(free_port())],
    }
    for name, start in starts.items():
        call = [*start, "-m", MODULE, *words(tmp_path / name, source, data, "segmentation", *more)]
        done = run_command(*call, cwd=tmp_path, deadline=600)
        assert done.status == 0, done.err
    ours, theirs = (records_so_far(tmp_path / name / "run", "train") for name in starts)
    assert len(ours) == 8
    assert [each["loss"] for each in ours] == pytest.approx([each["loss"] for each in theirs], abs=1e-5)
    one, two = (results(tmp_path / name / "run") for name in starts)
    assert one["test"]["confusion"] == two["test"]["confusion"]
    assert one["val"]["scores"] == two["val"]["scores"]
