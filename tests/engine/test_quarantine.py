"""Tiles that may have caused a bad step are named: in the rank's file all of them, on the terminal a few."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmae.data.sampling.order import rank_slices
from mmae.engine.quarantine import MAX_LINES, Quarantine, Suspects
from mmae.run.spec import RunSpec, make_run_spec
from mmae.types import Batch
from tests.support.small_model import SMALL
from tests.support.tiny_sets import write_set

NONE = torch.empty(0)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    write_set(tmp_path / "shards", {"train": list(range(9))})
    words = [*SMALL, f"data.shards={tmp_path / 'shards'}", f"run.dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    return make_run_spec("debug", "zero1", words, 2)


def suspects(*finite: list[list[bool]]) -> Suspects:
    """Micro-batches of two tiles each, by which losses of each output are finite."""
    batches = []
    for number, _ in enumerate(finite):
        rows = torch.tensor([10 * number, 10 * number + 1])
        batches.append(replace(Batch({}, NONE, NONE, NONE, NONE), row_B=rows, key_B=rows + 100))
    return Suspects(batches, [torch.tensor(each) for each in finite])


def records(spec: RunSpec, rank: int = 0) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (spec.folder.path / "quarantine" / f"rank_{rank}.jsonl").read_text().splitlines()
    ]


def made(spec: RunSpec, shards: int, monkeypatch: pytest.MonkeyPatch) -> Quarantine:
    monkeypatch.setattr(Quarantine, "_shards", lambda self, step: [f"shard{tile}" for tile in range(shards)])
    return Quarantine(spec, 0)


def test_a_bad_loss_names_its_tiles_by_output(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = spec.config.model.outputs
    others = [[True, True]] * (len(outputs) - 2)
    found = suspects([[True, False], [True, True], *others], [[True, True], [False, True], *others])
    made(spec, 4, monkeypatch).write(5, "loss", found)
    first, second = records(spec)
    assert [first["modality"], second["modality"]] == list(outputs[:2])
    assert (first["step"], first["reason"]) == (5, "loss")
    assert (first["keys"], first["rows"], first["shards"]) == ([101], [1], ["shard1"])
    assert (second["keys"], second["rows"], second["shards"]) == ([110], [10], ["shard2"])


def test_a_bad_gradient_names_all_tiles_of_the_step(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = [[True, True], [True, True]]
    made(spec, 4, monkeypatch).write(5, "gradient", suspects(fine, fine))
    (record,) = records(spec)
    assert (record["modality"], record["rows"]) == (None, [0, 1, 10, 11])
    said = capsys.readouterr().err
    assert (
        "rank 0, step 5: the gradient is not finite; among the tiles are row 0 (shard0), 1 (shard1), 10 (shard2)"
        in said
    )
    assert "and 1 more" in said


def test_a_validation_names_rows(spec: RunSpec) -> None:
    Quarantine(spec, 1).write_validation(7, {"rgb": [3, 4]})
    assert records(spec, 1) == [{"step": 7, "reason": "validation", "modality": "rgb", "rows": [3, 4]}]


def test_the_terminal_is_not_flooded(spec: RunSpec, capsys: pytest.CaptureFixture[str]) -> None:
    quarantine = Quarantine(spec, 0)
    for step in range(MAX_LINES + 5):
        quarantine.write_validation(step, {"rgb": [3]})
    said = capsys.readouterr().err.splitlines()
    assert len(said) == MAX_LINES
    assert "further ones are named in" in said[-1]
    assert len(records(spec)) == MAX_LINES + 5


def test_a_file_that_cannot_be_written_costs_the_list_only(spec: RunSpec, capsys: pytest.CaptureFixture[str]) -> None:
    (spec.folder.path / "quarantine").write_text("in the way")
    Quarantine(spec, 0).write_validation(7, {"rgb": [3]})
    assert "not written" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [0, 1])
def test_the_shards_follow_from_the_step(spec: RunSpec, rank: int) -> None:
    index = spec.tiles.sets[0].index
    for step in (1, 2, 3):
        epoch, slots = spec.order.global_batch_at(step - 1)
        tiles = [
            tile for part in rank_slices(spec.split, rank) for tile in spec.tiles.locate(epoch, slots[part]).tile_B
        ]
        expected = [index.shards[int(index.shard[tile])].name for tile in tiles]
        assert Quarantine(spec, rank)._shards(step) == expected
        assert len(expected) == spec.split.micro * spec.split.accumulation
