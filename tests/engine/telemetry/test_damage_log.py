"""Records and messages about damaged tiles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from mmae.engine.step import StepStats
from mmae.engine.telemetry.damage_log import MAX_LINES, DamageLog
from mmae.types import Batch, Damage

NONE = torch.empty(0)
SOUND = Batch({}, NONE, NONE, NONE, NONE)


def damaged(*rows: int) -> Batch:
    return replace(SOUND, damaged=tuple(Damage("s/train-000001.tar", row, "aster", 512, "torn") for row in rows))


def left_out(count: int) -> StepStats:
    return cast(StepStats, SimpleNamespace(left_out=torch.tensor(float(count), dtype=torch.float64)))


def records(folder: Path, rank: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"damaged_rank{rank}.jsonl").read_text().splitlines()]


def test_a_sound_run_leaves_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = DamageLog(tmp_path, 0)
    log.write(1, [SOUND, SOUND])
    log.count(left_out(0))
    assert log.lap() == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_each_tile_is_a_line_on_the_rank_that_met_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = DamageLog(tmp_path, 3)
    log.write(7, [SOUND, damaged(5, 6), damaged(9)])
    assert records(tmp_path, 3)[2] == {
        "step": 7, "shard": "s/train-000001.tar", "row": 9, "dataset": "aster", "offset": 512, "what": "torn"
    }  # fmt: skip
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == (
        "rank 3, step 7: left out a damaged tile: s/train-000001.tar: aster of row 5 at byte 512 (torn)"
    )


def test_a_lost_shard_does_not_flood_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = DamageLog(tmp_path, 0)
    for step in range(4):
        log.write(step, [damaged(*range(8 * step, 8 * step + 8))])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MAX_LINES + 1
    assert "damaged_rank0.jsonl only" in lines[-1]
    assert [record["row"] for record in records(tmp_path, 0)] == list(range(32))
    DamageLog(tmp_path, 0).write(5, [damaged(99)])
    assert len(records(tmp_path, 0)) == 33


def test_the_count_is_of_all_steps_since_the_last_record(tmp_path: Path) -> None:
    log = DamageLog(tmp_path, 0)
    for count in (2, 0, 3):
        log.count(left_out(count))
    assert log.lap() == 5
    assert log.lap() == 0


def test_batches_pass_while_they_are_watched(tmp_path: Path) -> None:
    log = DamageLog(tmp_path, 0)
    batches = [SOUND, damaged(4)]
    assert list(log.watch(2, batches)) == batches
    assert [record["row"] for record in records(tmp_path, 0)] == [4]
