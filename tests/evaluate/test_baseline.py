"""`mmae baseline`, on a run that was never trained: its model is a random one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmae.cli import main
from mmae.config.recipe_file import build_config
from mmae.config.schema import Config, ModelConfig
from mmae.data.shards.index_json import DatasetInfo
from mmae.engine.checkpoint import consolidate
from mmae.engine.checkpoint.consolidate import Trained
from mmae.errors import InputError
from mmae.evaluate.baseline import hidden_names
from mmae.model.mmae import MultiMAE
from mmae.run.folder import RunFolder
from mmae.variants import Variant
from tests.support.tiny_sets import STATS, write_set

MODEL = ModelConfig(
    in_domains=("rgb", "depth", "ired"), out_domains=("rgb", "depth"), input_size=16, num_encoded_tokens=3
)
"""4 tokens a modality."""

LOG = [{"kind": "train"}, {"kind": "val", "losses": {"rgb": 4.0}}, {"kind": "val", "losses": {"rgb": 3.0}}]


@pytest.mark.parametrize(
    ("said", "names"), [(None, ()), ("depth", ("depth",)), ("ired, rgb", ("rgb", "ired")), ("rgb,rgb", ("rgb",))]
)
def test_names_come_in_the_model_s_order(said: str | None, names: tuple[str, ...]) -> None:
    assert hidden_names(said, MODEL) == names


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("dept", "--hide dept: 'dept' is not an input of this run; did you mean 'depth'?"),
        ("semseg", "'semseg' is not an input of this run (known: rgb, depth, ired)"),
        ("rgb,", "'' is not an input of this run"),
        ("", "'' is not an input of this run"),
        ("rgb,depth,ired", "the other inputs have 0 tokens, and the encoder sees 3"),
    ],
)
def test_what_cannot_be_hidden_is_named(said: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        hidden_names(said, MODEL)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_others_must_suffice() -> None:
    assert hidden_names("rgb,ired", replace(MODEL, num_encoded_tokens=4)) == ("rgb", "ired")
    with pytest.raises(InputError, match=r"have 4 tokens.* sees 5 .*: hide fewer"):
        hidden_names("rgb,ired", replace(MODEL, num_encoded_tokens=5))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration of a run in the folder `run`, its shards in `shards`, its checkpoint a random model."""
    infos = {name: DatasetInfo(np.dtype(kind), (bands, 16, 16))
             for name, kind, bands in (("sentinel2", "<u2", 13), ("aster", "<i2", 2))}  # fmt: skip
    write_set(tmp_path / "shards", {"train": list(range(20)), "val": list(range(20, 29))}, datasets=infos)
    config = build_config(
        {
            "data.shards": str(tmp_path / "shards"), "model.in_domains": MODEL.in_domains, "model.input_size": 16,
            "model.out_domains": MODEL.out_domains, "model.num_encoded_tokens": 3, "model.decoder_dim": 16,
            "model.decoder_num_heads": 2,
        },
        "test",
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    folder.write_configs(config, {}, dict(STATS))
    folder.log_file.write_text("".join(json.dumps(record) + "\n" for record in LOG))
    model = MultiMAE(config.model, Variant(dim=16, depth=1, num_heads=2, mlp_dim=32)).eval()
    trained = Trained(model, None, config, folder, dict(STATS), 7)
    monkeypatch.setattr(consolidate, "load_trained", lambda run, step, trust: trained)
    monkeypatch.chdir(tmp_path)
    return config


def rows(*words: str) -> dict[str, dict[str, float | None]]:
    assert main(["baseline", "run", "--json", "rows.json", *words]) == 0
    file = Path("rows.json")
    found = {row["output"]: row for row in json.loads(file.read_text())}
    file.unlink()  # it would not be overwritten
    assert list(found) == ["rgb", "depth", "norm_rgb"]
    return found


@pytest.mark.usefixtures("config")
def test_the_run_s_own_losses_stand_beside_the_constants(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows()
    assert (found["rgb"]["first"], found["rgb"]["last"]) == (4, 3)
    assert found["rgb"]["last/constant"] == 3 / (found["rgb"]["constant"] or 0)
    assert found["depth"]["last"] is None
    # Noise: its mean misses by its variance.
    assert found["rgb"]["constant"] == pytest.approx((900 / 500) ** 2 / 12, rel=0.1)
    assert found["norm_rgb"]["constant"] == pytest.approx(191 / 192, rel=1e-3)
    title, headings, _, _, depth, *_ = capsys.readouterr().out.splitlines()
    assert title == "# mmae baseline run: losses on normalised values"
    assert headings.split(" | ")[:3] == ["| output  ", "first val loss", "last val loss"]
    assert depth.split()[1:6:2] == ["depth", "-", "-"]


@pytest.mark.long
@pytest.mark.usefixtures("config")
def test_hidden_modalities_are_scored_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows("--hide", "depth")
    assert "run, step 7: no token of depth is visible" in capsys.readouterr().out
    assert all(row["hidden"] is not None and row["constant"] is not None for row in found.values())
    assert found["depth"]["hidden/constant"] == (found["depth"]["hidden"] or 0) / (found["depth"]["constant"] or 1)
    assert found["depth"]["accuracy"] is None
    # Every pixel of a hidden modality is scored, whatever else is visible.
    assert rows("--hide", "depth,rgb")["depth"]["constant"] == found["depth"]["constant"]


@pytest.mark.long
@pytest.mark.usefixtures("config")
def test_losses_of_visible_modalities_are_of_their_hidden_tokens() -> None:
    assert rows("--hide", "depth")["rgb"]["constant"] != rows("--hide", "depth,ired")["rgb"]["constant"]


@pytest.mark.usefixtures("config")
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "run", "--hide", "dept", "--json", "rows.json"]) == 2
    assert main(["baseline", "elsewhere", "--hide", "depth"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("mmae: error: --hide dept: ")
    assert second.startswith("mmae: error: elsewhere: no run lives here")
    assert not Path("rows.json").exists()
