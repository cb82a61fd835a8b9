"""`mmae reconstruct`: its words, and what it does without matplotlib. Whole pictures are drawn in tests/integration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from mmae.cli import main
from mmae.errors import InputError
from mmae.evaluate import reconstruct
from mmae.evaluate.pictures.mask_choice import MaskChoice
from tests.support.reported_run import write_run


def words(*typed: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reconstruct.add_arguments(parser)
    return parser.parse_args(typed)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--tiles", "0"], "--tiles 0: at least one tile"),
        (["--worst", "-1"], "--worst -1: at least one tile"),
        (["--random", "2", "--keys", "a"], "not allowed with"),
        (["--mask", "-1"], "--mask -1: masks are numbered from 0"),
        (["--hide", "rgb", "--visible", "rgb=1"], "--hide and --visible contradict"),
        (["--format", "gif"], "invalid choice"),
    ],
)
def test_words_that_make_no_picture_are_one_line(
    typed: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    assert main(["reconstruct", str(run), *typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (run / "pictures").exists()


def test_steps_belong_to_runs() -> None:
    assert reconstruct._runs_and_steps(words("a")) == [("a", None)]
    assert reconstruct._runs_and_steps(words("a", "--step", "1", "--step", "2")) == [("a", 1), ("a", 2)]
    assert reconstruct._runs_and_steps(words("a", "b", "--step", "1")) == [("a", 1), ("b", 1)]
    assert reconstruct._runs_and_steps(words("a", "b", "--step", "1", "--step", "2")) == [("a", 1), ("b", 2)]
    with pytest.raises(InputError, match="3 times for 2 runs"):
        reconstruct._check_numbers(words("a", "b", *["--step", "1"] * 3))


def test_pictures_with_other_masks_have_other_names() -> None:
    parts = ("step3", "row000000001")
    masks = [MaskChoice(), MaskChoice(2), MaskChoice(hidden=("depth", "semseg")), MaskChoice(shares={"rgb": 0.5})]
    assert [reconstruct.file_name(*parts, each.name) for each in masks] == [
        "step3-row000000001", "step3-row000000001-mask2", "step3-row000000001-hide-depth-semseg",
        "step3-row000000001-visible-rgb0.5",
    ]  # fmt: skip
    long = [reconstruct.file_name("run" * 100, parts[1], each.name) for each in masks]
    assert len(set(long)) == len(masks)
    assert max(map(len, long)) < 220


def test_without_matplotlib_the_plain_picture_is_drawn_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct._plain(words("run")) is False
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert reconstruct._plain(words("run")) is True
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs matplotlib, which is not installed: pip install" in line
    for typed in (["run", "--format", "svg"], ["one", "two"], ["run", "--step", "1", "--step", "2"]):
        with pytest.raises(InputError, match="needs matplotlib"):
            reconstruct._plain(words(*typed))
