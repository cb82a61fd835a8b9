"""`mmae bench step`, on a model so small that only its table can be judged."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mmae.bench.step.breakdown import KINDS
from mmae.bench.step.command import BOUND, PARTS, PLAIN
from mmae.cli import main
from tests.support.commands import Finished, run_command

Row = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def done(folder: Path) -> Finished:
    """Every kind of row, of one nano model."""
    words = ["--config", "debug", "--micro-batch", "2", "--precision", "fp32,bf16", "--modes", "none,full/2"]
    more = ["--repeats", "3", "--breakdown", "--json", "table.json", "model.size=nano", "model.decoder_dim=32"]
    finished = run_command("mmae", "bench", "step", *words, *more, cwd=folder)
    assert finished.status == 0, finished.err
    return finished


@pytest.fixture(scope="module")
def table(done: Finished, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "table.json").read_text())
    return content


def ours(table: dict[str, Any]) -> list[Row]:
    return [row for row in table["rows"] if row["what"].startswith("ours")]


@pytest.mark.process
def test_every_step_has_one_row(table: dict[str, Any]) -> None:
    steps = ["ours, none", "ours, full/2", BOUND, PLAIN]
    found = [(row["precision"], row["micro_batch"], row["what"]) for row in table["rows"]]
    assert found == [(precision, 2, step) for precision in ("fp32", "bf16") for step in steps]


@pytest.mark.process
def test_figures_follow_from_one_another(table: dict[str, Any]) -> None:
    for first in range(0, 8, 4):
        rows = table["rows"][first : first + 4]
        bound, plain = rows[2], rows[3]
        assert bound["of_bound"] == plain["to_plain"] == 1
        for row in rows:
            assert row["tiles_per_second"] == pytest.approx(2000 / row["milliseconds"])
            assert row["of_bound"] == pytest.approx(bound["milliseconds"] / row["milliseconds"])
            assert row["to_plain"] == pytest.approx(plain["milliseconds"] / row["milliseconds"])
            # Of one and the same number of operations.
            assert row["mfu"] * row["milliseconds"] == pytest.approx(bound["mfu"] * bound["milliseconds"])
            assert row["mfu"] > 0


@pytest.mark.process
def test_the_bound_is_the_sum_of_its_parts(done: Finished, table: dict[str, Any]) -> None:
    assert "# The bound of a step of debug, part by part" in done.out
    for precision in ("fp32", "bf16"):
        parts = [row for row in table["roofline"] if row["precision"] == precision]
        assert sum(row["share"] for row in parts) == pytest.approx(1)
        assert {row["part"] for row in parts if row["gflop"] == 0} >= {"losses", "optimiser"}
        assert min(row["milliseconds"] for row in parts) > 0
        (bound,) = [row for row in table["rows"] if row["precision"] == precision and row["what"] == BOUND]
        assert sum(row["milliseconds"] for row in parts) == pytest.approx(bound["milliseconds"])


@pytest.mark.process
def test_a_step_is_broken_down_by_kind(done: Finished, table: dict[str, Any]) -> None:
    assert "# A step of debug by kind of work, under the profiler" in done.out
    for precision, mode in product(("fp32", "bf16"), ("none", "full/2")):
        rows = [row for row in table["breakdown"] if (row["precision"], row["what"]) == (precision, f"ours, {mode}")]
        assert [row["kind"] for row in rows] == list(KINDS)
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert min(row["calls"] for row in rows) > 0
    assert f"bf16, 2, ours, {mode}: idle for " in done.out


@pytest.mark.process
def test_parts_are_shares_of_a_step(table: dict[str, Any]) -> None:
    for part in PARTS:
        # No upper limit: parts and step are timed one after the other, and another program may slow either.
        assert min(row[part] for row in ours(table)) > 0
    for row in table["rows"]:
        if row not in ours(table):
            assert {row[part] for part in PARTS} == {None}


@pytest.mark.process
def test_the_json_holds_what_was_printed(done: Finished, table: dict[str, Any]) -> None:
    assert f"# {table['title']}" in done.out
    assert table["device"].startswith(("CPU, ", "NVIDIA"))
    words = " ".join(done.out.split())
    for note in table["notes"]:
        assert " ".join(note.split()) in words
    printed = done.out.splitlines()[done.out.splitlines().index(f"# {table['title']}") :]
    parts = sum(line.startswith("| precision ") for line in printed)
    assert sum(line.startswith(("| fp32 ", "| bf16 ")) for line in printed) == parts * len(table["rows"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--micro-batch", "0"], "--micro-batch 0: give whole numbers"),
        (["--micro-batch", "2,"], "--micro-batch 2,: give whole numbers"),
        (["--precision", "fp64"], "--precision fp64: unknown 'fp64'; did you mean 'fp32'?"),
        (["--modes", "none,ful"], "--modes none,ful: unknown 'ful'; did you mean 'full'?"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
        (["--json", "no/where.json"], "--json no/where.json: there is no folder"),
        (["--config", "debugg"], "recipe debugg: neither a file nor a packaged name"),
        (["--deepspeed_config", "zero9"], "--deepspeed_config zero9: neither a file nor a packaged name"),
        (["train.compile=true"], "train.compile: mmae bench step takes --modes instead"),
        (["train.micro_batch=4"], "train.micro_batch: mmae bench step takes --micro-batch instead"),
        (["train.frozen=[encoder]"], "train.frozen: mmae bench step measures steps in which all parts learn"),
        (["model.sise=nano"], "unknown key 'model.sise'; did you mean 'model.size'?"),
        (["model.size=nan"], "unknown model.size='nan'"),
    ],
)
def test_bad_options_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "step", "--config", "debug", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mmae: error: ")
    assert message in line


def test_an_earlier_table_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.json").write_text("old")
    assert main(["bench", "step", "--json", str(tmp_path / "old.json")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "old.json").read_text() == "old"
