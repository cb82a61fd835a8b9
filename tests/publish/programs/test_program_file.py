"""The reloaded `ExportedProgram` computes what `mmae.features` computes, for any batch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from tests.support.exported_models import export, image, many_inputs, near, saved, tells_no_path
from tests.support.full_disk import REASON, files_up_to

pytestmark = pytest.mark.long
WORDS = ("--format", "torch-export", "--modalities", "semseg,rgb", "--image-size", "64x120")


def compare(model: MultiMAE, file: Path, names: tuple[str, ...], hw: tuple[int, int]) -> None:
    loaded = torch.export.load(file).module()
    for batch in (1, 3, 7):
        values = {name: image(name, batch, hw, seed=batch) for name in names}
        with torch.inference_mode():
            found, mine = loaded(*values.values()), features(model, values)
        tokens = [mine.global_tokens] if model.config.num_global_tokens else []
        assert len(found) == len(names) + len(tokens)
        for theirs, expected in zip(found, [*mine.maps.values(), *tokens], strict=True):
            near(theirs, expected)


def test_the_program_computes_the_features_and_says_what_it_takes(tmp_path: Path) -> None:
    model = many_inputs(num_global_tokens=2)
    source = saved(model, tmp_path / "model")
    assert export(source, tmp_path / "encoder.pt2", *WORDS) == 0
    # The archive stores its parts uncompressed, so these bytes are theirs.
    tells_no_path(tmp_path / "encoder.pt2")
    compare(model, tmp_path / "encoder.pt2", ("rgb", "semseg"), (64, 120))
    extra = {"mmae.json": ""}
    program = torch.export.load(tmp_path / "encoder.pt2", extra_files=extra)
    table = json.loads(extra["mmae.json"])
    assert table["outputs"] == ["rgb_map", "semseg_map", "global_tokens"]
    assert table["inputs"]["rgb"]["statistics_by_level"]["l1c"]["mean"] == [1003, 1002, 1001]
    # Neither decoders nor other inputs come along.
    assert not [name for name in program.state_dict if "decoder" in name or "depth" in name]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "base"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_program_computes_the_features_of_larger_models(number: int, size: str, tmp_path: Path) -> None:
    model = many_inputs(size, number)
    assert export(saved(model, tmp_path / "model"), tmp_path / "all.pt2", "--format", "torch-export") == 0
    compare(model, tmp_path / "all.pt2", model.config.in_domains, (56, 56))


def test_a_file_that_exists_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "encoder.pt2").write_text("mine")
    assert export(tmp_path / "model", tmp_path / "encoder.pt2", *WORDS) == 2
    assert "encoder.pt2 exists already" in capsys.readouterr().err
    assert (tmp_path / "encoder.pt2").read_text() == "mine"


def test_another_ending_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "model", tmp_path / "encoder", *WORDS) == 2
    assert f"torch asks for a name that ends in .pt2: say {tmp_path / 'encoder.pt2'}" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(many_inputs(), tmp_path / "model")
    before = set(os.listdir(tmp_path))
    with files_up_to(20_000):
        assert export(source, tmp_path / "encoder.pt2", *WORDS) == 2
    said = capsys.readouterr().err
    assert f"encoder.pt2: cannot be written ({REASON}" in said
    assert said.count("\n") == 1
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--modalities", "rgb,rgb"), "--modalities: rgb is named twice"),
        (("--modalities", "rbg"), "--modalities: 'rbg' is not an input of this model; did you mean 'rgb'?"),
        (("--modalities", ""), "--modalities '': give names with commas between them"),
        (("--image-size", "57"), "--image-size 57x57: height and width must be multiples of the patch size, 8"),
        (("--level", "l1c"), "--level: --format torch-export does not take it"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(many_inputs(), tmp_path / "model")
    assert export(source, tmp_path / "encoder.pt2", "--format", "torch-export", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
