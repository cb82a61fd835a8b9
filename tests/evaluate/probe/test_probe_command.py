"""`mmae probe` on a small set, whose classes can be seen in its images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mmae.cli import main
from mmae.config.schema import ModelConfig
from mmae.disk.named_arrays import load_arrays
from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.evaluate.frozen.methods import Logistic
from mmae.evaluate.frozen.token_vectors import default_blocks, encoded_blocks
from mmae.evaluate.probe import feature_bytes, probe_features, scoring
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from tests.support.probe_case import DATASETS, write_probe_set
from tests.support.scenes import STATS

CONFIG = ModelConfig(
    size="nano", in_domains=("rgb", "depth", "sired"), out_domains=("rgb",), input_size=16,
    num_encoded_tokens=6, decoder_dim=32, decoder_depth=1, decoder_num_heads=4,
)  # fmt: skip
QUICK = ("--k=5", "--folds=20", "--block-km=100", "--gap-km=10", "--min-class=2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, MultiMAE(CONFIG, seed=3), STATS)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_probe_set(tmp_path_factory.mktemp("sets") / "shards")


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two strengths and two blocks instead of eleven and four: what is tested here does not depend on them."""
    monkeypatch.setattr(scoring, "Logistic", lambda settings=(): Logistic((0.1, 1.0)))
    for module in (probe_features, feature_bytes):
        monkeypatch.setattr(module, "default_blocks", lambda depth: (0, depth - 1))


def probe(model: Path, shards: Path, features: Path, *words: str) -> int:
    # What is said last counts.
    return main(["probe", str(model), "--shards", str(shards), "--features", str(features), *QUICK, *words])


def told(model: Path, shards: Path, tmp_path: Path, *words: str, name: str = "out") -> dict[str, Any]:
    path = tmp_path / f"{name}.json"
    assert probe(model, shards, tmp_path / "features", "--json", str(path), *words) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def refused(capsys: pytest.CaptureFixture[str], status: int) -> str:
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.long
def test_every_task_stands_beside_its_baselines_and_what_images_show_is_found(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed: list[int] = []
    monkeypatch.setattr(FeatureStore, "check_space", lambda root, count: needed.append(count))
    found = told(model, shards, tmp_path)
    arrays = [array for path in tmp_path.rglob("tiles-*.npz") for array in load_arrays(path).values()]
    # Labels take less than is asked for: they have fewer pixels than images, or one number a tile.
    assert 0.8 < sum(array.nbytes for array in arrays) / sum(needed) < 1.02
    by = {(row["task"], row["method"], row["features"]): row for row in found["rows"]}
    for task, method in (("biome", "kNN 5"), ("biome", "linear"), ("land_cover", "linear"), ("elevation", "ridge")):
        for features in probe_features.FEATURE_SETS:
            row = by[task, method, features]
            assert row["low"] <= row["score"] <= row["high"]
        assert by[task, method, "encoder"]["over_untrained_low"] is not None
    assert by["biome", "linear", "encoder"]["score"] > 0.9
    assert by["land_cover", "linear", "statistics"]["score"] > 0.9
    assert by["elevation", "ridge", "statistics"]["also_score"] > 0.8
    assert ("month beyond latitude", "ridge", "encoder") in by
    assert by["latitude", "linear", "month alone"]["also"] == "R2"
    assert {row["features"] for row in found["diagnostics"]} == set(probe_features.FEATURE_SETS)
    assert any(note.startswith("left out: canopy_height: no tile") for note in found["notes"])
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) <= 100
    assert "RankMe" in text


