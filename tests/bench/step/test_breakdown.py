"""Work of a profile by kind, and the times in which nothing ran."""

from __future__ import annotations

import pytest

from mmae.bench.step.breakdown import Gap, Span, by_kind, kind_of


@pytest.mark.parametrize(("name", "kind"), [
    ("aten::mm", "products"), ("aten::addmm", "products"), ("aten::baddbmm", "products"),
    ("aten::convolution_backward", "products"), ("nvjet_hsh_128x256_64x4_2x1_v_bz_TNT", "products"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "products"),
    ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
    ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::Params)", "attention"),
    ("short_attention_backward", "attention"), ("mmae::short_self_attention", "attention"),
    ("aten::_fused_adamw_", "optimiser"), ("Memcpy DtoD (Device -> Device)", "copies"), ("aten::copy_", "copies"),
    ("aten::cat", "copies"), ("aten::gelu", "elementwise"), ("aten::native_layer_norm_backward", "elementwise"),
    ("triton_poi_fused_gelu_3", "elementwise"), ("aten::sum", "elementwise"), ("aten::comma", "elementwise"),
])  # fmt: skip
def test_a_name_has_its_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_time_within_an_operator_is_counted_once() -> None:
    spans = [Span("aten::gelu", 0, 100), Span("aten::copy_", 10, 40), Span("aten::mm", 50, 60)]
    found = by_kind(spans)
    assert found.nanoseconds == dict(products=10, attention=0, elementwise=60, copies=30, optimiser=0, idle=0)
    assert found.calls == dict(products=1, attention=0, elementwise=1, copies=1, optimiser=0, idle=0)


def test_what_runs_within_attention_is_attention() -> None:
    found = by_kind([Span("aten::scaled_dot_product_attention", 0, 50), Span("aten::bmm", 5, 45)])
    assert (found.nanoseconds["attention"], found.nanoseconds["products"]) == (50, 0)


def test_idle_is_what_no_lane_fills() -> None:
    spans = [
        Span("aten::mm", 0, 10),
        Span("aten::mul", 5, 30, lane=1),
        Span("aten::add", 50, 60),
        Span("aten::mm", 63, 70),
    ]
    found = by_kind(spans)
    assert found.nanoseconds["idle"] == 23
    assert found.gaps == [Gap(20, "aten::mul", "aten::add"), Gap(3, "aten::add", "aten::mm")]
    assert found.notes()[0].endswith("after aten::mul, before aten::add")
