from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.losses import LossBalancer, combine, patchify, sample_losses, scored
from mmae.modalities import MODALITIES, output_source
from mmae.model.masking import plan_from_ids
from mmae.types import Inputs, MaskPlan, ModelOutput

CONFIG = ModelConfig(
    in_domains=("rgb", "depth", "semseg"),
    out_domains=("rgb", "depth", "semseg", "sentinel1"),
    input_size=(16, 24),
    num_encoded_tokens=5,
)
"""2 x 3 tokens a modality, 18 in all; sentinel1 is an output only."""

OUTPUTS = CONFIG.outputs


def make_inputs(batch: int, seed: int = 0, valid_share: float = 1.0, config: ModelConfig = CONFIG) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    values, valid, token_valid = {}, {}, {}
    for name in config.domains:
        modality = MODALITIES[name]
        shape = (batch, *(side // modality.stride for side in config.image_hw))
        if modality.categorical:
            is_data = torch.rand(shape, generator=generator) < valid_share
            ids = torch.randint(modality.no_data_class, shape, generator=generator)
            values[name] = torch.where(is_data, ids, modality.no_data_class)
        else:
            shape = (batch, len(modality.bands), *shape[1:])
            is_data = torch.rand(shape, generator=generator) < valid_share
            values[name] = torch.where(is_data, torch.randn(shape, generator=generator), 0.0)
        valid[name] = is_data
        token_valid[name] = patchify(is_data, modality.patch(config.patch_size)).flatten(2).any(2)
    return Inputs(values, valid, token_valid, torch.arange(batch), torch.ones(batch, dtype=torch.bool))


def blank(inputs: Inputs, name: str, tiles: slice) -> Inputs:
    """The inputs where some tiles lack a modality."""
    values, valid = inputs.values[name].clone(), inputs.valid[name].clone()
    values[tiles] = MODALITIES[name].no_data_class if MODALITIES[name].categorical else 0
    valid[tiles] = False
    token_valid = inputs.token_valid[name].clone()
    token_valid[tiles] = False
    return replace(
        inputs,
        values={**inputs.values, name: values},
        valid={**inputs.valid, name: valid},
        token_valid={**inputs.token_valid, name: token_valid},
    )


def make_output(batch: int, seed: int = 1, config: ModelConfig = CONFIG) -> ModelOutput:
    generator = torch.Generator().manual_seed(seed)
    patches = {}
    for name in config.outputs:
        source = output_source(name)
        side = source.patch(config.patch_size)
        shape = (batch, config.tokens_per_modality, source.channels, side, side)
        patches[name] = torch.randn(shape, generator=generator).requires_grad_()
    return ModelOutput(patches, torch.zeros(batch, 1, 1))


def make_plan(batch: int, seed: int = 2) -> MaskPlan:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.stack([torch.randperm(18, generator=generator)[:5] for _ in range(batch)])
    return plan_from_ids(keep, 18)


def one_tile(name: str, output: ModelOutput, inputs: Inputs, plan: MaskPlan, b: int, config: ModelConfig) -> float:
    """DOMAIN's definition, pixel by pixel in numpy float64."""
    source = output_source(name)
    side, columns = source.patch(config.patch_size), config.grid_hw[1]
    values = inputs.values[source.name][b].numpy().astype(np.float64)
    valid = inputs.valid[source.name][b].numpy() | config.paper_exact
    values, valid = values.reshape(-1, *values.shape[-2:]), valid.reshape(-1, *valid.shape[-2:])
    errors: list[float] = []
    for token in range(config.tokens_per_modality):
        first = (
            config.in_domains.index(source.name) * config.tokens_per_modality if source.name in config.in_domains else 0
        )
        seen = source.name in config.in_domains and not plan.hidden_BN[b, first + token] and not config.loss_on_unmasked
        if seen:
            continue
        row, column = divmod(token, columns)
        window = np.s_[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        target, is_data = values[window], valid[window]
        if name == "norm_rgb" and is_data.any():
            data = target[is_data]
            variance = data.var(ddof=1) if len(data) > 1 else 0.0
            target = (target - data.mean()) / np.sqrt(variance + 1e-6)
        predicted = output.patches[name][b, token].detach().double().numpy()
        for i in range(side):
            for j in range(side):
                if not is_data[:, i, j].any():
                    continue
                if source.loss == "cross_entropy":
                    logits = predicted[:, i, j]
                    errors.append(float(np.log(np.exp(logits).sum()) - logits[int(target[0, i, j])]))
                    continue
                difference = (predicted[:, i, j] - target[:, i, j])[is_data[:, i, j]]
                errors.append(float(np.mean(np.abs(difference) if source.loss == "l1" else difference**2)))
    return float(np.mean(errors)) if errors else 0.0


@pytest.mark.parametrize("valid_share", [1.0, 0.5, 0.004, 0.0])
@pytest.mark.parametrize("changes", [{}, {"paper_exact": True}, {"loss_on_unmasked": True}], ids=str)
def test_losses_are_those_of_the_definition(changes: dict[str, bool], valid_share: float) -> None:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    inputs, output, plan = make_inputs(3, valid_share=valid_share), make_output(3), make_plan(3)
    inputs = blank(inputs, "depth", slice(1, 2))
    loss_OB = sample_losses(output, inputs, plan, config)
    assert loss_OB.shape == (5, 3)
    assert loss_OB.dtype == torch.float32
    for o, name in enumerate(OUTPUTS):
        for b in range(3):
            expected = one_tile(name, output, inputs, plan, b, config)
            assert loss_OB[o, b].item() == pytest.approx(expected, rel=1e-5, abs=1e-7), (name, b)
    assert torch.equal(scored(inputs, plan, config), loss_OB > 0)
    torch.autograd.backward(loss_OB.sum())
    assert all(patch.grad is not None and patch.grad.isfinite().all() for patch in output.patches.values())


def test_pixels_without_data_get_no_gradient() -> None:
    inputs, output, plan = make_inputs(2, valid_share=0.3), make_output(2), make_plan(2)
    torch.autograd.backward(sample_losses(output, inputs, plan, CONFIG).sum())
    for name in ("rgb", "depth", "sentinel1"):
        gradient = output.patches[name].grad
        assert gradient is not None
        valid = patchify(inputs.valid[name], 8)
        assert not gradient[~valid].any()
        visible = ~plan.hidden_BN.view(2, 3, 6)
        if name in CONFIG.in_domains:
            assert not gradient[visible[:, CONFIG.in_domains.index(name)]].any()
            valid = valid & ~visible[:, CONFIG.in_domains.index(name)][:, :, None, None, None]
        assert gradient[valid].all()


def test_labels_without_data_are_a_class_for_the_paper_only() -> None:
    inputs = blank(make_inputs(1), "semseg", slice(None))
    plan, output, o = make_plan(1), make_output(1), OUTPUTS.index("semseg")
    assert sample_losses(output, inputs, plan, CONFIG)[o].item() == 0.0
    assert not scored(inputs, plan, CONFIG)[o].item()
    paper = replace(CONFIG, paper_exact=True)
    assert sample_losses(output, inputs, plan, paper)[o].item() > 0.0
    assert scored(inputs, plan, paper)[o].item()


def test_padding_tiles_are_in_no_loss() -> None:
    real = torch.tensor([True, False])
    inputs, plan = replace(make_inputs(2), real_B=real), make_plan(2)
    for config in (CONFIG, replace(CONFIG, paper_exact=True)):
        loss_OB = sample_losses(make_output(2), inputs, plan, config)
        assert not loss_OB[:, 1].any()
        assert torch.equal(scored(inputs, plan, config), real.expand(5, 2))


def test_a_modality_that_is_wholly_visible_is_not_scored() -> None:
    keep = torch.arange(6)[None]
    plan = plan_from_ids(keep, 18)
    loss_OB = sample_losses(make_output(1), make_inputs(1), plan, CONFIG)
    assert (loss_OB[:, 0] > 0).tolist() == [False, True, True, True, False]
    every = replace(CONFIG, loss_on_unmasked=True)
    assert scored(make_inputs(1), plan, every).all()


def test_half_precision_predictions_are_scored_in_float32() -> None:
    output = make_output(2)
    half = replace(output, patches={name: patch.bfloat16() for name, patch in output.patches.items()})
    rounded = replace(output, patches={name: patch.bfloat16().float() for name, patch in output.patches.items()})
    inputs, plan = make_inputs(2), make_plan(2)
    here, there = (sample_losses(each, inputs, plan, CONFIG) for each in (half, rounded))
    assert torch.equal(here, there)


def test_patchify_matches_a_loop() -> None:
    pixels = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    patches = patchify(pixels, 2)
    assert patches.shape == (2, 6, 3, 2, 2)
    for token in range(6):
        row, column = divmod(token, 3)
        assert torch.equal(patches[:, token], pixels[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2])
    assert torch.equal(patchify(pixels[:, 1], 2), patches[:, :, 1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(12,), (6, 6), (1, 4, 7), (1,) * 12]), st.booleans(), st.booleans())
def test_micro_batches_add_up_to_the_global_batch(
    seed: int, sizes: tuple[int, ...], balanced: bool, one_output_is_absent: bool
) -> None:
    inputs, output, plan = make_inputs(12, seed, 0.5), make_output(12, seed), make_plan(12, seed)
    # Half of the tiles lack one modality, unevenly over micro-batches; none may have another.
    inputs = blank(inputs, "depth", slice(0, 6))
    inputs = blank(inputs, "semseg", slice(None)) if one_output_is_absent else inputs
    count_O = scored(inputs, plan, CONFIG).sum(dim=1)
    log_vars = torch.tensor([0.3, -0.2, 0.7, 0.1, -0.5]) if balanced else None
    whole_OB = sample_losses(output, inputs, plan, CONFIG)
    whole, whole_O = combine(whole_OB, count_O, 1.0, log_vars)
    parts = [combine(part, count_O, 1 / len(sizes), log_vars) for part in torch.split(whole_OB, list(sizes), dim=1)]
    torch.testing.assert_close(torch.stack([total for total, _ in parts]).sum(), whole)
    torch.testing.assert_close(torch.stack([loss_O for _, loss_O in parts]).sum(0), whole_O)
    means = [row[row > 0].mean() if (row > 0).any() else torch.zeros(()) for row in whole_OB.detach()]
    torch.testing.assert_close(whole_O, torch.stack(means))
    if balanced:
        assert log_vars is not None
        weighed = [(-s).exp() * mean + s for s, mean, count in zip(log_vars, means, count_O, strict=True) if count > 0]
        torch.testing.assert_close(whole.detach(), torch.stack(weighed).sum())


def test_nothing_scored_is_exactly_zero_with_finite_gradients() -> None:
    inputs, output = make_inputs(2, valid_share=0.0), make_output(2)
    balancer = LossBalancer(5)
    loss_OB = sample_losses(output, inputs, make_plan(2), CONFIG)
    total, loss_O = combine(loss_OB, scored(inputs, make_plan(2), CONFIG).sum(dim=1), 0.5, balancer())
    assert total.item() == 0.0
    assert not loss_O.any()
    torch.autograd.backward(total)
    gradients = [balancer.log_vars.grad, *(patch.grad for patch in output.patches.values())]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_the_balancer_learns_an_outputs_scale() -> None:
    balancer = LossBalancer(2)
    loss_OB = torch.tensor([[2.0, 4.0], [0.0, 0.0]])
    total, loss_O = combine(loss_OB, torch.tensor([2, 0]), 1.0, balancer())
    assert total.item() == 3.0
    assert loss_O.tolist() == [3.0, 0.0]
    torch.autograd.backward(total)
    # d/ds (exp(-s) L + s) = 1 - L at s = 0; an absent output pulls at nothing.
    assert balancer.log_vars.grad is not None
    assert balancer.log_vars.grad.tolist() == [-2.0, 0.0]


def test_the_balancer_hands_out_a_copy() -> None:
    balancer = LossBalancer(3)
    assert balancer().data_ptr() != balancer.log_vars.data_ptr()


def test_a_single_valid_value_in_a_patch_normalises_to_zero() -> None:
    inputs = make_inputs(1, valid_share=0.0)
    values, valid = inputs.values["rgb"].clone(), inputs.valid["rgb"].clone()
    values[0, 1, 3, 4], valid[0, 1, 3, 4] = 7.0, True
    tokens = torch.zeros(1, 6, dtype=torch.bool)
    tokens[0, 0] = True
    inputs = with_rgb(inputs, values, valid, tokens)
    output = make_output(1)
    loss_OB = sample_losses(output, inputs, plan_from_ids(torch.tensor([[17]]), 18), CONFIG)
    predicted = output.patches["norm_rgb"][0, 0, 1, 3, 4].item()
    assert loss_OB[OUTPUTS.index("norm_rgb")].item() == pytest.approx(predicted**2)


def with_rgb(inputs: Inputs, values: Tensor, valid: Tensor, tokens: Tensor) -> Inputs:
    def put(old: Mapping[str, Tensor], new: Tensor) -> dict[str, Tensor]:
        return {**old, "rgb": new}

    return replace(
        inputs,
        values=put(inputs.values, values),
        valid=put(inputs.valid, valid),
        token_valid=put(inputs.token_valid, tokens),
    )
