"""From a trained run to a model somebody else can use: export, load, start from it, draw, compare with constants."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import mmae
from mmae.data.loading.loader import read_batches
from mmae.data.shards.index import open_index
from mmae.data.transforms.preprocess import Preprocess
from mmae.draws import VALIDATION_EPOCH
from mmae.engine.step import prepare
from mmae.losses import sample_losses, scored
from mmae.model.mmae import MultiMAE
from mmae.run.folder import RunFolder
from tests.support.commands import SMALL, Command, Finished, free_port, run_command, train_words
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def trained(synthetic_shards: Path, home: Path) -> Finished:
    """A short float32 training of two ranks, with Weights & Biases offline."""
    words = train_words(synthetic_shards, "run", "train.max_steps=4", "train.precision=fp32", "log.wandb=true")
    done = run_command(*words, cwd=home, WANDB_MODE="offline")
    assert done.status == 0, done.err
    return done


@pytest.fixture(scope="module")
def exported(trained: Finished, home: Path) -> Path:
    done = run_command("mmae", "export", trained.last_json["run_dir"], "model", cwd=home)
    assert done.status == 0, done.err
    return home / "model"


def test_an_exported_model_scores_what_the_training_said(
    trained: Finished, exported: Path, home: Path, synthetic_shards: Path
) -> None:
    model = mmae.load_model(exported)
    assert isinstance(model, MultiMAE)
    assert not model.training
    config = RunFolder(home / "run").stored_config()
    assert config is not None
    index = open_index(synthetic_shards)
    preprocess = Preprocess(config.data, config.model, index.band_stats, torch.device("cpu"))
    sums = torch.zeros(2, len(config.model.outputs), dtype=torch.float64)
    positions = index.positions("val")
    for batch in read_batches(index, config.model.domains, positions, seed=config.train.seed, epoch=VALIDATION_EPOCH):
        inputs, plan = prepare(batch, preprocess, config, train=False)
        with torch.no_grad():
            sums[0] += sample_losses(model(inputs.values, plan), inputs, plan, config.model).sum(1)
        sums[1] += scored(inputs, plan, config.model).sum(1)
    expected = trained.last_json["val_losses"]
    assert dict(zip(config.model.outputs, (sums[0] / sums[1]).tolist(), strict=True)) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_run_folder_holds_what_the_readme_says(trained: Finished, home: Path) -> None:
    run = home / "run"
    assert {
        "config.yaml",
        "ds_config.json",
        "band_stats.json",
        "log.jsonl",
        "checkpoints",
        "logs",
        "pictures",
        "wandb",
    } == {path.name for path in run.iterdir()}
    assert (run / "checkpoints" / "latest").read_text() == "global_step4"
    assert list((run / "wandb").glob("offline-run-*"))
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == [
        "start", "train", "train", "train", "train", "val", "save", "end"
    ]  # fmt: skip
    assert records[0]["gradient_clipping"] == 1.0
    train = records[4]
    assert train["losses"] == trained.last_json["losses"]
    assert sum(train["losses"].values()) == pytest.approx(train["loss"], rel=1e-5)
    assert set(train["hidden_share"]) == {"rgb", "depth", "semseg", "ired", "sired", "ebands"}
    assert train["grad_norm"] > 0
    assert trained.last_json | {"losses": {}, "val_losses": {}} == {
        "run_dir": "run", "step": 4, "tiles_seen": 64, "losses": {}, "val_losses": {},
        "checkpoint": "run/checkpoints/global_step4",
    }  # fmt: skip


def test_an_export_never_overwrites(exported: Path, home: Path, here: Command) -> None:
    before = (exported / "model.safetensors").read_bytes()
    done = here("export", "run", "model", cwd=home)
    assert done.status == 2
    assert "model is not empty" in done.err
    assert (exported / "model.safetensors").read_bytes() == before


def test_the_model_card_tells_what_the_run_knows(trained: Finished, exported: Path, home: Path) -> None:
    card, last = (exported / "README.md").read_text(), trained.last_json
    assert f"| steps | {last['step']} |" in card
    assert f"| tiles seen | {last['tiles_seen']} |" in card
    assert "| packed from | tiles.h5 (tiles: train " in card
    assert f"| rgb | {last['val_losses']['rgb']:.6g} |" in card
    assert "| version of deepspeed | " in card
    assert "| sentinel2_l1c | B4 | " in card
    assert str(home) not in card


def test_a_new_run_starts_from_an_exported_model(
    exported: Path, synthetic_shards: Path, command: Command, here: Command, tmp_path: Path
) -> None:
    # A learning rate of 0 leaves the weights as they were.
    words = train_words(
        synthetic_shards, "next", f"model.init_from={exported}", "train.max_steps=1", "train.blr=0",
        "train.precision=fp32", "model.drop_path=0.1", ranks=1,
    )  # fmt: skip
    done = command(*words)
    assert done.status == 0, done.err
    again = here("export", "next", "copy")
    assert again.status == 0, again.err
    given, taken = mmae.load_model(exported).state_dict(), mmae.load_model(tmp_path / "copy").state_dict()
    assert [name for name in given if not torch.equal(given[name], taken[name])] == []


def test_pictures_show_every_output(trained: Finished, home: Path, here: Command) -> None:
    from PIL import Image

    done = here("reconstruct", "run", "--tiles", "2", cwd=home)
    assert done.status == 0, done.err
    paths = [home / line for line in done.out.splitlines()]
    assert len(paths) == 2
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.shape[0] > 7 * 100
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_constants_are_scored_on_the_same_pixels(trained: Finished, home: Path, here: Command) -> None:
    done = here("baseline", "run", "--json", "table.json", cwd=home)
    assert done.status == 0, done.err
    rows = {row["output"]: row for row in json.loads((home / "table.json").read_text())}
    for name, loss in trained.last_json["val_losses"].items():
        assert rows[name]["last"] == loss
        assert rows[name]["constant"] > 0
    # Normalised patches have mean 0 and unbiased variance 1: predicting 0 costs (values - 1) / values of a patch.
    assert rows["norm_rgb"]["constant"] == pytest.approx(1, abs=0.1)


def test_hidden_modalities_are_told_from_the_others(trained: Finished, home: Path, here: Command) -> None:
    done = here("baseline", "run", "--hide", "depth,semseg", "--json", "hidden.json", cwd=home)
    assert done.status == 0, done.err
    assert "run, step 4: no token of depth, semseg is visible" in done.out
    rows = {row["output"]: row for row in json.loads((home / "hidden.json").read_text())}
    assert rows.keys() == trained.last_json["val_losses"].keys()
    assert all(row["hidden"] > 0 and row["constant"] > 0 for row in rows.values())
    assert {name for name, row in rows.items() if row["accuracy"] is not None} == {"semseg"}
    assert 0 < rows["semseg"]["majority"] < 1


@pytest.mark.slow
def test_accelerate_starts_the_same_training(synthetic_shards: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        "accelerate", "launch", "--config_file", ROOT / "launchers" / "accelerate.yaml",
        "--num_processes", "2", "--main_process_port", str(free_port()), "-m", "mmae.train",
        "--config", "debug", f"data.shards={synthetic_shards}", "run.dir=run", *SMALL, "train.max_steps=2",
    )  # fmt: skip
    assert done.status == 0, done.err
    start = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert start["world"] == 2
    assert done.last_json["step"] == 2


def test_an_error_in_the_trainer_ends_its_loader_too(synthetic_shards: Path, command: Command) -> None:
    """Workers leave SIGTERM to the trainer; they must not keep a trainer that has failed from ending."""
    script = f"""
from mmae.config.recipe_file import load_config
from mmae.data.shards.index import open_index
from mmae.data.loading.loader import train_batches; from mmae.data.sampling.training_tiles import training_positions
from mmae.data.sampling.order import TrainOrder
from mmae.config.batch_split import BatchSplit
config = load_config("debug", ["data.workers=4"])
index = open_index({str(synthetic_shards)!r})
order = TrainOrder(len(training_positions(index, config.data)), 16, 0)
batches = train_batches(index, ["rgb"], config.data, seed=0, order=order, split=BatchSplit(16, 1, 1), rank=0,
                        start_step=0, stop_step=1000, pin=False)
next(batches)
raise RuntimeError("the trainer failed")
"""
    done = command("python", "-W", "ignore", "-c", script)
    assert done.status == 1
    # torch, which watches the workers, says nothing of those that are killed.
    assert done.err.splitlines()[-1] == "RuntimeError: the trainer failed"


def test_help_answers_at_once() -> None:
    from mmae.cli import COMMANDS
    from tests.support.commands import BIN

    for name in COMMANDS:
        words = [str(BIN / "python"), "-X", "importtime", "-m", "mmae", name, "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert not imported & {"torch", "timm", "webdataset", "deepspeed", "h5py"}, name
