"""Records and messages about a run's steps, validations, saves and end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mmae.engine.checkpoint.background_save import SaveResult
from mmae.engine.telemetry import console_report
from mmae.engine.telemetry.run_log import RunLog
from mmae.engine.telemetry.trackers import numbers_of
from mmae.engine.val_scores import ValScores
from mmae.engine.validate import Validation
from mmae.evaluate.in_loop.probes import Probed
from mmae.run.folder import RunFolder
from mmae.run.record_fields import is_sound
from mmae.run.spec import RunSpec
from mmae.terminal.looks import fitted


class Log:
    """Notes what is written and said."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.shown: list[tuple[int, float | None]] = []

    def write(self, kind: str, **values: Any) -> None:
        self.written.append({"kind": kind, **values})

    def say(self, line: str) -> None:
        self.said.append(line)

    say_error = say

    def tell(self, head: str, text: str) -> None:
        self.said += fitted(head, text)

    def progress(self, step: int, loss: float | None, rate: float) -> None:
        self.shown.append((step, loss))


@pytest.fixture
def log() -> Log:
    return Log()


def real(log: Log) -> RunLog:
    return cast(RunLog, log)


def test_the_losses_of_the_last_step_are_returned(log: Log) -> None:
    records: list[Any] = [
        {"step": step, "loss": 1.0 / step, "losses": {"rgb": 1.0 / step}, "tiles_per_second": 9.0} for step in (1, 2)
    ]
    assert console_report.train_records(real(log), records) == {"rgb": 0.5}
    assert [record["kind"] for record in log.written] == ["train", "train"]
    assert log.shown == [(1, 1.0), (2, 0.5)]
    assert console_report.train_records(real(log), []) == {}


def test_a_loss_that_is_not_finite_is_printed(log: Log) -> None:
    found = Validation({"rgb": math.nan, "depth": 1.0}, {"rgb": 8, "depth": 8}, {"rgb": 2}, {"rgb": [3]})
    console_report.validation(real(log), 7, found, 1.5)
    assert log.said == [
        "WARNING: step 7: the validation loss of rgb is not finite on 2 of 8 tiles: see what they hold "
        "(quarantine/ names them)",
        "step 7: validation loss not a number",
    ]
    assert log.written[0]["lost"] == {"rgb": 2}


def test_a_validation_is_recorded_and_said_in_units_that_people_read(log: Log) -> None:
    read = ValScores({"semseg": {"trees": 0.5, "moss": None}}, {"semseg": 0.5}, {"depth": 12.34}, {"depth": "m"})
    console_report.validation(real(log), 7, Validation({"depth": 1.0}, {"depth": 8}, {}, {}, read), 1.5)
    assert log.said == ["step 7: validation loss 1; IoU: semseg 0.5; RMSE in m: depth 12.3"]
    (record,) = log.written
    assert (record["iou_of_classes"], record["units"]) == ({"semseg": {"trees": 0.5, "moss": None}}, {"depth": "m"})
    numbers = {name: number for name, number in numbers_of(record).items() if "iou" in name or "rmse" in name}
    assert numbers == {"val/iou/semseg": 0.5, "val/iou_of_classes/semseg/trees": 0.5, "val/rmse/depth": 12.34}


def test_averaged_weights_are_recorded_beside_the_weights(log: Log) -> None:
    found, averaged = (Validation({"depth": loss}, {"depth": 8}, {}, {}) for loss in (1.0, 0.75))
    console_report.validation(real(log), 7, found, 1.5, averaged)
    assert log.said == [
        "step 7: validation loss 1",
        "step 7: validation of the averaged weights: loss 0.75, of the weights themselves 1",
    ]
    (record,) = log.written
    assert (record["losses"], record["ema"]["losses"]) == ({"depth": 1.0}, {"depth": 0.75})
    assert numbers_of(record)["val/ema/losses/depth"] == 0.75


