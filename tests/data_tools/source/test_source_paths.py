"""The four files of a data set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_tools.repack.command import repack
from data_tools.source.dataset import open_source
from data_tools.source.source_paths import find_source
from mmae.errors import InputError


def test_they_bear_the_name_of_the_hdf5_file(source: Path) -> None:
    for src in (source, source.parent):
        assert find_source(src)[1:] == tuple(
            source.with_name(f"data_{kind}.json") for kind in ("band_stats", "splits", "tile_info")
        )
    assert find_source(source, Path("mine.json")).splits == Path("mine.json")


def test_a_file_written_anew_has_those_of_the_old_one(source: Path, tmp_path: Path) -> None:
    anew = source.rename(source.with_name("data_chunked_gzip.h5"))
    with open_source(anew) as opened:
        assert opened.info.rows == 12
    assert len(repack(source.parent, tmp_path / "out")) == 12
    own = source.with_name("data_chunked_gzip_splits.json")
    own.write_text('{"train": [3]}')
    assert find_source(anew).splits == own
    assert find_source(anew).tile_info == source.with_name("data_tile_info.json")


def test_what_is_missing_is_named_as_it_should_be_called(source: Path) -> None:
    anew = source.rename(source.with_name("data_chunked_gzip.h5"))
    source.with_name("data_tile_info.json").unlink()
    with pytest.raises(InputError, match=r"/data_tile_info\.json: no such file"):
        open_source(anew)


def test_no_file_of_another_name_is_taken(source: Path) -> None:
    """`data_64.h5` is another data set than `data.h5`."""
    other = source.rename(source.with_name("data_64.h5"))
    assert find_source(other).splits.name == "data_64_splits.json"


def test_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError, match=r"pipe\.h5: is not a regular file"):
        find_source(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_source(tmp_path / "nowhere")
    (tmp_path / "pipe.h5").unlink()
    (tmp_path / "gone.h5").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"gone\.h5: no such file"):
        find_source(tmp_path)


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\): ask its owner for access"):
        find_source(tmp_path)
