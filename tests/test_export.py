"""Where an export goes: looked at first, written whole, and silent on where the run lies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from mmae.cli import main
from mmae.config.schema import Config, ModelConfig, ValConfig
from mmae.engine.checkpoint.consolidate import Trained
from mmae.export import FORMATS as ALL_FORMATS
from mmae.model.mmae import MultiMAE
from mmae.run.folder import RunFolder
from tests.support.full_disk import REASON, files_up_to

CONFIG = Config(model=ModelConfig(size="nano", decoder_dim=16, decoder_num_heads=2, decoder_depth=1))
FORMATS = ("folder", "published")
"""Of these, what every export has is tested here."""


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "secret place" / "run")
    folder.write_configs(CONFIG, {}, {})
    return folder


@pytest.fixture
def trained(run_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Trained(MultiMAE(CONFIG.model), torch.zeros(7), CONFIG, run_folder, {}, 12)
    monkeypatch.setattr("mmae.engine.checkpoint.consolidate.load_trained", lambda *_: found)


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> NoReturn:
        raise AssertionError("minutes of work")

    monkeypatch.setattr("mmae.engine.checkpoint.consolidate.load_trained", load)


def export(run_folder: RunFolder, out: Path, style: str = "folder") -> int:
    return main(["export", str(run_folder.path), str(out), "--format", style])


@pytest.mark.long
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("way", [str, os.path.relpath])
def test_where_the_run_lies_is_not_written(way: Callable[[Path], str], run_folder: RunFolder, tmp_path: Path) -> None:
    moved = replace(run_folder, path=Path(way(run_folder.path)))
    for style in FORMATS:
        assert export(moved, tmp_path / "out" / style, style) == 0
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 4
    assert not any(b"secret" in content or bytes(tmp_path) in content for content in written)
    extra = json.loads((tmp_path / "out" / "folder" / "config.json").read_text())["extra"]
    assert (extra["run"], extra["step"]) == ("run", 12)


def keep_best(run_folder: RunFolder, **losses: float) -> None:
    """Checkpoints whose validation losses are these, by the names of their folders."""
    checkpoint = replace(CONFIG.checkpoint, keep_best="val.loss")
    run_folder.write_configs(replace(CONFIG, val=ValConfig(1), checkpoint=checkpoint), {}, {})
    for name, loss in losses.items():
        (run_folder.checkpoints / name).mkdir(parents=True)
        (run_folder.checkpoints / name / "state.json").write_text(json.dumps({"scores": {"val.loss": loss}}))


def test_the_best_checkpoint_is_exported_where_it_is_asked_for(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_best(run_folder, global_step5=3.0, global_step10=2.0, global_step15=2.5)
    steps: list[tuple[int | None, bool]] = []

    def load(run: str, step: int | None, trust: bool, averaged: bool) -> Trained:
        steps.append((step, averaged))
        return Trained(MultiMAE(CONFIG.model), torch.zeros(7), CONFIG, run_folder, {}, 12)

    monkeypatch.setattr("mmae.engine.checkpoint.consolidate.load_trained", load)
    assert main(["export", str(run_folder.path), str(tmp_path / "best"), "--best"]) == 0
    assert main(["export", str(run_folder.path), str(tmp_path / "latest")]) == 0
    assert main(["export", str(run_folder.path), str(tmp_path / "averaged"), "--best", "--ema"]) == 0
    assert steps == [(10, False), (None, False), (10, True)]


@pytest.mark.usefixtures("never_loaded")
def test_without_a_best_checkpoint_none_is_exported(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(run_folder.path), str(tmp_path / "out"), "--best"]
    assert main(words) == 2
    assert "its recipe keeps no best checkpoint (checkpoint.keep_best): give --step" in capsys.readouterr().err
    keep_best(run_folder, global_step5=float("nan"))
    assert main(words) == 2
    assert "no checkpoint has a score val.loss (there are: global_step5): give --step" in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out"), "--best"]) == 2
    assert "is a model folder, which holds one step only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("trained")
def test_the_card_is_written_again_for_a_folder_that_is_exported_again(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again, last = (tmp_path / name for name in ("first", "again", "last"))
    assert main(["export", str(run_folder.path), str(first), "--license", "cc-by-4.0"]) == 0
    assert main(["export", str(first), str(again)]) == 0
    assert (again / "README.md").read_text() == (first / "README.md").read_text()
    assert "license: cc-by-4.0" in (again / "README.md").read_text()
    assert main(["export", str(first), str(last), "--license", "mit"]) == 0
    assert "license: mit" in (last / "README.md").read_text()
    assert main(["export", str(first), str(tmp_path / "none"), "--license", "My own"]) == 2
    assert capsys.readouterr().err.startswith("mmae: error: --license My own: say its identifier")
    assert main(["export", str(first), str(tmp_path / "file"), "--format", "published", "--license", "mit"]) == 2


@pytest.mark.usefixtures("trained")
def test_a_stranger_s_licence_is_refused_unless_another_is_said(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert main(["export", str(run_folder.path), str(first)]) == 0
    config = json.loads((first / "config.json").read_text())
    config["extra"]["license"] = {"mit": "x"}
    (first / "config.json").write_text(json.dumps(config))
    assert main(["export", str(first), str(again)]) == 2
    assert "config.json: extra.license is {'mit': 'x'}" in capsys.readouterr().err
    assert not again.exists()
    assert main(["export", str(first), str(again), "--license", "mit"]) == 0
    assert "license: mit" in (again / "README.md").read_text()


@pytest.mark.usefixtures("trained")
def test_the_run_that_one_stands_in_has_its_name(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder.path)
    assert export(RunFolder(Path()), tmp_path / "model") == 0
    assert json.loads((tmp_path / "model" / "config.json").read_text())["extra"]["run"] == "run"


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("style", ALL_FORMATS)
def test_the_place_is_looked_at_first(
    style: str, run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if style == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed: pip install 'mmae[onnx]'")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/below"), run_folder.path):
        assert export(run_folder, out, style) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"mmae: error: {out}")
        assert said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("ending", ["/", "/.", "/.."])
@pytest.mark.parametrize("style", ["published", "torch-export"])
def test_a_format_of_one_file_refuses_the_name_of_a_folder(
    style: str, ending: str, run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"{tmp_path}/new.pt2{ending}"
    assert main(["export", str(run_folder.path), out, "--format", style]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mmae: error: {out} names a folder, and this format writes one file")
    assert said.count("\n") == 1
    assert not (tmp_path / "new.pt2").exists()


@pytest.mark.usefixtures("never_loaded")
def test_the_disk_is_measured_first(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmae.disk.free_space.shutil.disk_usage", lambda _: Full)
    assert export(run_folder, tmp_path / "new" / "model") == 2
    assert "new: 0.1 MB are free and" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


class Full:
    free = 100_000


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("style", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    style: str, run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.rglob("*"))
    with files_up_to(20_000):
        assert export(run_folder, tmp_path / "model", style) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mmae: error: {tmp_path / 'model'}: cannot be written ({REASON}")
    assert said.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("never_loaded")
def test_an_option_of_another_format_is_refused(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    option = {"--side": {"type": int, "help": "pixels"}}
    monkeypatch.setattr("mmae.publish.published_file.OPTIONS", option)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "published: pixels" in capsys.readouterr().out
    assert main(["export", str(run_folder.path), str(tmp_path / "model"), "--side", "56"]) == 2
    assert capsys.readouterr().err == "mmae: error: --side: --format folder does not take it; leave it out\n"
