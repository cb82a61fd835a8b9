"""Bad input to whole commands: one line that names the file and the remedy, status 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.support.commands import SMALL, Command, Finished, run_command


def one_line(done: Finished, *says: str) -> None:
    """Status 2, and the last line on stderr is the message."""
    assert done.status == 2, done.out + done.err
    lines = [line for line in done.err.splitlines() if "error:" in line]
    assert len(lines) == 1, done.err
    assert "Traceback" not in done.err
    for word in says:
        assert word in lines[0]


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    assert run_command("mmae", "synth", "tiles", "--tiles", "16", cwd=folder).status == 0
    return folder / "tiles"


@pytest.fixture
def source(tiles: Path, tmp_path: Path) -> Path:
    """A copy of a small data set that a test may damage."""
    return Path(shutil.copytree(tiles, tmp_path / "tiles"))


def test_missing_and_truncated_hdf5(source: Path, command: Command, tmp_path: Path) -> None:
    one_line(command("mmae", "repack", "nowhere", "out"), "nowhere")
    h5 = source / "tiles.h5"
    h5.write_bytes(h5.read_bytes()[: h5.stat().st_size // 2])
    one_line(command("mmae", "repack", source, "out"), "tiles.h5")
    assert not list(tmp_path.glob("out/*.tar"))


def test_missing_and_foreign_json(source: Path, here: Command, tmp_path: Path) -> None:
    splits = source / "tiles_splits.json"
    good = splits.read_text()
    splits.write_text(json.dumps({**json.loads(good), "val": [10_000]}))
    one_line(here("repack", source, "out"), "tiles_splits.json", "val")
    splits.write_text(json.dumps({"train": [], "val": [0], "test": []}))
    one_line(here("repack", source, "out"), "train")
    splits.write_text(good)
    info = source / "tiles_tile_info.json"
    info.write_text("{}")
    one_line(here("repack", source, "out"), "tiles_tile_info.json")
    info.unlink()
    one_line(here("repack", source, "out"), "tiles_tile_info.json")
    assert not list(tmp_path.glob("out/*.tar"))


def test_an_output_folder_that_holds_another_data_set(source: Path, here: Command, tmp_path: Path) -> None:
    assert here("repack", source, "out").status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert here("synth", "other", "--tiles", "16", "--seed", "9").status == 0
    one_line(here("repack", "other", "out"), "out")
    one_line(here("repack", source, "out", "--codec", "fast"), "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def train(here: Command, shards: Path, *words: str, config: str = "debug", ds: str = "zero1") -> Finished:
    return here(
        "train", "--config", config, "--deepspeed_config", ds, f"data.shards={shards}", "run.dir=run",
        *SMALL, *words,
    )  # fmt: skip


def test_what_a_training_refuses(synthetic_shards: Path, here: Command, command: Command, tmp_path: Path) -> None:
    started = partial(command, "mmae")
    one_line(train(started, tmp_path / "none"), "none", "mmae repack")
    one_line(train(here, synthetic_shards, "model.input_size=60"), "model.input_size=60", "64")
    one_line(train(here, synthetic_shards, "model.input_size=128"), "128")
    one_line(train(here, synthetic_shards, "model.sise=tiny"), "model.size")
    one_line(train(here, synthetic_shards, "train.global_batch=4096"), "train.global_batch")
    (tmp_path / "recipe.yaml").write_text("train: {max_step: 3}\n")
    one_line(train(here, synthetic_shards, config="recipe.yaml"), "recipe.yaml", "train.max_steps")
    (tmp_path / "ds.json").write_text('{"train_batch_size": 3}')
    one_line(train(here, synthetic_shards, ds="./ds.json"), "ds.json", "contradicts the recipe")
    (tmp_path / "ds.json").write_text('{"zero_optimisation": {"stage": 1}}')
    one_line(train(here, synthetic_shards, ds="./ds.json"), "ds.json", "zero_optimization")
    one_line(train(started, synthetic_shards, "model.init_from=elsewhere"), "elsewhere/config.json", "mmae export")
    assert not (tmp_path / "run").exists()


def test_shards_of_a_newer_format_and_shards_without_a_dataset(
    synthetic_shards: Path, here: Command, tmp_path: Path
) -> None:
    newer = Path(shutil.copytree(synthetic_shards, tmp_path / "newer"))
    index = json.loads((newer / "index.json").read_text())
    (newer / "index.json").write_text(json.dumps({**index, "version": 99}))
    one_line(train(here, newer), "newer", "99")
    source = synthetic_shards.parent / "tiles"
    assert here("repack", source, "few", "--datasets", "sentinel2,aster").status == 0
    one_line(train(here, tmp_path / "few"), "esa_worldcover", "semseg")


def test_a_folder_that_holds_no_run_is_left_alone(synthetic_shards: Path, here: Command, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    one_line(train(here, synthetic_shards), "run", "another run.dir")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_commands_on_folders_that_are_no_runs(here: Command, tmp_path: Path) -> None:
    one_line(here("export", "nowhere", "out"), "nowhere", "no run lives here")
    one_line(here("reconstruct", "nowhere"), "nowhere")
    one_line(here("baseline", "nowhere"), "nowhere")
    assert list(tmp_path.iterdir()) == []
