"""The sample log differs for different samples, and is equal for equal samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from mmae.engine.telemetry.sample_log import SampleLog
from mmae.types import Batch, Inputs, MaskPlan

NONE = torch.empty(0)
BATCH = replace(Batch({}, NONE, NONE, NONE, NONE), row_B=torch.tensor([4, 7]), key_B=torch.tensor([40, 70]))


def sample(value: float = 1.0, kept: int = 0, valid: bool = True) -> tuple[Inputs, MaskPlan]:
    values = {"rgb": torch.stack([torch.zeros(3), torch.full((3,), value)])}
    inputs = Inputs(values, {"rgb": torch.full((2, 3), valid)}, {}, NONE, NONE)
    return inputs, cast(MaskPlan, type("Plan", (), {"keep_BK": torch.tensor([[0], [kept]])})())


def lines(folder: Path, *samples: tuple[Inputs, MaskPlan]) -> list[dict[str, Any]]:
    log = SampleLog(folder, 3, on=True)
    for step, each in enumerate(samples):
        log.write(step, [BATCH], [each])
    log.close()
    return [json.loads(line) for line in (folder / "samples_rank3.jsonl").read_text().splitlines()]


def test_a_line_names_the_tiles_of_a_micro_batch(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, sample())
    assert (line["step"], line["rows"], line["keys"]) == (0, [4, 7], [40, 70])
    assert len(line["samples"]) == 2


def test_samples_differ_by_values_validity_and_mask(tmp_path: Path) -> None:
    found = [line["samples"] for line in lines(
        tmp_path, sample(), sample(), sample(value=2.0), sample(kept=1), sample(valid=False)
    )]  # fmt: skip
    assert found[0] == found[1]
    assert len({second for _, second in found}) == 4
    assert found[2][0] == found[0][0]


def test_off_it_leaves_no_file(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, 0, on=False)
    log.write(0, [BATCH], [sample()])
    log.close()
    assert list(tmp_path.iterdir()) == []
