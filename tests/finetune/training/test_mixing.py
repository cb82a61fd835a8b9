"""Mixing and erasing: labels follow pixels, draws follow the sample's key, rectangles are whole patches."""

from __future__ import annotations

import pytest
import torch

from mmae.data.transforms.validity import token_valid
from mmae.errors import InputError
from mmae.finetune.labelled.tuning_samples import Samples
from mmae.finetune.training.mixing import augmented, check_mixing
from mmae.modalities import MODALITIES
from mmae.types import Inputs
from tests.support.tuning_case import tuning_config

PATCH = 8
CLASSES = ("task.kind=classification", "model.head=linear", "task.target=biome")


def samples(count: int, seed: int = 0, dense: bool = False) -> Samples:
    """Noise of 32 x 32 pixels in rgb, class ids in semseg; the label of tile n is n."""
    draw = torch.Generator().manual_seed(seed)
    values = {
        "rgb": torch.randn(count, 3, 32, 32, generator=draw),
        "semseg": torch.randint(0, 11, (count, 8, 8), generator=draw),
    }
    valid = {"rgb": torch.ones(count, 3, 32, 32, dtype=torch.bool), "semseg": torch.ones(count, 8, 8, dtype=torch.bool)}
    tokens = {name: token_valid(each, MODALITIES[name].patch(PATCH)) for name, each in valid.items()}
    key = torch.arange(count) * 7919 + seed
    label = torch.arange(count)
    labels = label.view(-1, 1, 1).expand(-1, 32, 32) if dense else label
    return Samples(Inputs(values, valid, tokens, key, torch.ones(count, dtype=torch.bool)), labels)


def chosen(whole: Samples, places: list[int]) -> Samples:
    """The rgb of some of the samples."""
    inputs = whole.inputs
    values, valid, tokens = ({"rgb": each["rgb"][places]} for each in (inputs.values, inputs.valid, inputs.token_valid))
    return Samples(Inputs(values, valid, tokens, inputs.key_B[places], inputs.real_B[places]), whole.labels[places])


def rgb_only(whole: Samples) -> Samples:
    return chosen(whole, list(range(len(whole.labels))))


def test_without_mixing_nothing_changes() -> None:
    whole = samples(4)
    mixed = augmented(whole, tuning_config().train, PATCH, mixes=False)
    assert mixed.others is None
    assert mixed.share_B.tolist() == [1] * 4
    assert torch.equal(mixed.samples.inputs.values["rgb"], whole.inputs.values["rgb"])


def test_mixup_mixes_each_tile_with_its_partner_by_the_share_of_its_label() -> None:
    whole = rgb_only(samples(8))
    mixed = augmented(whole, tuning_config(*CLASSES, "train.mixup=0.8").train, PATCH, mixes=True)
    rgb = whole.inputs.values["rgb"]
    share = mixed.share_B[:, None, None, None]
    torch.testing.assert_close(mixed.samples.inputs.values["rgb"], share * rgb[:4] + (1 - share) * rgb[4:])
    assert (mixed.samples.labels.tolist(), mixed.others is not None and mixed.others.tolist()) == (
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    )
    assert ((mixed.share_B > 0) & (mixed.share_B < 1)).all()


def test_cutmix_pastes_whole_patches_of_every_modality_at_the_same_place() -> None:
    whole = samples(64)
    mixed = augmented(whole, tuning_config(*CLASSES, "train.cutmix=1.0").train, PATCH, mixes=True)
    rgb, ids = mixed.samples.inputs.values["rgb"], mixed.samples.inputs.values["semseg"]
    pasted = (rgb == whole.inputs.values["rgb"][32:]).all(1)
    for tile in range(32):
        patches = pasted[tile].view(4, 8, 4, 8).transpose(1, 2).flatten(2)
        assert (patches.all(2) == patches.any(2)).all()
        cut = patches.all(2)
        rows, columns = cut.any(1), cut.any(0)
        assert torch.equal(cut, rows[:, None] & columns[None, :])
        assert mixed.share_B[tile] == pytest.approx(1 - cut.float().mean().item())
        small = cut.repeat_interleave(2, 0).repeat_interleave(2, 1)
        expected = torch.where(small, whole.inputs.values["semseg"][32 + tile], whole.inputs.values["semseg"][tile])
        assert torch.equal(ids[tile], expected)
    assert 0.2 < mixed.share_B.mean() < 0.8


def test_cutmix_pastes_the_label_map_with_the_pixels() -> None:
    whole = samples(32, dense=True)
    mixed = augmented(whole, tuning_config("train.cutmix=1.0").train, PATCH, mixes=True)
    pasted = (mixed.samples.inputs.values["rgb"] == whole.inputs.values["rgb"][16:]).all(1)
    assert torch.equal(mixed.samples.labels == whole.labels[16:], pasted)
    assert mixed.others is None
    assert mixed.share_B.tolist() == [1] * 16


def test_erasing_leaves_rectangles_of_nothing_in_a_share_of_the_tiles() -> None:
    whole = samples(400)
    erased = augmented(whole, tuning_config("train.random_erase=0.25").train, PATCH, mixes=False).samples.inputs
    rgb_gone = (erased.values["rgb"] == 0).all(1)
    ids_gone = erased.values["semseg"] == MODALITIES["semseg"].no_data_class
    touched = rgb_gone.flatten(1).any(1)
    assert 0.15 < touched.float().mean() < 0.35
    assert torch.equal(ids_gone, rgb_gone[:, ::4, ::4])
    assert rgb_gone[touched].float().mean((1, 2)).max() <= 0.5
    assert torch.equal(erased.valid["rgb"], whole.inputs.valid["rgb"])


@pytest.mark.parametrize("word", ["train.mixup=0.8", "train.cutmix=0.5", "train.random_erase=0.9"])
def test_what_becomes_of_a_sample_does_not_depend_on_its_batch(word: str) -> None:
    mixes = "erase" not in word
    config = tuning_config(*CLASSES, word).train
    whole = rgb_only(samples(8))
    together = augmented(whole, config, PATCH, mixes)

    for tile in range(4):
        alone = augmented(chosen(whole, [tile, tile + 4] if mixes else [tile]), config, PATCH, mixes)
        assert torch.equal(alone.samples.inputs.values["rgb"][0], together.samples.inputs.values["rgb"][tile])
        assert alone.share_B[0] == together.share_B[tile]


def test_classes_are_no_numbers_to_mix() -> None:
    with pytest.raises(InputError, match="the inputs semseg hold classes"):
        check_mixing(tuning_config(*CLASSES, "train.mixup=0.5").train, ("rgb", "semseg"))
    check_mixing(tuning_config(*CLASSES, "train.cutmix=0.5").train, ("rgb", "semseg"))
