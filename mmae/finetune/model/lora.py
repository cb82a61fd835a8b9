"""LoRA on the linear layers of the blocks.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022).

The factors are parameters of the linear layer itself, so that names of all other weights stay what they are, a
checkpoint resumes as any other, and merging leaves a plain model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.errors import InputError
from mmae.model.tuned.finetuned_model import FinetunedModel

LAYERS: Final = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
"""Of each block."""
FACTORS: Final = ("lora_a", "lora_b")


@dataclass(frozen=True)
class LoraOptions:
    """`rank` is that of the product; the product is scaled by `alpha / rank`."""

    rank: int = 8
    alpha: float = 16.0


class LoraLinear(nn.Linear):
    """A frozen linear layer and a trained product of two small matrices beside it, which starts at 0."""

    def __init__(self, linear: nn.Linear, options: LoraOptions) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features)
        self.weight, self.bias = linear.weight, linear.bias
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)
        self.scale = options.alpha / options.rank
        self.lora_a = nn.Parameter(linear.weight.new_empty(options.rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, options.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        low = functional.linear(functional.linear(x, self.lora_a), self.lora_b)
        return super().forward(x) + low * self.scale

    def merged_weight(self) -> Tensor:
        """The weight of the plain layer that computes the same."""
        return self.weight + self.scale * (self.lora_b @ self.lora_a)


def add_lora(model: FinetunedModel, options: LoraOptions, seed: int) -> None:
    """Replace the linear layers of the blocks.

    Raises:
        InputError: the rank is not possible.
    """
    if not 1 <= options.rank <= model.variant.dim or not 0 < options.alpha < math.inf:
        raise InputError(
            f"LoRA: rank {options.rank}, alpha {options.alpha:g}: give a rank from 1 to {model.variant.dim} (the width "
            "of the encoder) and an alpha above 0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in model.encoder.blocks:
            for name in LAYERS:
                linear = block.get_submodule(name)
                assert isinstance(linear, nn.Linear)
                block.set_submodule(name, LoraLinear(linear, options))


def merged(model: FinetunedModel) -> FinetunedModel:
    """A model without factors that computes the same; the same weights where there are none. In eval mode."""
    state = {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[2] not in FACTORS}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            state[f"{name}.weight"] = module.merged_weight().detach()
    with torch.device("meta"):
        plain = FinetunedModel(model.config, model.variant, model.tuned)
    plain.load_state_dict(state, assign=True)
    return plain.eval()
