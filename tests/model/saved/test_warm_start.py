"""A pretraining that starts from another model takes what fits, draws what is new, and says each difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.posembed import first_positions
from mmae.model.saved.patch_kernels import for_patch
from mmae.model.saved.saved_model import save_model
from mmae.model.saved.warm_start import warm_start
from mmae.variants import Variant

MakeValues = Callable[[ModelConfig, int], dict[str, Tensor]]


@pytest.fixture
def old(config: ModelConfig, variant: Variant) -> MultiMAE:
    model = MultiMAE(config, variant, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            # Also what starts at 0 or 1.
            parameter.add_(torch.randn_like(parameter) / 50)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path, old: MultiMAE) -> Path:
    save_model(tmp_path / "model", old, {})
    return tmp_path / "model"


def started(folder: Path, old: MultiMAE, variant: Variant | None = None, **changes: Any) -> tuple[MultiMAE, list[str]]:
    """A new model that has started, and what was said."""
    new = MultiMAE(replace(old.config, **changes), variant or old.variant, seed=4)
    start = warm_start(new, folder)
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            weights = start.fitted(name, parameter)
            assert weights.shape == parameter.shape, name
            parameter.copy_(weights)
    return new.eval(), list(start.differences)


def fresh(new: MultiMAE) -> dict[str, Tensor]:
    return dict(MultiMAE(new.config, new.variant, seed=4).named_parameters())


def kept(new: MultiMAE, old: MultiMAE) -> set[str]:
    """Parameters that are those of the other model."""
    state = old.state_dict()
    return {name for name, each in new.state_dict().items() if name in state and each.equal(state[name])}


def test_the_same_model_is_taken_whole(folder: Path, old: MultiMAE) -> None:
    new, said = started(folder, old)
    assert said == []
    assert kept(new, old) == old.state_dict().keys()


def test_added_moved_and_removed_modalities(folder: Path, old: MultiMAE, make_values: MakeValues) -> None:
    """Where only kept modalities are visible, kept outputs are predicted as before."""
    inputs = ("depth", "sentinel1", "ired", "rgb")
    new, said = started(folder, old, in_domains=inputs, out_domains=("slope", "rgb", "depth"))
    assert said == [
        "new inputs, whose adapters start at random: sentinel1",
        "inputs that are not used any more: semseg, sired, ebands",
        "new outputs, whose decoders start at random: slope",
        "outputs that are not used any more: semseg, ired, sired, ebands",
    ]
    places, before = old.config.tokens_per_modality, old.config.in_domains
    visible = [("rgb", 1), ("depth", 0), ("depth", 5), ("ired", 7)]
    there, here = (
        plan_from_ids(torch.tensor([[names.index(name) * places + at for name, at in visible]]), places * len(names))
        for names in (before, inputs)
    )
    values = make_values(replace(old.config, in_domains=(*before, "sentinel1"), out_domains=(*before, "slope")), 1)
    expected, seen = old(values, there).patches, new(values, here).patches
    assert seen.keys() == {"slope", "rgb", "depth", "norm_rgb"}
    for name in ("rgb", "depth", "norm_rgb"):
        torch.testing.assert_close(seen[name], expected[name], rtol=1e-4, atol=1e-5)
    first, state = fresh(new), dict(new.named_parameters())
    slope = [name for name in state if name.startswith("decoders.") and "out_proj" not in name]
    assert all(torch.equal(state[name][0], first[name][0]) for name in slope)
    random = [name for name in state if ".sentinel1." in name or ".slope." in name]
    assert len(random) == 4
    assert all(torch.equal(state[name], first[name]) for name in random)


def test_other_decoders(folder: Path, old: MultiMAE) -> None:
    new, said = started(folder, old, decoder_depth=3)
    assert said == ["decoders have 2 blocks more than its 1: those start at random"]
    new_ones = {name for name in new.state_dict() if name.startswith(("decoders.blocks.1.", "decoders.blocks.2."))}
    assert kept(new, old) == new.state_dict().keys() - new_ones
    none, said = started(folder, old, decoder_depth=0)
    assert said == ["decoders take the first 0 of its 1 block"]
    assert kept(none, old) == none.state_dict().keys()
    wide, said = started(folder, old, decoder_dim=32)
    assert said == ["decoders of width 32 with 2 heads instead of 16 with 2: they start at random"]
    assert kept(wide, old) == {name for name in old.state_dict() if not name.startswith("decoders.")}


def test_another_image_size(folder: Path, old: MultiMAE, tmp_path: Path) -> None:
    new, said = started(folder, old, input_size=(24, 40))
    assert said == ["the grid has 3x5 patches instead of 2x4: positions are made for the new grid"]
    assert kept(new, old) == old.state_dict().keys()


def test_learned_positions_are_resampled(folder: Path, old: MultiMAE, tmp_path: Path) -> None:
    learned, said = started(folder, old, positions="learned")
    assert said == ["positions are learned here, from sines and cosines on"]
    assert all(torch.equal(learned.get_parameter(name), table) for name, table in first_positions(learned).items())
    with torch.no_grad():
        table = learned.decoders.get_parameter("positions.table")
        table.copy_(torch.arange(float(len(table)))[:, None, None].expand_as(table))
    save_model(tmp_path / "learned", learned, {})
    wider, said = started(tmp_path / "learned", learned, input_size=(32, 32), out_domains=("depth", "rgb"))
    assert said[-1] == "the grid has 4x4 patches instead of 2x4: positions are resampled"
    row_of = [learned.config.outputs.index(name) for name in wider.config.outputs]
    assert wider.decoders.get_parameter("positions.table")[:, 0, 0].tolist() == row_of
    _, said = started(tmp_path / "learned", learned, positions="fixed")
    assert said == ["positions are sines and cosines, not its learned ones"]


def test_other_patches(folder: Path, old: MultiMAE) -> None:
    new, said = started(folder, old, patch_size=16, input_size=(32, 64))
    assert said[0].startswith("patches have 16 pixels a side instead of 8: kernels are resized")
    first, state = fresh(new), dict(new.named_parameters())
    for name in old.config.in_domains:
        kernel = f"tokenizer.adapters.{name}.proj.weight"
        assert torch.equal(state[kernel], for_patch(old.state_dict()[kernel], state[kernel].shape[-1]))
    assert all(torch.equal(state[name], first[name]) for name in state if "out_proj" in name)


@pytest.mark.parametrize(("depth", "sources"), [(4, [0, 0, 1, 1]), (1, [0]), (3, [0, 0, 1])])
def test_another_depth_repeats_blocks(folder: Path, old: MultiMAE, depth: int, sources: list[int]) -> None:
    new, said = started(folder, old, replace(old.variant, depth=depth))
    (line,) = said
    assert line.endswith(f"instead of 2: they start from its blocks {', '.join(map(str, sources))}")
    for number, source in enumerate(sources):
        pairs = zip(new.encoder.blocks[number].parameters(), old.encoder.blocks[source].parameters(), strict=True)
        assert all(torch.equal(mine, its) for mine, its in pairs)


def test_other_global_tokens(folder: Path, old: MultiMAE, tmp_path: Path) -> None:
    new, said = started(folder, old, num_global_tokens=3)
    assert said == ["3 global tokens instead of 1: 2 start at random"]
    tokens = new.get_parameter("encoder.global_tokens")
    assert torch.equal(tokens[:1], old.get_parameter("encoder.global_tokens"))
    assert torch.equal(tokens[1:], fresh(new)["encoder.global_tokens"][1:])
    none, said = started(folder, old, num_global_tokens=0)
    assert said == ["0 global tokens instead of 1: the first ones are taken"]
    save_model(tmp_path / "none", none, {})
    _, said = started(tmp_path / "none", none, num_global_tokens=1)
    assert said == ["1 global token instead of 0: 1 starts at random"]


def test_another_width_is_refused(folder: Path, old: MultiMAE) -> None:
    with pytest.raises(InputError, match="has width 32, that of this recipe 48: a start needs the same"):
        started(folder, old, replace(old.variant, dim=48))
