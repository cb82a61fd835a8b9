"""JSON nested deeper than a process can follow, in every file of a run or model that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.source import json_files
from mmae.config.deepspeed import load_deepspeed_json
from mmae.data.shards.index_json import parse_head
from mmae.data.transforms import band_stats
from mmae.engine.checkpoint.contents.train_state import read_state
from mmae.engine.checkpoint.manifest import read_manifest
from mmae.errors import InputError
from mmae.model.saved.saved_config import read_model_config
from mmae.publish.import_published import read_band_stats
from mmae.run.folder import RunFolder
from mmae.run.layout import FOLLOWED
from mmae.run.locking.lock_owner import parse_holder
from mmae.run.log_reader import LogRecords
from mmae.run.restart import was_followed

DEEP = '{"a":' * 200_000
PARSED = '{"a":' * 600 + "NaN" + "}" * 600
"""It is parsed, but Python functions that go into it call themselves too often."""


def write(folder: Path, name: str, text: str = DEEP) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [DEEP, PARSED], ids=["deep", "parsed"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", read_model_config),
        ("state.json", read_state),
        ("band_stats.json", lambda folder: read_band_stats(str(folder / "band_stats.json"))),
        ("band_stats.json", lambda folder: band_stats.read_band_stats(folder / "band_stats.json")),
        ("band_stats.json", lambda folder: json_files.read_band_stats(folder / "band_stats.json")),
        ("index.json", lambda folder: parse_head((folder / "index.json").read_bytes(), folder / "index.json")),
        ("ds.json", lambda folder: load_deepspeed_json(str(folder / "ds.json"))),
    ],
)
def test_what_is_needed_is_refused_in_one_line(
    tmp_path: Path, name: str, read: Callable[[Path], object], text: str
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(InputError) as refused:
        read(tmp_path)
    assert str(refused.value).startswith(str(path))
    assert len(str(refused.value)) < 500


def test_a_runs_statistics_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, "band_stats.json")
    with pytest.raises(InputError) as refused:
        RunFolder(tmp_path).stored_band_stats()
    assert str(refused.value).startswith(str(path))


def test_a_manifest_is_damaged(tmp_path: Path) -> None:
    write(tmp_path, "manifest.json")
    with pytest.raises(ValueError, match="nested too deeply"):
        read_manifest(tmp_path)


def test_what_is_not_needed_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, FOLLOWED)
    assert not was_followed(tmp_path, {"MMAE_RESTARTS": "1", "MMAE_LAUNCH": "x"})
    assert parse_holder(DEEP) is None
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "val", "step": 1}\n{"kind": "val", "a": ' + DEEP + "\n")
    assert LogRecords(path).last("val") == {"kind": "val", "step": 1}
