"""The loss of a step: for each output over hidden pixels with data, then over the samples of the global batch.

Bachmann et al., "MultiMAE" (ECCV 2022), section 3.4, for the errors; He et al., "Masked Autoencoders Are Scalable
Vision Learners" (CVPR 2022), section 4.1, for normalised targets; Kendall, Gal and Cipolla, "Multi-Task Learning Using
Uncertainty to Weigh Losses" (CVPR 2018), section 3.2, for the balancer.

Two things differ from these papers: pixels without data are in no loss, and means are taken over the global batch.
`config.paper_exact` turns the former off here; the latter follows from the counts that `combine` gets.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import ModelConfig
from mmae.modalities import NORM_RGB, output_source
from mmae.types import Inputs, MaskPlan, ModelOutput

NORM_EPS: Final = 1e-6


def scored(inputs: Inputs, plan: MaskPlan, config: ModelConfig) -> Tensor:
    """The samples in each output's loss: those with any hidden valid pixel, bool (O, B).

    No prediction is needed, so that the counts of a global batch are known before any backward pass.
    """
    hidden_OBn = [hidden_tokens(output, inputs, plan, config) for output in config.outputs]
    valid_OBn = [_token_valid(output, inputs, config) for output in config.outputs]
    return (torch.stack(hidden_OBn) & torch.stack(valid_OBn)).any(dim=2) & inputs.real_B


def sample_losses(output: ModelOutput, inputs: Inputs, plan: MaskPlan, config: ModelConfig) -> Tensor:
    """The loss of each output for each sample, float32 (O, B); 0 where the sample is not scored."""
    losses_OB = [_output_losses(name, output, inputs, plan, config) for name in config.outputs]
    return torch.where(inputs.real_B, torch.stack(losses_OB), 0.0)


def combine(loss_OB: Tensor, count_O: Tensor, share: float, log_vars_O: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A micro-batch's part of the global batch's loss: summed over all micro-batches and ranks, it is that loss.

    total = sum over o of exp(-s_o) x sum over b of loss_ob / count_o + share x [count_o > 0] x s_o

    Args:
        loss_OB: float32, from `sample_losses`.
        count_O: scored samples of each output in the global batch; an output without any contributes exactly 0.
        share: this micro-batch's share of the step, 1 / (ranks x accumulation).
        log_vars_O: s, the learned log variances; None weighs all outputs alike.

    Returns:
        The scalar to run backward from, and the detached, unweighted loss of each output (O,).
    """
    loss_O = loss_OB.sum(dim=1) / count_O.clamp(min=1)
    if log_vars_O is None:
        return loss_O.sum(), loss_O.detach()
    log_vars_O = log_vars_O.float()
    balanced_O = torch.exp(-log_vars_O) * loss_O + share * log_vars_O
    return torch.where(count_O > 0, balanced_O, 0.0).sum(), loss_O.detach()


class LossBalancer(nn.Module):
    """Learned weights of the outputs' losses, in the order of `config.outputs`."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(num_outputs))

    def forward(self) -> Tensor:
        """The log variances (O,), for `combine`.

        A copy: where parameters are sharded, the parameter itself is emptied when its module's forward ends.
        """
        return self.log_vars.clone()


def _output_losses(name: str, output: ModelOutput, inputs: Inputs, plan: MaskPlan, config: ModelConfig) -> Tensor:
    source = output_source(name)
    side = source.patch(config.patch_size)
    predicted_BnCpp = output.patches[name].float()
    target, valid = patchify(inputs.values[source.name], side), patchify(inputs.valid[source.name], side)
    if config.paper_exact:
        valid = torch.ones_like(valid)
    if source.loss == "cross_entropy":
        error_Bnpp, valid_Bnpp = _cross_entropy(predicted_BnCpp, target), valid
    else:
        target = _normalised(target, valid) if name == NORM_RGB else target
        error_BnCpp = predicted_BnCpp - target
        error_BnCpp = error_BnCpp.abs() if source.loss == "l1" else error_BnCpp.square()
        error_Bnpp, valid_Bnpp = _masked_mean(error_BnCpp, valid, (2,)), valid.any(dim=2)
    scored_Bnpp = valid_Bnpp & hidden_tokens(name, inputs, plan, config)[:, :, None, None]
    return _masked_mean(error_Bnpp, scored_Bnpp, (1, 2, 3))


def patchify(pixels: Tensor, side: int) -> Tensor:
    """(B, ..., h, w) -> (B, n, ..., p, p): patches of `side` pixels, row-major; no axis or the channels in between."""
    height, width = pixels.shape[-2:]
    split = pixels.reshape(*pixels.shape[:-2], height // side, side, width // side, side)
    return split.movedim((-4, -2), (1, 2)).flatten(1, 2)


def hidden_tokens(name: str, inputs: Inputs, plan: MaskPlan, config: ModelConfig) -> Tensor:
    """The tokens that an output is scored on, bool (B, n). An output that is not an input is hidden everywhere."""
    source = output_source(name).name
    if config.loss_on_unmasked or source not in config.in_domains:
        return torch.ones_like(inputs.token_valid[source])
    first = config.in_domains.index(source) * config.tokens_per_modality
    return plan.hidden_BN[:, first : first + config.tokens_per_modality]


def _token_valid(name: str, inputs: Inputs, config: ModelConfig) -> Tensor:
    valid_Bn = inputs.token_valid[output_source(name).name]
    return torch.ones_like(valid_Bn) if config.paper_exact else valid_Bn


def _cross_entropy(logits_BnCpp: Tensor, ids_Bnpp: Tensor) -> Tensor:
    error = functional.cross_entropy(logits_BnCpp.flatten(0, 1), ids_Bnpp.flatten(0, 1), reduction="none")
    return error.view(ids_Bnpp.shape)


def _normalised(patches_BnCpp: Tensor, valid_BnCpp: Tensor) -> Tensor:
    """Each patch by the mean and unbiased variance of all its valid pixels and channels (He et al., section 4.1)."""
    axes = (2, 3, 4)
    count_Bn111 = valid_BnCpp.sum(dim=axes, keepdim=True)
    mean_Bn111 = _masked_mean(patches_BnCpp, valid_BnCpp, axes, keepdim=True)
    centred_BnCpp = torch.where(valid_BnCpp, patches_BnCpp - mean_Bn111, 0.0)
    variance_Bn111 = centred_BnCpp.square().sum(dim=axes, keepdim=True) / (count_Bn111 - 1).clamp(min=1)
    return centred_BnCpp / (variance_Bn111 + NORM_EPS).sqrt()


def _masked_mean(values: Tensor, mask: Tensor, axes: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Mean of the values where the mask is True; 0 if it is True nowhere."""
    total = torch.where(mask, values, 0.0).sum(dim=axes, keepdim=keepdim)
    return total / mask.sum(dim=axes, keepdim=keepdim).clamp(min=1)
