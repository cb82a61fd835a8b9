"""Where our attention kernel cannot run, torch's does, and a start says why."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch

from mmae.config.schema import ModelConfig
from mmae.model.attention import cross_attention, self_attention
from mmae.model.short_attention import applicable
from mmae.model.short_attention.applicable import device_refusal, fits, kernel_here, takes, unused_line

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SHORT = ModelConfig(attention="short")


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(applicable, "INTERPRETED", False)
    device_refusal.cache_clear()
    yield
    device_refusal.cache_clear()


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is not there, and Triton."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _index: (9, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))


@pytest.mark.usefixtures("hopper")
def test_a_recent_gpu_with_triton_runs_the_kernels() -> None:
    assert unused_line(SHORT, CUDA) is None
    assert fits(49, 50, 16, torch.bfloat16)


def test_nothing_is_said_of_torch_s_attention() -> None:
    assert unused_line(ModelConfig(), CPU) is None


def test_a_cpu_runs_torch_s_attention_and_says_so() -> None:
    assert unused_line(SHORT, CPU) == "model.attention=short: it needs a GPU: torch's attention runs instead"


@pytest.mark.usefixtures("hopper")
def test_the_interpreter_stands_in_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applicable, "INTERPRETED", True)
    assert unused_line(SHORT, CPU) is None


@pytest.mark.usefixtures("hopper")
def test_without_triton_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    line = unused_line(SHORT, CUDA)
    assert line is not None
    assert "the package triton is missing (pip install triton)" in line


@pytest.mark.usefixtures("hopper")
def test_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _index: (7, 5))
    assert device_refusal("cuda", 0) == "it needs a GPU of compute capability 8.0 or newer"


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"num_encoded_tokens": 98}, ["the encoder has 99 tokens, more than 64",
                                      "the decoders' cross-attention has 99 tokens, more than 64"]),
        ({"input_size": 96}, ["the decoders' cross-attention has 144 tokens, more than 64",
                              "the decoders' self-attention has 144 tokens, more than 64"]),
        ({"input_size": 96, "decoder_depth": 0}, ["the decoders' cross-attention has 144 tokens, more than 64"]),
        ({"decoder_dim": 512, "decoder_num_heads": 2, "decoder_depth": 0},
         ["the decoders' cross-attention has heads of 256 columns, more than 128"]),
    ],
)  # fmt: skip
def test_the_line_names_the_layers_that_are_too_long_or_too_wide(change: dict[str, Any], parts: list[str]) -> None:
    expected = f"model.attention=short: {'; '.join(parts)}: torch's attention runs there"
    assert unused_line(replace(SHORT, **change), CUDA) == expected


@pytest.mark.parametrize(
    ("queries", "keys", "width", "dtype"),
    [(65, 50, 64, torch.float32), (50, 65, 64, torch.float32), (50, 50, 129, torch.float32), (50, 0, 64, torch.float32),
     (0, 50, 64, torch.float32), (50, 50, 64, torch.float64)],
)  # fmt: skip
def test_what_the_kernels_do_not_take(queries: int, keys: int, width: int, dtype: torch.dtype) -> None:
    assert not fits(queries, keys, width, dtype)


@pytest.mark.usefixtures("hopper")
def test_a_model_takes_the_kernel_that_its_machine_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_here("torch") == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kernel_here("short") == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert kernel_here("short") == "short"
    # Such a model may still be moved to the CPU.
    assert not takes(5, torch.zeros(1, 5, 3, 2, 16))


def test_what_a_cpu_computes_is_torch_s_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    qkv, query, kv = (torch.randn(2, 7, width, generator=draw) for width in (96, 32, 64))
    assert torch.equal(self_attention(qkv, 2, "short"), self_attention(qkv, 2, "torch"))
    assert torch.equal(cross_attention(query, kv, 2, "short"), cross_attention(query, kv, 2, "torch"))
