"""Several processes, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import BIN, command_environment, run_command
from tests.support.scenes import needs_rasterio, pixels, read_geotiff, save_scene_model, write_geotiff

needs_rasterio()


@pytest.mark.slow
def test_a_killed_command_goes_on_with_more_processes(tmp_path: Path) -> None:
    save_scene_model(tmp_path / "model")
    dn = pixels(1800, 200)
    dn[:, 700:900, :100] = 0
    write_geotiff(tmp_path / "scene.tif", dn)
    words = ["mmae", "embed", "model", "scene.tif", "out.tif", "--level", "l2a", "--batch", "2"]
    started = subprocess.Popen(
        [str(BIN / "mmae"), *words[1:]], cwd=tmp_path, env=command_environment(), stderr=subprocess.DEVNULL
    )
    partial = tmp_path / "out.tif.partial"
    deadline = time.monotonic() + 300
    while not list(partial.glob("unit-*.npz")):
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "out.tif").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("unit-*.npz")}
    two = ["--processes", "2"] if len(os.sched_getaffinity(0)) > 1 else []
    done = run_command(*words, *two, cwd=tmp_path)
    assert done.status == 0, done.err
    assert not partial.exists()
    words[4] = "whole.tif"
    done = run_command(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert kept
    found, whole = read_geotiff(tmp_path / "out.tif"), read_geotiff(tmp_path / "whole.tif")
    np.testing.assert_allclose(found, whole, atol=2e-5)
    assert np.isnan(whole).any()