def test_probes_are_recorded_and_a_failure_is_a_warning(log: Log) -> None:
    found = Probed({"biome": 0.5, "slope": None}, {"elevation": "rank 1: no memory"})
    console_report.probes(real(log), 7, found, 1.5, Probed({"biome": 0.25}, {}))
    assert log.said == [
        "WARNING: step 7: the probe of elevation failed (rank 1: no memory); training goes on",
        "step 7: probes: biome 0.5, slope unknown",
        "step 7: probes of the averaged weights: biome 0.25",
    ]
    (record,) = log.written
    assert (record["kind"], record["failed"]) == ("eval", {"elevation": "rank 1: no memory"})
    assert {name: value for name, value in numbers_of(record).items() if "scores" in name} == {
        "eval/scores/biome": 0.5,
        "eval/ema/scores/biome": 0.25,
    }
    assert is_sound(record)


def test_a_save_is_recorded_and_a_failed_one_is_printed(log: Log) -> None:
    saves = [SaveResult(3, Path("c/global_step3"), size=10), SaveResult(6, None, "a.pt: disk full", rank=1)]
    console_report.save_records(real(log), saves)
    assert [(each["kind"], each["step"]) for each in log.written] == [("save", 3), ("save_failed", 6)]
    assert log.written[0]["bytes"] == 10
    (said,) = log.said
    assert "step 6: THE CHECKPOINT COULD NOT BE SAVED (rank 1: a.pt: disk full)" in said


def test_lost_numbers_end_the_run(log: Log) -> None:
    console_report.lost_numbers(real(log), 5, "step 5: gone")
    assert log.said == ["lost numbers: step 5: gone"]
    assert log.written == [{"kind": "end", "step": 5, "why": "lost numbers"}]


def test_lines_of_many_scores_fit_and_keep_names_with_their_scores(log: Log) -> None:
    outputs = ("rgb", "ired", "sired", "ebands")
    read = ValScores({}, {"semseg": 0.0652}, {name: 0.1234 for name in outputs}, dict.fromkeys(outputs, "reflectance"))
    console_report.validation(real(log), 7, Validation({"depth": 1.0}, {"depth": 8}, {}, {}, read), 1.5)
    assert len(log.said) == 2
    assert max(map(len, log.said)) <= 100
    assert all(any(f"{name} 0.123" in line for line in log.said) for name in outputs)


def test_people_get_the_end_in_words(log: Log) -> None:
    config = SimpleNamespace(train=SimpleNamespace(max_steps=4, global_batch=300))
    found = Validation({"rgb": 1.0, "depth": 0.5}, {"rgb": 8, "depth": 8}, {}, {})
    for step, stop, validated in ((4, 4, found), (3, 3, None), (2, 4, None)):
        spec = cast(RunSpec, SimpleNamespace(config=config, stop=stop))
        console_report.finished(real(log), spec, step, Path("c/global_step4") if validated else None, validated)
    assert log.said == [
        "finished: step 4 of 4, 1,200 tiles, validation loss 1.5, saved in c/global_step4",
        "stopped as asked: step 3 of 4, 900 tiles",
    ]


@pytest.mark.parametrize(("checkpoint", "expected"), [(None, None), (Path("c"), "c")])
def test_the_closing_line_is_json_without_nan(checkpoint: Path | None, expected: str | None) -> None:
    config = SimpleNamespace(train=SimpleNamespace(global_batch=32))
    spec = cast(RunSpec, SimpleNamespace(folder=RunFolder(Path("run")), config=config))
    line = console_report.closing_line(spec, 4, checkpoint, {"rgb": math.nan}, {"rgb": None})
    assert json.loads(line, parse_constant=pytest.fail) == {
        "run_dir": "run", "step": 4, "tiles_seen": 128, "losses": {"rgb": None}, "val_losses": {"rgb": None},
        "checkpoint": expected,
    }  # fmt: skip
