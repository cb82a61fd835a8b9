"""The kernels compiled for a GPU that is not there, and the command's one-line refusals."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mmae.bench.attention.compiled_kernels import Usage
from mmae.cli import main
from tests.support.commands import run_command


def test_how_many_programs_an_sm_runs_at_once() -> None:
    # 65 536 registers in shares of 256 a warp; 228 KB of shared memory, of which each program's costs 1 KB more.
    assert Usage(registers=80, spilled=0, shared=0).resident(90, warps=4) == 65_536 // (80 * 32 * 4)
    assert Usage(registers=81, spilled=0, shared=0).resident(90, warps=4) == 65_536 // (88 * 32 * 4)
    assert Usage(registers=16, spilled=0, shared=56 << 10).resident(90, warps=4) == 4
    assert Usage(registers=16, spilled=0, shared=56 << 10).resident(80, warps=4) == 2
    assert Usage(registers=16, spilled=0, shared=0).resident(90, warps=8) == 8


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is missing")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--compile-only", "--arch", "sm_90"], "--arch sm_90: unknown 'sm_90'; did you mean 'sm_90a'"),
        (["--compile-only", "--width", "0"], "--width 0: give whole numbers of at least 1"),
        (["--compile-only", "--width", "129"], "--width 129: heads have at most 128 columns"),
        (["--compile-only", "--precision", "bf17"], "--precision bf17: unknown 'bf17'"),
        (["--compile-only", "vit_b"], "--compile-only compiles for all sizes, and takes no recipe"),
        (["--compile-only", "--repeats", "3"], "--repeats: not with --compile-only, which runs nothing"),
        (["--width", "64"], "--width: only with --compile-only"),
        (["vit_z"], "vit_z"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
        ([], "mmae bench attention needs a GPU for times; without one, add --compile-only"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "attention", *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is missing")
def test_hardly_a_kernel_of_two_byte_numbers_spills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    words = ["--compile-only", "--precision", "bf16", "--json", "table.json"]
    done = run_command("mmae", "bench", "attention", *words, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert len(rows) == 3 * 6 * 2
    assert {row["spilled"] for row in rows if row["architecture"] != "sm_80"} == {0}
    # Seen: 16 bytes a thread of one kernel.
    assert max(row["spilled"] for row in rows) <= 32
    assert all(0 < row["registers"] <= 255 and row["resident"] >= 1 for row in rows)
