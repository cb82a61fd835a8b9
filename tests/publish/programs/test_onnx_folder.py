"""onnxruntime computes what `mmae.features` computes, for any batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from tests.support.exported_models import export, image, many_inputs, near, near_the_largest, saved, tells_no_path

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'mmae[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'mmae[onnx]'")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'mmae[onnx]'")

pytestmark = pytest.mark.long
SMALL = (("rgb", "depth", "semseg"), (64, 120), 2)


def ours(model: MultiMAE, values: dict[str, Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        found = features(model, values)
    return [*found.maps.values(), *([found.global_tokens] if model.config.num_global_tokens else [])]


def exported(model: MultiMAE, folder: Path, *words: str) -> Path:
    source = saved(model, folder / "model")
    assert export(source, folder / "onnx", "--format", "onnx", *words) == 0
    tells_no_path(*(folder / "onnx").iterdir())
    return folder / "onnx" / "model.onnx"


def compare(model: MultiMAE, file: Path, names: tuple[str, ...], hw: tuple[int, int]) -> None:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(names)
    for batch in (1, 3, 7):
        values = {name: image(name, batch, hw, seed=batch) for name in names}
        found = session.run(None, {name: value.numpy() for name, value in values.items()})
        for theirs, mine in zip(found, ours(model, values), strict=True):
            near_the_largest(torch.from_numpy(theirs), mine)
            if model.config.size == "nano":
                near(torch.from_numpy(theirs), mine)


def test_onnxruntime_computes_the_features_and_the_file_says_what_it_takes(tmp_path: Path) -> None:
    names, hw, number = SMALL
    model = many_inputs(num_global_tokens=number)
    file = exported(model, tmp_path, "--image-size", "64x120", "--modalities", "semseg,rgb,depth")
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]
    compare(model, file, names, hw)
    said = {prop.key: prop.value for prop in onnx.load(file).metadata_props}
    assert json.loads(said["mmae.outputs"]) == ["rgb_map", "depth_map", "semseg_map", "global_tokens"]
    assert "Nothing is normalised inside" in said["mmae.normalisation"]
    inputs = json.loads(said["mmae.inputs"])
    assert inputs["rgb"]["bands"] == ["B4", "B3", "B2"]
    assert inputs["rgb"]["statistics_by_level"]["l2a"] == {"mean": [2003, 2002, 2001], "std": [4.5, 3.5, 2.5]}
    assert inputs["depth"]["standardised_by_tile"] is True
    assert inputs["semseg"]["shape"] == ["batch", 16, 30]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "base"])
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("names", [("rgb",), None], ids=["one", "all"])
def test_onnxruntime_computes_the_features_of_larger_models(
    names: tuple[str, ...] | None, number: int, size: str, tmp_path: Path
) -> None:
    model = many_inputs(size, number)
    file = exported(model, tmp_path, *(("--modalities", ",".join(names)) if names else ()))
    compare(model, file, names or model.config.in_domains, (56, 56))


@pytest.mark.slow
def test_weights_beyond_a_protobuf_message_lie_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmae.publish.programs.onnx_folder.LARGEST_FILE", 1 << 16)
    model = many_inputs()
    file = exported(model, tmp_path, "--modalities", "rgb")
    assert {path.name for path in file.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    compare(model, file, ("rgb",), (56, 56))


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_one_line(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "mmae.publish.programs.onnx_folder.find_spec", lambda name: None if name == package else object()
    )
    assert export(tmp_path, tmp_path / "onnx", "--format", "onnx") == 2
    assert f"--format onnx: the package {package} is missing: pip install 'mmae[onnx]'" in capsys.readouterr().err
