"""The entry for TorchGeo names a file whose hash and weights are right, and builds the network that reads them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision.models._api import Weights
from torchvision.transforms import v2

from mmae.model.features import features
from tests.support.exported_models import export, image, many_inputs, near, saved

WORDS = ("--format", "torchgeo", "--modality", "ired", "--level", "l1c", "--image-size", "64x120")


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_printed_entry_builds_the_encoder(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = many_inputs(num_global_tokens=number)
    assert export(saved(model, tmp_path / "model"), tmp_path / "out", *WORDS) == 0
    text = (tmp_path / "out" / "entry.py").read_text()
    assert text in capsys.readouterr().out
    entry: Any = eval(text, {"Weights": Weights, "T": v2})
    (file,) = (tmp_path / "out").glob("*.pth")
    assert entry.url.endswith(f"/{file.name}")
    assert file.stem == f"mmae_nano_ired-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    assert entry.meta["bands"] == ("B5", "B6", "B7")
    network = timm.create_model(entry.meta["model"], in_chans=entry.meta["in_chans"], **entry.meta["model_args"]).eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    values = image("ired", 2, (64, 120))
    raw = values * torch.tensor([5.5, 6.5, 7.5]).view(3, 1, 1) + torch.tensor([1004.0, 1005, 1006]).view(3, 1, 1)
    near(entry.transforms(raw), values)
    expected = features(model, {"ired": values})
    with torch.inference_mode():
        found = network.forward_features(values)
    near(found[:, number:], expected.maps["ired"].flatten(1, 2))
    near(found[:, :number], expected.global_tokens)
