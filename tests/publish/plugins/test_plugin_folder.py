"""A plug-in's folder: code that knows nothing of this project, and a configuration with the model's own numbers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from tests.support.exported_models import export, many_inputs, saved

FORMATS = {"terratorch": "mmae_terratorch", "torchgeo-bench": "mmae_torchgeo_bench"}
LEVEL = ("--level", "l2a")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(many_inputs(), tmp_path_factory.mktemp("source") / "model")


@pytest.mark.parametrize("style", FORMATS)
def test_the_code_imports_nothing_of_this_project(style: str, source: Path, tmp_path: Path) -> None:
    assert export(source, tmp_path / "out", "--format", style, *LEVEL) == 0
    files = list((tmp_path / "out" / FORMATS[style]).glob("*.py"))
    assert {"__init__.py", "plain_encoder.py"} <= {file.name for file in files}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] != "mmae"
                # What it imports of its own package lies beside it.
                if name.startswith(FORMATS[style]):
                    assert (file.parent / f"{name.rpartition('.')[2]}.py").is_file()


def test_terratorchs_configuration_normalises_as_training_did(source: Path, tmp_path: Path) -> None:
    words = ("--format", "terratorch", "--level", "l1c", "--modalities", "ebands,rgb")
    assert export(source, tmp_path / "out", *words) == 0
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["data"]["init_args"]["means"] == [1003, 1002, 1001, 1007, 1008]
    assert config["data"]["init_args"]["stds"] == [4.5, 3.5, 2.5, 8.5, 9.5]
    assert config["custom_modules_path"] == "mmae_terratorch"
    arguments = config["model"]["init_args"]["model_args"]
    assert (arguments["backbone"], arguments["necks"][0]["indices"]) == ("mmae_encoder", [0, 0, 0, 1])


def test_four_outputs_lie_evenly_over_the_depth(tmp_path: Path) -> None:
    assert export(saved(many_inputs("tiny"), tmp_path / "m"), tmp_path / "out", "--format", "terratorch", *LEVEL) == 0
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["model"]["init_args"]["model_args"]["necks"][0]["indices"] == [2, 5, 8, 11]


def test_torchgeo_bench_gets_the_bands_of_sentinel_2(source: Path, tmp_path: Path) -> None:
    assert export(source, tmp_path / "out", "--format", "torchgeo-bench", *LEVEL) == 0
    table = yaml.safe_load((tmp_path / "out" / "mmae_torchgeo_bench" / "encoder.json").read_text())
    assert list(table["inputs"]) == ["rgb", "ired", "sired", "ebands"]
    config = yaml.safe_load((tmp_path / "out" / "conf" / "model" / "mmae.yaml").read_text())
    assert config == {"_target_": "mmae_torchgeo_bench.MmaeBench", "name": "mmae-nano", "pooling": "mean"}


@pytest.mark.parametrize(
    ("style", "words", "message"),
    [
        ("terratorch", ("--modalities", "rgb,semseg", *LEVEL), "--modalities: semseg holds class ids"),
        ("terratorch", ("--modalities", "rbg", *LEVEL), "'rbg' is not an input of this model; did you mean 'rgb'?"),
        ("terratorch", ("--modalities", "rgb"), "band statistics of l1c and l2a: choose one with --level"),
        ("terratorch", ("--modalities", "depth", *LEVEL), "--level l2a: elevation are the same at every level"),
        ("terratorch", ("--modalities", "rgb", "--image-size", "56"), "--image-size: --format terratorch does not"),
        ("torchgeo-bench", ("--modalities", "rgb,depth", *LEVEL), "--modalities: depth is not of Sentinel-2"),
        ("torchgeo-bench", ("--modality", "rgb", *LEVEL), "--modality: --format torchgeo-bench does not take it"),
    ],
)
def test_what_does_not_fit_is_one_line(
    style: str, words: tuple[str, ...], message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(source, tmp_path / "out", "--format", style, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_stays(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for style in FORMATS:
        assert export(source, tmp_path, "--format", style, *LEVEL) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
