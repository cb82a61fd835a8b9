from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_tools.source import chunks as chunks_module
from data_tools.source.chunks import find_places
from data_tools.source.dataset import open_source
from mmae.errors import InputError


@pytest.mark.process
def test_any_number_of_processes(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(source) as opened:
        storage, chunks = find_places(opened, workers=1)
        monkeypatch.setattr(chunks_module, "_MANY", 0)
        for workers in (1, 2, 3):
            storage_too, chunks_too = find_places(opened, workers)
            assert storage_too == storage
            assert list(chunks_too) == list(chunks) == list(opened.datasets)
            for name, of in chunks.items():
                for kind in ("offset", "size", "skipped"):
                    assert np.array_equal(getattr(of, kind), getattr(chunks_too[name], kind))


def test_a_file_that_breaks_meanwhile(source: Path) -> None:
    with open_source(source) as opened:
        source.write_bytes(b"")
        with pytest.raises(InputError, match=r"sentinel2 cannot be read \(.*\): download the file again"):
            find_places(opened)