def test_a_disk_without_room_is_said_before_features_are_computed(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmae.disk.free_space.shutil.disk_usage", lambda _: SimpleNamespace(free=60_000))
    monkeypatch.setattr(probe_features, "encoded_blocks", pytest.fail)
    line = refused(capsys, probe(model, shards, tmp_path / "features", "--tasks", "biome,land_cover"))
    # Class ids are a byte and a bit of 96 tiles; patches of 18 tiles would not fit any more.
    assert "features: 0.1 MB are free and" in line
    assert "make room, or choose another folder for features" in line


@pytest.mark.long
def test_features_and_fits_are_kept_and_an_interrupted_probe_goes_on(
    model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--tasks", "biome,elevation")
    monkeypatch.setattr(probe_features, "_CHUNK", 40)
    calls: list[Any] = []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encoded_blocks(*args)

    monkeypatch.setattr(probe_features, "encoded_blocks", failing)
    with pytest.raises(KeyboardInterrupt):
        scoring_of(model, shards, tmp_path, *words)
    first = told(model, shards, tmp_path, *words, name="first")
    # Chunks have two, two and one batch, for two encoders each; the first chunk was kept.
    assert len(calls) == 5 + 4 + 2
    monkeypatch.setattr(probe_features, "encoded_blocks", pytest.fail)
    monkeypatch.setattr("mmae.evaluate.probe.kept_fits.probe", pytest.fail)
    assert told(model, shards, tmp_path, *words, name="second") == first


def scoring_of(model: Path, shards: Path, tmp_path: Path, *words: str) -> None:
    """The probe without the command's own handling of interrupts."""
    from mmae.cli import _run_command

    argv = [str(model), "--shards", str(shards), "--features", str(tmp_path / "features"), *QUICK, *words]
    _run_command("mmae probe", "", "mmae.evaluate.probe.command", argv)


@pytest.mark.process
def test_two_processes_give_the_same_bits(
    model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes that are started know nothing of replaced functions.
    monkeypatch.setattr(probe_features, "default_blocks", default_blocks)
    words = ("--tasks", "biome")
    one = told(model, shards, tmp_path, *words, "--features", str(tmp_path / "one"), name="one")
    two = told(model, shards, tmp_path, *words, "--features", str(tmp_path / "two"), "--processes", "2", name="two")
    assert one == two
    for path in (tmp_path / "one").rglob("*.npz"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        with np.load(path) as first, np.load(other) as second:
            assert all(np.array_equal(first[key], second[key], equal_nan=first[key].dtype.kind == "f") for key in first)


@pytest.mark.long
def test_the_shards_own_parts_shares_of_labels_and_seeds(model: Path, shards: Path, tmp_path: Path) -> None:
    words = ("--tasks", "biome,month", "--splits", "shards", "--fractions", "0.5,1", "--seeds", "2", "--k", "3",
             "--min-class", "2")  # fmt: skip
    found = told(model, shards, tmp_path, *words)
    assert [part["test"] for part in found["parts"]] == [24, 24]
    assert any("the shards' val is the test part here" in note for note in found["notes"])
    rows = [row for row in found["rows"] if row["features"] == "encoder" and row["method"] == "linear"]
    assert {(row["seed"], row["fraction"]) for row in rows} == {(0, 0.5), (0, 1), (1, 0.5), (1, 1)}
    sizes = {(row["seed"], row["fraction"]): row["train_rows"] for row in rows}
    assert sizes[0, 0.5] < sizes[0, 1]
    assert {row["seeds"] for row in found["seeds"]} == {2}
    # What the other label alone says was fitted to all labels.
    alone = [(row["seed"], row["fraction"]) for row in found["rows"] if row["features"] == "latitude alone"]
    assert alone == [(0, 1.0), (1, 1.0)]


def test_tiles_without_data_are_left_out_and_said(model: Path, tmp_path: Path) -> None:
    holes = write_probe_set(tmp_path / "holes", empty=range(0, 96, 7))
    found = told(model, holes, tmp_path, "--tasks", "elevation,land_cover")
    notes = [note for note in found["notes"] if "without data in any input are left out" in note]
    assert [note.partition(":")[0] for note in notes] == ["land_cover", "elevation"]
    assert [sum(map(int, re.findall(r"(\d+) of", note))) for note in notes] == [14, 14]
    (row,) = (row for row in found["rows"] if (row["task"], row["features"]) == ("elevation", "encoder"))
    (parts,) = found["parts"]
    assert row["rows"] < parts["test"]


def test_what_cannot_be_probed_is_one_line(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "features"
    line = refused(capsys, probe(model, shards, features, "--tasks", "biom"))
    assert "--tasks biom: 'biom' is not known; did you mean 'biome'?" in line
    line = refused(capsys, probe(model, shards, features, "--tasks", "canopy_height"))
    assert "canopy_height: no tile of these shards has a label" in line
    line = refused(capsys, probe(model, shards, features, "--tasks", "biome", "--min-class", "500"))
    assert "0 classes with 500 tiles in train" in line
    line = refused(capsys, probe(model, shards, features, "--block-km", "15000"))
    assert "say a smaller --block-km" in line
    line = refused(capsys, probe(model, shards, features, "--step", "100"))
    assert "only runs have steps" in line
    line = refused(capsys, probe(model, shards, features, "--fractions", "2"))
    assert "label fraction 2" in line
    line = refused(capsys, probe(tmp_path / "none", shards, features))
    assert "does not exist" in line
    (tmp_path / "there.json").write_text("")
    line = refused(capsys, probe(model, shards, features, "--json", str(tmp_path / "there.json")))
    assert "exists already" in line


@pytest.mark.long
def test_fewer_tiles_than_k_weights_that_diverged_and_missing_bands_are_one_line(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "features"
    line = refused(capsys, probe(model, shards, features, "--tasks", "biome", "--k", "90"))
    assert "kNN with k 90: only" in line
    depth = ModelConfig(**{**vars(CONFIG), "in_domains": ("depth",), "num_encoded_tokens": 3})
    save_model(tmp_path / "depth", MultiMAE(depth, seed=0), STATS)
    line = refused(capsys, probe(tmp_path / "depth", shards, features, "--tasks", "land_cover"))
    assert "land_cover needs an input of sentinel2" in line
    broken = MultiMAE(CONFIG, seed=0)
    with torch.no_grad():
        next(iter(broken.encoder.blocks[0].parameters()))[0] = torch.inf
    save_model(tmp_path / "broken", broken, STATS)
    line = refused(capsys, probe(tmp_path / "broken", shards, features, "--tasks", "biome"))
    assert "are not finite" in line
    few = write_probe_set(tmp_path / "few", {name: DATASETS[name] for name in ("sentinel2", "aster")})
    line = refused(capsys, probe(model, few, features, "--tasks", "land_cover"))
    assert "land_cover needs esa_worldcover, which the shards do not hold" in line
