"""The encoder that travels with its weights computes what `mmae.features` computes, at any size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from mmae.publish.carried.plain_encoder import PlainEncoder
from tests.support.exported_models import IMAGES, export, image, many_inputs, near, saved

pytestmark = pytest.mark.long


def package(model: MultiMAE, folder: Path, *words: str) -> Path:
    source = saved(model, folder / "model")
    assert export(source, folder / "out", "--format", "terratorch", "--level", "l2a", *words) == 0
    return folder / "out" / "mmae_terratorch"


def compare(model: MultiMAE, encoder: PlainEncoder, names: tuple[str, ...], hw: tuple[int, int]) -> None:
    values = {name: image(name, 2, hw) for name in names}
    with torch.inference_mode():
        blocks, expected = encoder.eval()(values), features(model, values)
    assert len(blocks) == model.variant.depth
    assert tuple(blocks[-1].maps) == tuple(expected.maps)
    for name, value in expected.maps.items():
        near(blocks[-1].maps[name].permute(0, 2, 3, 1), value)
    near(blocks[-1].global_tokens, expected.global_tokens)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("positions", ["fixed", "learned"])
def test_it_computes_the_features_at_any_size(number: int, positions: str, tmp_path: Path) -> None:
    model = many_inputs(num_global_tokens=number, positions=positions)
    encoder = PlainEncoder(package(model, tmp_path))
    for hw in ((56, 56), (64, 120), (224, 224)):
        compare(model, encoder, IMAGES[:4] if hw == (224, 224) else IMAGES, hw)
    compare(model, encoder, ("depth", "ired"), (56, 56))


def test_earlier_blocks_are_those_of_the_encoder(tmp_path: Path) -> None:
    model, values = many_inputs(), {"rgb": image("rgb", 2)}
    blocks = PlainEncoder(package(model, tmp_path)).eval()(values)
    model.encoder.blocks = model.encoder.blocks[:1]
    near(blocks[0].maps["rgb"].permute(0, 2, 3, 1), features(model, values).maps["rgb"])


def test_positions_are_not_trained(tmp_path: Path) -> None:
    encoder = PlainEncoder(package(many_inputs(), tmp_path))
    encoder({"rgb": image("rgb", 1)})[-1].maps["rgb"].sum().backward()
    assert encoder.projections["rgb"].weight.grad is not None
    assert not any(parameter.requires_grad for parameter in encoder.positions.values())


def test_one_image_is_split_into_modalities(tmp_path: Path) -> None:
    encoder = PlainEncoder(package(many_inputs(), tmp_path, "--modalities", "rgb,ebands"))
    parts = encoder.split(torch.arange(5.0)[None, :, None, None])
    assert {name: part.flatten().tolist() for name, part in parts.items()} == {"rgb": [0, 1, 2], "ebands": [3, 4]}
    with pytest.raises(ValueError, match="has 4 channels; the bands are B4, B3, B2, B8A, B8"):
        encoder.split(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="the inputs are rgb, ebands; got depth"):
        encoder({"depth": torch.zeros(1, 1, 8, 8)})


@pytest.mark.parametrize("change", ["removed", "added"])
def test_it_reads_the_weights_strictly(change: str, tmp_path: Path) -> None:
    folder = package(many_inputs(), tmp_path)
    state = load_file(folder / "model.safetensors")
    if change == "removed":
        del state["blocks.1.norm1.bias"]
    else:
        state["norm.weight"] = torch.zeros(64)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"blocks\.1\.norm1\.bias|norm\.weight"):
        PlainEncoder(folder)
    PlainEncoder(folder, pretrained=False)


def test_the_table_beside_it_says_what_it_takes(tmp_path: Path) -> None:
    table = json.loads((package(many_inputs(), tmp_path) / "encoder.json").read_text())
    assert list(table["inputs"]) == list(IMAGES)
    assert table["level"] == "l2a"
    assert table["inputs"]["sired"]["statistics_by_level"]["l2a"] == {"mean": [2011, 2012], "std": [12.5, 13.5]}
