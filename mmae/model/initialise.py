"""Initial weights: each module's own parameters, by what the published parameter they hold means.

Xavier-uniform weights (Glorot and Bengio, AISTATS 2010, eq. 16) with q, k, v treated as separate matrices, as
MultiMAE (Bachmann et al., ECCV 2022) initialises; embeddings and tokens from a truncated normal. What
`model.parametrisation=mup` changes is in `parametrisation.py`.

The weights of a module depend on (seed, its name, its shape) only: not on the random numbers of other modules, the
device, the precision, or whether DeepSpeed's `zero.Init` shards weights while they are built.
"""

from __future__ import annotations

import hashlib
from typing import Final

import torch
from torch import Tensor, nn

from mmae.model.decoders import Decoders
from mmae.model.encoder import HEAD, Encoder, EncoderModel
from mmae.model.layers import StackedLayerNorm, StackedLinear
from mmae.model.parametrisation import BASE, Parametrisation
from mmae.model.posembed import LearnedPositions

EMBEDDING_STD: Final = 0.02

_PARTS: Final = {"qkv": 3, "kv": 2}
"""Linear layers that hold several matrices one above the other, by their name."""


def initialise(model: nn.Module, seed: int) -> None:
    """Fill the weights of a whole model in place. Those of a head are left alone: `mmae.model.heads` draws them."""
    names = {module: name for name, module in model.named_modules()}
    scheme = _scheme(model)

    # `apply` visits a module at a time with its own weights gathered: a child's weight written from its parent would
    # be lost under `zero.Init`.
    def fill(module: nn.Module) -> None:
        of_head = f"{names[module]}.".startswith(HEAD)
        if not of_head and any(not parameter.is_meta for parameter in module.parameters(recurse=False)):
            _fill(module, names[module], scheme, _generator(seed, names[module]))

    with torch.no_grad():
        model.apply(fill)


def _scheme(model: nn.Module) -> Parametrisation:
    if isinstance(model, EncoderModel):
        return Parametrisation(model.config.parametrisation, model.variant)
    return Parametrisation("standard", BASE)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little"))


def _fill(module: nn.Module, name: str, scheme: Parametrisation, generator: torch.Generator) -> None:
    match module:
        case nn.Linear() | StackedLinear():
            fan_out, fan_in = module.weight.shape[-2:]
            parts = _PARTS.get(name.rpartition(".")[2], 1)
            module.weight.copy_(_uniform(module.weight, scheme.bound(name, fan_in, fan_out // parts), generator))
            module.bias.zero_()
        case nn.Conv2d():
            fan_in = module.weight[0].numel()
            module.weight.copy_(_uniform(module.weight, scheme.bound(name, fan_in, module.out_channels), generator))
            assert module.bias is not None
            module.bias.copy_(_uniform(module.bias, fan_in**-0.5, generator))
        case nn.LayerNorm() | StackedLayerNorm():
            module.weight.fill_(1.0)
            module.bias.zero_()
        case nn.Embedding():
            module.weight.copy_(_truncated_normal(module.weight, generator))
        case LearnedPositions():
            module.table.copy_(module.start())
        case Encoder():
            assert module.global_tokens is not None
            module.global_tokens.copy_(_truncated_normal(module.global_tokens, generator))
        case Decoders():
            module.mask_token.zero_()
            module.task_embeddings.copy_(_truncated_normal(module.task_embeddings, generator))
        case _:
            raise TypeError(f"no initialisation is known for {type(module).__name__} ({name})")


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return _unit(like, generator).mul_(2.0 * bound).sub_(bound)


def _truncated_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.trunc_normal_(_unit(like, generator), std=EMBEDDING_STD, generator=generator)


def _unit(like: Tensor, generator: torch.Generator) -> Tensor:
    # `torch.rand` is a constructor that `zero.Init` leaves alone: draws are float32 whatever the weights are.
    return torch.rand(like.shape, generator=generator, dtype=torch.float32, device="cpu")
