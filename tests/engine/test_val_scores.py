"""IoU and RMSE of a validation, against torchmetrics and against arithmetic on the stored numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.step import prepare
from mmae.engine.val_scores import ScoreSums, ValScores
from mmae.losses import hidden_tokens, patchify
from mmae.modalities import MODALITIES
from mmae.types import Batch, Inputs, MaskPlan, ModelOutput
from tests.support.step_case import STATS, config, cut, tiles

CPU = torch.device("cpu")
CFG = config()


@pytest.fixture(autouse=True)
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def prepared(batch: Batch, cfg: Config = CFG) -> tuple[Inputs, MaskPlan, dict[str, Tensor]]:
    preprocess = Preprocess(cfg.data, cfg.model, STATS, CPU)
    return *prepare(batch, preprocess, cfg, train=False), dict(preprocess.units(batch))


def guess(batch: Batch) -> ModelOutput:
    """Predictions that follow from the tile alone, so that a cut batch has the same ones."""
    patches = {}
    for name in CFG.model.out_domains:
        row, side = MODALITIES[name], MODALITIES[name].patch(CFG.model.patch_size)
        shape = (CFG.model.tokens_per_modality, row.channels, side, side)
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(int(tile))) for tile in batch.row_B]
        patches[name] = torch.stack(drawn)
    return ModelOutput(patches, torch.empty(0))


def found_on(batches: list[Batch], cfg: Config = CFG) -> ValScores:
    sums = ScoreSums(cfg.model, CPU)
    for batch in batches:
        inputs, plan, units = prepared(batch, cfg)
        sums.add(guess(batch), inputs, plan, units)
    return sums.total()


def hidden_pixels(name: str, batch: Batch, cfg: Config = CFG) -> Tensor:
    """Bool (B, n, p, p)."""
    inputs, plan, _ = prepared(batch, cfg)
    side = MODALITIES[name].patch(cfg.model.patch_size)
    hidden_Bn = hidden_tokens(name, inputs, plan, cfg.model)
    return hidden_Bn[:, :, None, None].expand(-1, -1, side, side)


def stored(batch: Batch, dataset: str, bands: list[int], side: int) -> Tensor:
    """Stored numbers in patches, float64 (B, n, C, p, p). Samples of the tests are whole tiles."""
    return patchify(batch.pixels[dataset][:, bands].double(), side)


@pytest.mark.parametrize("everything", [False, True])
def test_iou_is_that_of_torchmetrics_over_hidden_pixels_with_a_label(everything: bool) -> None:
    cfg, batch = config(model__loss_on_unmasked=everything), tiles(8)
    inputs, _, _ = prepared(batch, cfg)
    side = MODALITIES["semseg"].patch(8)
    ids_Bnpp = patchify(inputs.values["semseg"], side)
    asked = hidden_pixels("semseg", batch, cfg) & (ids_Bnpp != 11)
    assert asked.any()
    assert asked.sum() < (ids_Bnpp != 11).sum() or everything
    predicted = guess(batch).patches["semseg"].argmax(dim=2)
    reference = MulticlassJaccardIndex(12, average=None)
    expected = reference(predicted[asked], ids_Bnpp[asked])
    found = found_on([batch], cfg)
    held = set(ids_Bnpp[asked].tolist()) | set(predicted[asked].tolist())
    classes = MODALITIES["semseg"].class_names
    assert list(found.iou["semseg"]) == list(classes)
    for number, name in enumerate(classes):
        assert found.iou["semseg"][name] == (pytest.approx(expected[number].item()) if number in held else None)
    mean = np.mean([expected[number].item() for number in held - {11}])
    assert found.mean_iou["semseg"] == pytest.approx(mean)


def test_rmse_is_in_reflectance_over_hidden_pixels_with_data() -> None:
    batch = tiles(8)
    target = stored(batch, "sentinel2", [3, 2, 1], 8)
    predicted = guess(batch).patches["rgb"].double() * 500 + 1000
    asked = hidden_pixels("rgb", batch)[:, :, None].expand_as(target) & (target != 0)
    expected = ((predicted - target)[asked] / 10_000).square().mean().sqrt().item()
    found = found_on([batch])
    assert found.rmse["rgb"] == pytest.approx(expected, rel=1e-5)
    assert (found.units["rgb"], found.units["depth"]) == ("reflectance", "m")


def test_elevation_is_brought_back_by_the_tile_s_own_mean_and_spread() -> None:
    batch = tiles(8)
    target = stored(batch, "aster", [0], 8)
    errors = []
    for tile, patches in enumerate(guess(batch).patches["depth"].double()):
        inner = np.sort(batch.pixels["aster"][tile, 0].double().numpy().ravel())
        inner = inner[len(inner) // 10 : len(inner) * 9 // 10]
        metres = patches * inner.std(ddof=1) + inner.mean()
        asked = hidden_pixels("depth", batch)[tile][:, None]
        errors.append((metres - target[tile])[asked])
    expected = torch.cat(errors).square().mean().sqrt().item()
    assert expected > 100
    assert found_on([batch]).rmse["depth"] == pytest.approx(expected, rel=1e-4)


def test_how_tiles_are_cut_into_batches_changes_nothing() -> None:
    whole, spread = found_on([tiles(8)]), found_on(cut(tiles(8), 4))
    assert spread.iou == whole.iou
    assert spread.rmse == pytest.approx(whole.rmse, rel=1e-12)


def test_padding_counts_nowhere() -> None:
    batch = tiles(8)
    half = cut(batch, 2)[0]
    padded = replace(batch, real_B=torch.arange(8) < 4)
    assert found_on([padded]).rmse == pytest.approx(found_on([half]).rmse, rel=1e-12)
    assert found_on([padded]).iou == found_on([half]).iou


def test_what_has_no_pixel_to_score_has_no_score() -> None:
    batch = tiles(8)
    for dataset, names in (("sentinel2", {"rgb", "ired", "sired", "ebands"}), ("esa_worldcover", set())):
        nothing = {dataset: torch.zeros_like(batch.pixels[dataset])}
        found = found_on([replace(batch, pixels={**batch.pixels, **nothing})])
        assert {name for name, rmse in found.rmse.items() if rmse is None} == names
        assert (found.mean_iou["semseg"] is None) == (not names)
    assert set(found.iou["semseg"].values()) == {None}


def test_a_band_without_a_deviation_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {**STATS["sentinel2_l1c"], "std": [500.0, 0.0, 500.0, *[500.0] * 10]}
    batch = tiles(8)
    target = stored(batch, "sentinel2", [3, 2], 8)
    asked = hidden_pixels("rgb", batch)[:, :, None].expand_as(target) & (target != 0)
    predicted = guess(batch).patches["rgb"][:, :, :2].double() * 500 + 1000
    expected = ((predicted - target)[asked] / 10_000).square().mean().sqrt().item()
    monkeypatch.setitem(STATS, "sentinel2_l1c", flat)
    assert found_on([batch]).rmse["rgb"] == pytest.approx(expected, rel=1e-5)


def test_a_tile_without_two_elevations_is_not_scored() -> None:
    batch = tiles(8)
    inputs, plan, units = prepared(batch)
    units["depth"] = torch.where(torch.arange(8)[:, None] < 4, units["depth"], 0)
    sums = ScoreSums(CFG.model, CPU)
    sums.add(guess(batch), inputs, plan, units)
    assert sums.total().rmse["depth"] == pytest.approx(found_on(cut(batch, 2)[:1]).rmse["depth"], rel=1e-12)
