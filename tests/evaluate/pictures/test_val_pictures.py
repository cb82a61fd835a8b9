"""Pictures taken from a validation's own forward passes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor

from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.recipe_file import build_config
from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.step import prepare
from mmae.evaluate.pictures import val_pictures
from mmae.evaluate.pictures.val_pictures import ValPictures
from mmae.types import Inputs
from mmae.variants import Variant

CONFIG = build_config(
    {
        "model.input_size": 32, "model.num_encoded_tokens": 20, "model.decoder_dim": 16, "model.decoder_num_heads": 2,
        "model.decoder_depth": 1,
    },
    "test",
)  # fmt: skip


def module(config: Config = CONFIG) -> PretrainModule:
    return PretrainModule(config.model, Variant(32, 1, 2, 64)).eval()


def passes(model: PretrainModule, pictures: ValPictures, count: int, real: list[bool] | None = None) -> list[Inputs]:
    preprocess = Preprocess(CONFIG.data, CONFIG.model, made_up_band_stats(), torch.device("cpu"))
    seen = []
    one_O = torch.ones(len(CONFIG.model.outputs))
    for _ in range(count):
        inputs, plan = prepare(made_up_batch(CONFIG.model.domains, 2), preprocess, CONFIG, train=False)
        if real is not None:
            inputs = Inputs(inputs.values, inputs.valid, inputs.token_valid, inputs.key_B, torch.tensor(real))
        with torch.no_grad():
            model(inputs, plan, one_O, 1.0)
        pictures(inputs, plan)
        seen.append(inputs)
    return seen


@pytest.mark.parametrize(("count", "batches", "tiles"), [(3, 4, 3), (1, 1, 1), (9, 2, 4)])
def test_the_first_tiles_are_drawn_once(count: int, batches: int, tiles: int, tmp_path: Path) -> None:
    model = module()
    pictures = ValPictures(model, CONFIG.model, count)
    passes(model, pictures, batches)
    path = tmp_path / "pictures" / "step_5.png"
    assert pictures.draw(path, pytest.fail) == path
    with Image.open(path) as whole:
        single = (whole.width + 12) / tiles - 12
        assert single == 76 + 5 * 172
    assert [each.name for each in path.parent.iterdir()] == ["step_5.png"]
    assert not model.model._forward_hooks


def test_padding_is_not_drawn(tmp_path: Path) -> None:
    model = module()
    pictures = ValPictures(model, CONFIG.model, 4)
    passes(model, pictures, 3, real=[False, True])
    pictures.draw(tmp_path / "p.png", pytest.fail)
    with Image.open(tmp_path / "p.png") as whole:
        assert whole.width == 3 * (76 + 5 * 172) + 2 * 12


def test_none_are_none(tmp_path: Path) -> None:
    model = module()
    unwanted = ValPictures(model, CONFIG.model, 0)
    assert not model.model._forward_hooks
    passes(model, unwanted, 1)
    assert unwanted.draw(tmp_path / "p.png", pytest.fail) is None
    empty = ValPictures(model, CONFIG.model, 2)
    assert empty.draw(tmp_path / "p.png", pytest.fail) is None
    assert list(tmp_path.iterdir()) == []


def fail(*_: object) -> Tensor:
    raise RuntimeError("no memory\nat all")


def test_a_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, said = module(), list[str]()
    pictures = ValPictures(model, CONFIG.model, 1)
    passes(model, pictures, 1)
    with monkeypatch.context() as broken:
        broken.setattr(val_pictures, "rows_of", fail)
        assert pictures.draw(tmp_path / "p.png", said.append) is None
    assert said == ["no picture of this validation: no memory"]
    taking = ValPictures(model, CONFIG.model, 1)
    with monkeypatch.context() as broken:
        broken.setattr(val_pictures, "_of_tile", fail)
        passes(model, taking, 2)
    assert taking.draw(tmp_path / "p.png", said.append) is None
    assert said[1:] == said[:1]
    full = ValPictures(model, CONFIG.model, 1)
    passes(model, full, 1)
    (tmp_path / "pictures").write_text("a file")
    assert full.draw(tmp_path / "pictures" / "p.png", said.append) is None
    assert len(said) == 3
    assert not model.model._forward_hooks


def test_predictions_are_those_of_the_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, drawn = module(), list[Tensor]()

    def keep(_tile: int, _config: object, inputs: Inputs, *_: object) -> list[object]:
        drawn.append(inputs.values["rgb"])
        return []

    monkeypatch.setattr(val_pictures, "rows_of", keep)
    pictures = ValPictures(SimpleNamespace(model=model.model), CONFIG.model, 3)
    seen = passes(model, pictures, 2)
    pictures.draw(tmp_path / "p.png", pytest.fail)
    expected = [seen[0].values["rgb"][:1], seen[0].values["rgb"][1:], seen[1].values["rgb"][:1]]
    assert all(torch.equal(*pair) for pair in zip(drawn, expected, strict=True))
