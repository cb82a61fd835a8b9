"""The stacked decoders against a plain loop over ordinary modules, one decoder an output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import ModelConfig
from mmae.modalities import output_source
from mmae.model.decoders import Decoders
from mmae.model.layers import SharedInputLinear, StackedBlock, StackedLayerNorm, StackedLinear, StackedMlp
from mmae.model.recompute import Recompute

DIM = 24


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def linear(stacked: nn.Module, o: int) -> nn.Linear:
    assert isinstance(stacked, StackedLinear)
    layer = nn.Linear(stacked.weight.shape[2], stacked.weight.shape[1])
    layer.load_state_dict({"weight": stacked.weight[o], "bias": stacked.bias[o]})
    return layer


def norm(stacked: nn.Module, o: int) -> nn.LayerNorm:
    assert isinstance(stacked, StackedLayerNorm)
    layer = nn.LayerNorm(stacked.weight.shape[1], eps=1e-6)
    layer.load_state_dict({"weight": stacked.weight[o], "bias": stacked.bias[o]})
    return layer


def mlp(stacked: nn.Module, o: int) -> nn.Sequential:
    assert isinstance(stacked, StackedMlp)
    return nn.Sequential(linear(stacked.fc1, o), nn.GELU(), linear(stacked.fc2, o))


def attention(q_nd: Tensor, k_Ld: Tensor, v_Ld: Tensor, heads: int) -> Tensor:
    """Head by head, without a fused kernel."""
    parts = zip(q_nd.chunk(heads, -1), k_Ld.chunk(heads, -1), v_Ld.chunk(heads, -1), strict=True)
    return torch.cat([((q @ k.T) * q.shape[-1] ** -0.5).softmax(-1) @ v for q, k, v in parts], -1)


def decode_one(decoders: Decoders, config: ModelConfig, output: str, encoded_LD: Tensor, keep_K: Tensor) -> Tensor:
    """One output of one tile, (n, values of a patch)."""
    o, heads, n = config.outputs.index(output), config.decoder_num_heads, config.tokens_per_modality
    positions = decoders.positions(torch.float32).expand(len(config.outputs), -1, -1)[o]
    context = linear(decoders.proj_context, o)(encoded_LD)
    queries = [decoders.mask_token[o] + positions[place] for place in range(n)]
    source = output_source(output).name
    home = config.in_domains.index(source) if source in config.in_domains else None
    if home is not None:
        queries = [query + decoders.task_embeddings[o, home] for query in queries]
    rows = list(context)
    for k, token in enumerate(keep_K.tolist()):
        m, place = divmod(token, n)
        rows[k] = rows[k] + decoders.task_embeddings[o, m] + positions[place]
        if m == home:
            queries[place] = rows[k]
    cross = decoders.cross_attention
    key, value = linear(cross.kv, o)(norm(decoders.context_norm, o)(torch.stack(rows))).chunk(2, -1)
    query = linear(cross.q, o)(norm(decoders.query_norm, o)(torch.stack(queries)))
    x = linear(cross.proj, o)(attention(query, key, value, heads))
    x = x + mlp(decoders.mlp, o)(norm(decoders.out_norm, o)(x))
    for block in decoders.blocks:
        assert isinstance(block, StackedBlock)
        q, k_, v = linear(block.attn.qkv, o)(norm(block.norm1, o)(x)).chunk(3, -1)
        x = x + linear(block.attn.proj, o)(attention(q, k_, v, heads))
        x = x + mlp(block.mlp, o)(norm(block.norm2, o)(x))
    out: Tensor = decoders.out_proj[output](x)
    return out


CASES = {
    "published": {},
    "no blocks": {"decoder_depth": 0},
    "two blocks": {"decoder_depth": 2},
    "one output": {"out_domains": ("semseg",), "extra_norm_pix_loss": False},
    "output only": {"in_domains": ("depth", "semseg"), "out_domains": ("rgb", "depth", "sentinel1")},
    "one modality": {"in_domains": ("rgb",), "out_domains": ("rgb",), "num_encoded_tokens": 3},
    "no global tokens": {"num_global_tokens": 0},
    "learned positions": {"positions": "learned", "out_domains": ("sentinel1", "rgb")},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_stacked_decoders_are_a_loop_over_decoders(changes: dict[str, object], config: ModelConfig) -> None:
    config = replace(config, **changes)  # type: ignore[arg-type]
    decoders = Decoders(config, DIM, Recompute())
    randomise(decoders)
    generator = torch.Generator().manual_seed(0)
    keep = torch.stack([torch.randperm(config.num_tokens, generator=generator) for _ in range(3)])
    keep = keep[:, : config.num_encoded_tokens]
    encoded = torch.randn(3, config.num_encoded_tokens + config.num_global_tokens, DIM, generator=generator)
    patches = decoders(encoded, keep)
    assert tuple(patches) == config.outputs
    for output in config.outputs:
        source = output_source(output)
        side = source.patch(config.patch_size)
        assert patches[output].shape == (3, config.tokens_per_modality, source.channels, side, side)
        loop = torch.stack([decode_one(decoders, config, output, encoded[b], keep[b]) for b in range(3)])
        torch.testing.assert_close(patches[output].flatten(2), loop, rtol=1e-4, atol=2e-5)


def test_gradients_are_those_of_the_loop(config: ModelConfig) -> None:
    config = replace(config, in_domains=("rgb", "semseg"), out_domains=("rgb", "depth"), num_encoded_tokens=6)
    decoders = Decoders(config, DIM, Recompute())
    randomise(decoders)
    keep = torch.tensor([[0, 3, 7, 8, 11, 15], [2, 15, 1, 0, 14, 9]])
    encoded = torch.randn(2, 7, DIM, requires_grad=True)
    # Weights enter the loop as copies; what flows through them to these three holds their gradients too.
    leaves = [encoded, decoders.mask_token, decoders.task_embeddings]
    patches = decoders(encoded, keep)
    aims = {name: torch.randn_like(patch).flatten(2) for name, patch in patches.items()}
    stacked = torch.stack([(patches[name].flatten(2) * aims[name]).sum() for name in config.outputs]).sum()
    loop = torch.stack(
        [
            (decode_one(decoders, config, name, encoded[b], keep[b]) * aims[name][b]).sum()
            for name in config.outputs
            for b in range(2)
        ]
    ).sum()
    for ours, theirs in zip(torch.autograd.grad(stacked, leaves), torch.autograd.grad(loop, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_stacked_linear_layers() -> None:
    layer, shared = StackedLinear(3, 5, 4), SharedInputLinear(3, 5, 4)
    randomise(layer)
    shared.load_state_dict(layer.state_dict())
    x_OBni, x_BLi = torch.randn(3, 2, 7, 5), torch.randn(2, 7, 5)
    for o in range(3):
        torch.testing.assert_close(layer(x_OBni)[o], functional.linear(x_OBni[o], layer.weight[o], layer.bias[o]))
        torch.testing.assert_close(shared(x_BLi)[o], functional.linear(x_BLi, layer.weight[o], layer.bias[o]))


def test_stacked_layer_norm() -> None:
    layer = StackedLayerNorm(3, 6)
    randomise(layer)
    x_OBnd = torch.randn(3, 2, 4, 6)
    for o in range(3):
        expected = functional.layer_norm(x_OBnd[o], (6,), layer.weight[o], layer.bias[o], 1e-6)
        torch.testing.assert_close(layer(x_OBnd)[o], expected)


def test_an_output_without_its_input_sees_masks_only(config: ModelConfig) -> None:
    config = replace(config, in_domains=("depth",), out_domains=("rgb",), num_encoded_tokens=3)
    decoders = Decoders(config, DIM, Recompute())
    randomise(decoders)
    encoded = torch.randn(1, 4, DIM)
    before = decoders(encoded, torch.tensor([[0, 1, 2]]))["rgb"]
    # Visible places reach the prediction through the context alone, whose order does not matter.
    after = decoders(encoded[:, [2, 0, 1, 3]], torch.tensor([[2, 0, 1]]))["rgb"]
    torch.testing.assert_close(before, after)
