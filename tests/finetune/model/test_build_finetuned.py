"""What fine-tuning starts from: bit for bit the pretrained encoder, or what the sentences say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmae.errors import InputError
from mmae.finetune.model.build_finetuned import build_finetuned
from mmae.finetune.model.lora import LoraOptions
from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from mmae.model.posembed import PositionEmbedding
from mmae.model.saved.saved_model import load_model
from mmae.publish.published_file import write as write_published
from tests.support.finetuned_models import COVER, KINDS, SCENE, finetuned, options, pretrained, task_for


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="module")
def old(source: Path) -> MultiMAE:
    return load_model(source)


def values(hw: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.randn(2, bands, hw, hw, generator=generator) for name, bands in (("rgb", 3), ("ebands", 2))}
    return {**images, "semseg": torch.randint(12, (2, hw // 4, hw // 4), generator=generator)}


def kernel(model: Any, name: str) -> Tensor:
    found: Tensor = model.tokenizer.adapters[name].proj.weight
    return found.detach()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tuning", ["full", "frozen", "lora"])
def test_the_encoder_is_the_pretrained_one_bit_for_bit(kind: str, tuning: Any, source: Path, old: MultiMAE) -> None:
    new = build_finetuned(str(source), task_for(kind), head=options(kind), tuning=tuning).model
    before, after = features(old, values()), features(new.eval(), values())
    assert all(torch.equal(before.maps[name], after.maps[name]) for name in before.maps)
    assert torch.equal(before.global_tokens, after.global_tokens)


def test_nothing_differs_where_nothing_was_asked(source: Path) -> None:
    built = build_finetuned(str(source), SCENE)
    assert built.differences == ("all weights are trained.",)
    assert built.origin == {"base_model": "model", "base_step": 7, "base_license": "cc-by-4.0"}
    assert "sentinel2_l2a" in built.band_stats
    assert all(parameter.requires_grad for parameter in built.model.parameters())


def test_bands_that_are_left_keep_their_kernels_scaled(source: Path, old: MultiMAE) -> None:
    built = build_finetuned(str(source), SCENE, in_domains=["ebands"], bands={"ebands": ["B8"]})
    assert "ebands keeps B8, lacks B8A; its kernel is scaled by 2/1." in built.differences
    assert "inputs that are not used: rgb, depth, semseg." in built.differences
    assert torch.equal(kernel(built.model, "ebands"), kernel(old, "ebands")[:, 1:] * 2)


def test_a_new_band_gets_the_mean_kernel_scaled(source: Path, old: MultiMAE) -> None:
    built = build_finetuned(str(source), SCENE, bands={"rgb": ["B2", "B3", "B4", "B1"]})
    said = "rgb keeps B2, B3, B4, gets B1 with the mean of its kernels; its kernel is scaled by 3/4."
    assert said in built.differences
    before, after = kernel(old, "rgb"), kernel(built.model, "rgb")
    torch.testing.assert_close(after[:, :3], before.flip(1) * 0.75)
    torch.testing.assert_close(after[:, 3], before.mean(1) * 0.75)
    assert built.model.tokenizer.table["rgb"].bands == (1, 2, 3, 0)


def test_a_foreign_band_stands_behind_those_of_mmearth(source: Path) -> None:
    built = build_finetuned(str(source), SCENE, bands={"rgb": ["B4", "pan"], "ebands": ["thermal", "B8"]})
    assert built.model.tokenizer.table["rgb"].bands == (3, 13)
    assert built.model.tokenizer.table["ebands"].bands == (14, 8)


def test_an_order_alone_changes_no_token(source: Path, old: MultiMAE) -> None:
    built = build_finetuned(str(source), SCENE, bands={"rgb": ["B2", "B3", "B4"]})
    assert "rgb takes its bands in the order B2, B3, B4." in built.differences
    tokens = built.model.tokenizer.adapters["rgb"](values()["rgb"].flip(1))
    torch.testing.assert_close(tokens, old.tokenizer.adapters["rgb"](values()["rgb"]), rtol=1e-5, atol=1e-5)


def test_a_new_modality_starts_at_random_and_is_trained_in_any_case(source: Path) -> None:
    built = build_finetuned(str(source), SCENE, in_domains=["rgb", "slope"], tuning="frozen")
    assert built.fresh == ("slope",)
    assert "slope was no input of the pretrained model: its adapter starts at random." in built.differences
    trained = {name for name, parameter in built.model.named_parameters() if parameter.requires_grad}
    assert trained == {
        "tokenizer.adapters.slope.proj.weight", "tokenizer.adapters.slope.proj.bias", "head.norm.weight",
        "head.norm.bias", "head.linear.weight", "head.linear.bias",
    }  # fmt: skip


@pytest.mark.parametrize("side", [12, 16, 32])
@pytest.mark.parametrize("name", ["rgb", "semseg"])
def test_resized_kernels_give_an_enlarged_patch_its_tokens(side: int, name: str, source: Path, old: MultiMAE) -> None:
    """Patch for patch: what the old kernel says of a patch, the new one says of the patch enlarged bilinearly."""
    built = build_finetuned(str(source), SCENE, patch_size=side, image_size=side * 4)
    before, after = old.tokenizer.adapters[name], built.model.tokenizer.adapters[name]
    assert isinstance(before.positions, PositionEmbedding)
    assert isinstance(after.positions, PositionEmbedding)
    small = kernel(old, name).shape[-1]
    patches = torch.randn(50, kernel(old, name).shape[1], small, small)
    large = functional.interpolate(patches, size=kernel(built.model, name).shape[-2:], mode="bilinear")
    tokens, same = (functional.conv2d(each, kernel(net, name)) for each, net in ((patches, old), (large, built.model)))
    torch.testing.assert_close(same, tokens, rtol=1e-3, atol=1e-4)
    # The grid is the same, so positions are.
    assert torch.equal(after.positions(torch.float32), before.positions(torch.float32))


def test_tokens_of_a_whole_enlarged_image_are_those_of_the_image(source: Path, old: MultiMAE) -> None:
    """Each patch enlarged by itself, and the patches put together again."""
    built = build_finetuned(str(source), SCENE, patch_size=16, image_size=64)
    image = values()["rgb"]
    patches = functional.unfold(image, 8, stride=8).transpose(1, 2).reshape(-1, 3, 8, 8)
    large = functional.interpolate(patches, size=(16, 16), mode="bilinear").view(2, 16, -1).transpose(1, 2)
    whole = functional.fold(large, (64, 64), 16, stride=16)
    tokens, same = features(old, {"rgb": image}), features(built.model.eval(), {"rgb": whole})
    torch.testing.assert_close(same.maps["rgb"], tokens.maps["rgb"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("hw", [24, 64])
def test_another_image_size_is_what_the_pretrained_encoder_does_there(hw: int, source: Path, old: MultiMAE) -> None:
    built = build_finetuned(str(source), SCENE, image_size=hw)
    assert any("positions are made for the new grid" in line for line in built.differences)
    before, after = features(old, values(hw)), features(built.model.eval(), values(hw))
    assert all(torch.equal(before.maps[name], after.maps[name]) for name in before.maps)


def test_a_fine_tuned_model_can_be_fine_tuned_again(source: Path, tmp_path: Path) -> None:
    first = finetuned(tmp_path / "first", source, COVER, "patch_linear", bands={"rgb": ["B3", "B9"]}, patch_size=16,
                      image_size=64)  # fmt: skip
    again = build_finetuned(str(tmp_path / "first"), SCENE)
    assert again.differences == ("all weights are trained.",)
    assert again.model.tuned.bands == {"rgb": ("B3", "B9")}
    assert again.model.tuned.base_patch == 8
    inputs = {"rgb": torch.randn(1, 2, 64, 64)}
    before, after = features(first.model.eval(), inputs), features(again.model.eval(), inputs)
    assert torch.equal(before.maps["rgb"], after.maps["rgb"])


def test_from_scratch_is_the_untrained_model_of_the_same_seed() -> None:
    from mmae.config.schema import ModelConfig

    built = build_finetuned(None, SCENE, size="nano", in_domains=["rgb", "ired"], image_size=32, seed=4)
    config = ModelConfig(size="nano", in_domains=("rgb", "ired"), out_domains=("rgb",), input_size=32,
                         num_encoded_tokens=6)  # fmt: skip
    twin = MultiMAE(config, seed=4)
    for name, tensor in built.model.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, twin.state_dict()[name]), name
    assert built.band_stats == built.origin == {}


def test_a_published_checkpoint_is_a_start(source: Path, old: MultiMAE, tmp_path: Path) -> None:
    from argparse import Namespace

    from mmae.publish.export_source import Source

    write_published(tmp_path / "published.pth", Source(old, {}, {}), Namespace())
    built = build_finetuned(str(tmp_path / "published.pth"), SCENE)
    before, after = features(old, values()), features(built.model.eval(), values())
    assert all(torch.equal(before.maps[name], after.maps[name]) for name in before.maps)
    assert any("the file has no band statistics" in line for line in built.differences)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"in_domains": ["rgb", "rgbb"]}, "unknown modality 'rgbb'; did you mean 'rgb'"),
        ({"in_domains": ["rgb"], "bands": {"ebands": ["B8"]}}, "bands of 'ebands': it is not an input"),
        ({"bands": {"semseg": ["a"]}}, "bands of semseg: it holds classes"),
        ({"bands": {"rgb": ["B2", "B2"]}}, "name each once"),
        ({"bands": {"rgb": ["B2", "a|b"]}}, r"bands.rgb.1: String should match pattern"),
        ({"bands": {"rgb": []}}, r"bands.rgb: Tuple should have at least 1 item"),
        ({"image_size": 30}, "input_size=30 is not divisible by model.patch_size=8"),
        ({"patch_size": 6}, "patch_size=6 is not divisible by the stride of semseg"),
        ({"tuning": "lorra"}, "tuning 'lorra' is not known; did you mean 'lora'"),
        ({"tuning": "lora", "lora": LoraOptions(rank=0)}, "give a rank from 1 to 64"),
        ({"head": options("patch_linear")}, "head patch_linear: the task scene .classification. is about tiles"),
        ({"step": 3}, "is no run, and only runs have several steps"),
        ({"drop_path": 1.5}, "model.drop_path=1.5"),
    ],
)
def test_what_cannot_be_is_one_line(words: dict[str, Any], message: str, source: Path) -> None:
    with pytest.raises(InputError, match=message) as raised:
        build_finetuned(str(source), SCENE, **words)
    assert "\n" not in str(raised.value)


def test_a_start_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        build_finetuned("./nowhere", SCENE)
    with pytest.raises(InputError, match=r"unknown model.size='nan'"):
        build_finetuned(None, SCENE, size="nan")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_blocks_that_the_head_does_not_see_are_not_trained(tuning: Any, source: Path) -> None:
    inputs, head = ("rgb", "ebands", "semseg"), options("linear", blocks=(0,))
    built = build_finetuned(str(source), SCENE, in_domains=inputs, head=head, tuning=tuning)
    model = built.model.train()
    model(values()).sum().backward()
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    assert learning == {name for name, each in model.named_parameters() if each.grad is not None}
    assert any(name.startswith("encoder.blocks.0.") for name in learning)
    assert "above it are not used" in built.differences[-1]
