"""`mmae doctor`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmae.cli import main
from mmae.distributed.code_hash import code_hash
from mmae.doctor.bandwidth.rank import REPEATS
from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED

Capture = pytest.CaptureFixture[str]


@pytest.mark.process
def test_this_machine(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    words = ["--bandwidth", "--config", "vit_b", "--deepspeed_config", "zero2", "train.global_batch=64"]
    main(["doctor", "--run", str(tmp_path / "run"), "--json", str(tmp_path / "said.json"), *words])
    said = json.loads((tmp_path / "said.json").read_text())
    rows = {row["check"]: row for row in said["rows"]}
    assert {rows[name]["level"] for name in ("software", "code", "run folder", "op cache")} == {"ok"}
    assert rows["disk"]["level"] == "note"
    assert "ssh" not in rows
    if not torch.cuda.is_available():
        assert "2 ranks reduce" in rows["bandwidth"]["found"]
        assert rows["network"]["found"].startswith("vit_b, zero2: ")
        assert len(said["bandwidth"]["seconds"]) == REPEATS
    assert said["hosts"][0]["facts"]["versions"]["deepspeed"] in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.process
def test_a_failed_check_is_status_1(tmp_path: Path, capsys: Capture) -> None:
    words = ["doctor", "--shards", str(tmp_path / "absent"), "--json", str(tmp_path / "said.json")]
    assert main(words) == EXIT_FAILED
    assert json.loads((tmp_path / "said.json").read_text())["failed"] is True
    assert "| shards " in capsys.readouterr().out


def test_bad_input_is_reported_before_any_host_is_asked(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "hosts").write_text("-oProxyCommand=x slots=1\n")
    assert main(["doctor", "--hostfile", str(tmp_path / "hosts")]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith(f"mmae: error: {tmp_path}/hosts:1: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "vit_b"], "need --bandwidth"),
        (["--bandwidth", "model.size=huge"], "add --config RECIPE"),
        (["--bandwidth", "--config", "vit_x"], "did you mean"),
        (["--bandwidth", "--config", "vit_b"], "cannot be split over 7 ranks"),
    ],
)
def test_a_recipe_that_cannot_be_compared_with(words: list[str], message: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "hosts").write_text("no.such.host slots=7\n")
    assert main(["doctor", "--hostfile", str(tmp_path / "hosts"), *words]) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err


def test_code_differs_by_names_and_bytes(tmp_path: Path) -> None:
    hashes: set[str] = set()
    for name, text in (("a.py", "x"), ("b.py", "x"), ("a.py", "y"), ("d/a.py", "x")):
        folder = tmp_path / f"{len(hashes)}"
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
        hashes.add(code_hash(folder))
        (folder / "note.txt").write_text("no code")
        assert code_hash(folder) in hashes
    assert len(hashes) == 4
