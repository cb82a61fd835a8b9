"""What `mmae status` prints, and how soon."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmae.cli import main
from mmae.run.status import duration


@pytest.fixture
def run(tmp_path: Path) -> Path:
    begin: dict[str, object] = {
        "step": 0,
        "max_steps": 4000,
        "stop": 3000,
        "log_every": 10,
        "checkpoint_every": 100,
        "world": 1,
    }
    train: dict[str, object] = {
        "step": 1000, "epoch": 3, "loss": 2.5, "loss_mean": 2.75, "losses": {"rgb": 0.5, "depth": 2.0},
        "grad_norm": None, "tiles_per_second": 812.5, "mfu": 0.376, "data_wait_share": 0.004, "peak_memory_gb": 51.23,
        "step_seconds": 0.5,
    }  # fmt: skip
    val: dict[str, object] = {"step": 900, "losses": {"rgb": 0.25, "depth": None}}
    records: list[tuple[str, int, dict[str, object]]] = [("start", 60, begin), ("val", 30, val), ("train", 2, train)]
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps({"kind": kind, "time": time.time() - ago, **rest}) + "\n" for kind, ago, rest in records)
    )
    return tmp_path


def test_people_get_a_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run)]) == 0
    out = capsys.readouterr().out
    for words in (
        f"{run}: training\n", "1000 of 4000 (25.0%), epoch 3, this start stops at 3000",
        "2.5 (mean since the record before 2.75), gradient norm not a number", "rgb 0.5  depth 2",
        "0.25 at step 900", "812.5 tiles/s, MFU 37.6%, waiting for data 0.4%, peak memory 51.2 GB",
        "16 min 40 s, until about 20", "none yet",
    ):  # fmt: skip
        assert words in out, words


def test_programs_get_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["step"], found["train"]["loss"]) == ("training", 1000, 2.5)


def test_the_exit_status_tells_a_run_that_is_not_well(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (run / "log.jsonl").open("a") as file:
        end = {"kind": "end", "time": time.time(), "step": 1000, "why": "error", "error": "E: x"}
        file.write(json.dumps(end) + "\n")
    assert main(["status", str(run)]) == 1
    assert f"{run}: failed (E: x)" in capsys.readouterr().out
    assert main(["status", str(run / "nowhere")]) == 2


# Seconds would tell as much of the machine as of the command: counted is what would take them.
COSTS = """
import json, sys, tracemalloc
from mmae.cli import main
loads, read = json.loads, []
json.loads = lambda line: read.append(line) or loads(line)
tracemalloc.start()
status = main(["status", sys.argv[1], "--json"])
print(json.dumps([len(read), tracemalloc.get_traced_memory()[1], {"torch", "numpy"} & sys.modules.keys() == set()]))
sys.exit(status)
"""


@pytest.mark.process
def test_it_answers_at_once(run: Path) -> None:
    months = 30_000
    with (run / "log.jsonl").open("a") as file:
        file.write((json.dumps({"kind": "train", "time": time.time(), "step": 9, "x": "y" * 1200}) + "\n") * months)
    done = subprocess.run([sys.executable, "-c", COSTS, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read, most_bytes, light = json.loads(done.stdout.splitlines()[-1])
    assert 0 < read < months / 100
    assert most_bytes < 8 << 20
    assert light


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3_661, "1 h 1 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def say(run: Path, kind: str, **values: object) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"kind": kind, "time": time.time(), **values}) + "\n")


def test_a_run_without_validation_tiles_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(run, "resume", step=1000, validation_tiles=0)
    main(["status", str(run)])
    out = capsys.readouterr().out
    assert "validation  none: the shards have no tiles in a split val" in out
    # A log of an earlier version, which recorded validations of nothing.
    say(run, "resume", step=1000)
    say(run, "val", step=1000, losses={})
    main(["status", str(run)])
    out = capsys.readouterr().out
    assert "validation  none: the shards have no tiles in a split val" in out


def test_scores_that_people_read_stand_below_the_losses(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rmse, units = {"rgb": 0.01234, "depth": None}, {"rgb": "reflectance", "depth": "m"}
    say(run, "val", step=1000, losses={"rgb": 0.5}, iou={"semseg": 0.3}, rmse=rmse, units=units)
    main(["status", str(run)])
    said = "rgb 0.5\n              IoU: semseg 0.3; RMSE in reflectance: rgb 0.0123; RMSE in m: depth unknown\n"
    assert said in capsys.readouterr().out


def test_averaged_weights_stand_below_the_weights(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ema = {"losses": {"rgb": 0.25, "depth": 1.0}, "scored": {"rgb": 3, "depth": 3}, "iou": {"semseg": 0.4}}
    say(run, "val", step=1000, losses={"rgb": 0.5, "depth": 1.5}, ema=ema)
    main(["status", str(run)])
    said = "  averaged    loss 1.25, of the weights themselves 2\n              rgb 0.25  depth 1\n"
    assert f"{said}              IoU: semseg 0.4\n" in capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")


def test_probes_and_the_best_checkpoint_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = {"keep_best": "eval.biome", "eval_protocol": "512 tiles, seed 0"}
    say(run, "resume", step=1000, **best)
    say(run, "eval", step=1000, scores={"biome": 0.61}, failed={"slope": "rank 1: no memory"}, seconds=1.5)
    main(["status", str(run)])
    out = capsys.readouterr().out
    assert "probes      biome 0.61, slope failed (rank 1: no memory) at step 1000\n" in out
    assert "best        none yet: no checkpoint has a score eval.biome\n" in out
    for step, score in ((500, 0.7), (1000, 0.61)):
        checkpoint = run / "checkpoints" / f"global_step{step}"
        checkpoint.mkdir(parents=True)
        state = {"scores": {"eval.biome": score}, "protocol": best["eval_protocol"]}
        (checkpoint / "state.json").write_text(json.dumps(state))
    main(["status", str(run)])
    assert "best        global_step500, eval.biome 0.7\n" in capsys.readouterr().out
    main(["status", str(run), "--json"])
    assert json.loads(capsys.readouterr().out)["best_score"] == 0.7


def test_what_was_not_scored_differs_from_what_is_not_finite(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(run, "train", step=1001, loss=None, losses={"rgb": None, "depth": None}, scored={"rgb": 0, "depth": 0}, lr=1e-4)
    say(run, "val", step=1001, losses={"rgb": 0.5, "depth": None}, scored={"rgb": 9, "depth": 0}, lost={})
    main(["status", str(run)])
    out = capsys.readouterr().out
    assert "loss        nothing scored, gradient norm not a number, learning rate 0.0001" in out
    assert "0.5 at step 1001\n              rgb 0.5  depth nothing scored" in out
    assert "warning" not in out
    say(run, "train", step=1002, loss=None, losses={"rgb": None, "depth": 1.0}, scored={"rgb": 3, "depth": 3})
    say(run, "val", step=1002, losses={"rgb": None, "depth": 1.5}, scored={"rgb": 9, "depth": 9}, lost={"rgb": 2})
    main(["status", str(run)])
    out = capsys.readouterr().out
    assert "not a number at step 1002\n              rgb not a number  depth 1.5" in out
    assert "warning: the loss of step 1002 is not a number" in out
    assert "warning: the validation loss of rgb at step 1002 is not a number: it is not finite on 2 of 9 tiles" in out
