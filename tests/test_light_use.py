"""Using a model needs six libraries; a command that needs another one says so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from mmae.config.schema import ModelConfig
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from tests.support.light_use import GEO, HEAVY, LIGHT, words_of_embed
from tests.support.paths import ROOT
from tests.support.scenes import needs_rasterio, write_geotiff

MEAN = [1500.0] * 10 + [0.0, 1500.0, 1500.0]
STD = [1300.0] * 10 + [0.0, 1300.0, 1300.0]
SAID = [f"mmae: error: mmae {command} needs xxhash, which is not installed: pip install mmae"
        for command in ("train", "repack")]  # fmt: skip
NO_RASTERIO = "mmae: error: rasterio is not installed, and this needs it: pip install 'mmae[geo]'"
SCRIPT = ROOT / "tests" / "support" / "light_use.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig(size="nano", decoder_dim=16, decoder_num_heads=2, decoder_depth=1)
    save_model(tmp_path / "model", MultiMAE(config), {"sentinel2_l2a": {"mean": MEAN, "std": STD}})
    light = np.random.default_rng(0).uniform(0.2, 1.8, (9, 13, 16, 16))
    np.save(tmp_path / "tiles.npy", (np.array(MEAN)[:, None, None] * light).astype(np.uint16))
    picture = np.random.default_rng(1).integers(300, 2700, (3, 72, 80)).astype(np.uint16)
    needs_rasterio()
    write_geotiff(tmp_path / "scene.tif", picture, names=None)
    return tmp_path


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


@pytest.mark.process
def test_using_a_model_imports_nothing_else(folder: Path) -> None:
    done = run(sys.executable, "-W", "ignore", SCRIPT, folder, *HEAVY, *GEO)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [*SAID, NO_RASTERIO]


@pytest.mark.process
@pytest.mark.slow
def test_an_environment_with_six_libraries(folder: Path, tmp_path: Path) -> None:
    """mmae is installed without what it depends on, beside these libraries and what they need."""
    home = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", home).returncode == 0
    (site,) = (home / "lib").glob("python*/site-packages")
    link(site, (*LIGHT, "pip", "setuptools"))
    source = tmp_path / "source"
    for name in ("mmae", "data_tools", "ds_configs", "launchers"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    python = home / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", source)
    assert done.returncode == 0, done.stderr
    seen = run(python, "-c", f"import importlib.util as u; print([n for n in {HEAVY + GEO!r} if u.find_spec(n)])")
    assert seen.stdout.strip() == "[]"
    script = tmp_path / "light_use.py"
    script.write_bytes(SCRIPT.read_bytes())
    done = run(python, "-W", "ignore", script, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [*SAID, NO_RASTERIO]
    done = run(home / "bin" / "mmae", "export", folder / "model", folder / "again")
    assert done.returncode == 0, done.stderr
    link(site, GEO[:1])
    done = run(home / "bin" / "mmae", *words_of_embed(folder))
    assert done.returncode == 0, done.stderr
    assert "9x10 patches of 8 pixels" in done.stdout


def link(site: Path, names: tuple[str, ...]) -> None:
    """Show an environment some of this one's libraries, with all that they require, and no other."""
    waiting, seen = [Requirement(name) for name in names], set[str]()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found = distribution(wanted.name)
        for top in {Path(str(file)).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
        for requirement in map(Requirement, found.requires or ()):
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if requirement.marker is None or any(map(requirement.marker.evaluate, extras)):
                waiting.append(requirement)
