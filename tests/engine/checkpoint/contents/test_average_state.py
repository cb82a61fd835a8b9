"""A checkpoint's averaged weights: any number of ranks reads what any number wrote, and damage is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from mmae.engine.checkpoint.contents.average_state import AveragePart, average_file, open_average
from mmae.errors import InputError

WEIGHTS = {"a.weight": torch.randn(23), "b": torch.tensor([-0.0])}


@dataclass
class Kept:
    half_life: int
    of_rank: Mapping[str, AveragePart]

    def parts(self) -> Mapping[str, AveragePart]:
        return self.of_rank


def write(folder: Path, cuts: list[int], weights: Mapping[str, Tensor] = WEIGHTS) -> None:
    """Files of ranks that divide the first weight at these places; the second one is the last rank's."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    edges = sorted({0, *cuts, len(weights["a.weight"])})
    for rank, (start, end) in enumerate(pairwise(edges)):
        parts = {"a.weight": AveragePart(start, weights["a.weight"][start:end])}
        if end == edges[-1]:
            parts["b"] = AveragePart(0, weights["b"])
        content = average_file(Kept(7, parts))
        assert content is not None
        (folder / f"average_rank_{rank}.safetensors").write_bytes(content)


@given(cuts=st.lists(st.integers(1, 22), max_size=11), start=st.integers(0, 22), size=st.integers(1, 23))
def test_any_row_of_numbers_is_read(
    cuts: list[int], start: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "ranks"
    write(folder, cuts)
    stored = open_average(folder)
    assert stored is not None
    assert stored.half_life == 7
    size = min(size, 23 - start)
    assert torch.equal(stored.read("a.weight", 23, start, size), WEIGHTS["a.weight"][start : start + size])
    assert stored.read("b", 1, 0, 1).signbit().item()


def test_a_rank_without_a_part_writes_nothing_and_a_checkpoint_may_have_none(tmp_path: Path) -> None:
    assert average_file(Kept(7, {})) is None
    assert open_average(tmp_path) is None


@pytest.mark.parametrize("numel", [22, 24])
def test_a_weight_of_another_size_is_refused(numel: int, tmp_path: Path) -> None:
    write(tmp_path, [9])
    stored = open_average(tmp_path)
    assert stored is not None
    with pytest.raises(InputError, match=f"do not hold the {numel} numbers of a.weight"):
        stored.read("a.weight", numel, 0, 3)
    with pytest.raises(InputError, match="do not hold the 5 numbers of c"):
        stored.read("c", 5, 0, 5)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_lost_or_doubled_part_is_refused(gone: int, tmp_path: Path) -> None:
    write(tmp_path, [9, 15])
    lost = tmp_path / f"average_rank_{gone}.safetensors"
    (tmp_path / "average_rank_9.safetensors").write_bytes(lost.read_bytes())
    doubled = open_average(tmp_path)
    (tmp_path / "average_rank_9.safetensors").unlink()
    lost.unlink()
    less = open_average(tmp_path)
    for stored in (doubled, less):
        assert stored is not None
        with pytest.raises(InputError, match="do not hold the 23 numbers"):
            stored.read("a.weight", 23, 0, 23)


ABOUT = {"starts": {"b": 0}, "half_life_tiles": 7}


def about(**more: object) -> dict[str, str]:
    return {"average": json.dumps(ABOUT | more)}


@pytest.mark.parametrize(
    ("tensor", "metadata"),
    [
        (torch.ones(1), {}),
        (torch.ones(1), {"average": "[" * 99_999}),
        (torch.ones(1), {"average": "[]"}),
        (torch.ones(1), about(starts=[])),
        (torch.ones(1), about(starts={})),
        (torch.ones(1), about(half_life_tiles="long")),
        (torch.ones(1, 1), about()),
        (torch.ones(1, dtype=torch.float64), about()),
    ],
)
def test_files_of_another_form_are_refused(tensor: Tensor, metadata: dict[str, str], tmp_path: Path) -> None:
    save_file({"b": tensor}, tmp_path / "average_rank_0.safetensors", metadata)
    with pytest.raises(InputError, match="cannot be read"):
        open_average(tmp_path)


def test_no_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "average_rank_0.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="cannot be read"):
        open_average(tmp_path)
