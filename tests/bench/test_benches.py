"""`mmae bench loader` and `mmae bench repack` through the real command line, on a few tiles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_tools.synth.command import synthesise
from mmae.bench.command import COMMANDS as BENCHES
from mmae.cli import main

WAYS = {"loader": ["h5py", "webdataset", "mmae", "limit"], "repack": ["h5py + webdataset", "mmae", "limit"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "small"
    synthesise(folder, 24, 16)
    return folder


def check_rows(rows: list[dict[str, Any]], bench: str, codecs: list[str], counts: list[int]) -> None:
    limit = {(row["codec"], row["processes"]): row["tiles_per_s"] for row in rows if row["way"] == "limit"}
    expected = []
    for count in counts:
        for number, codec in enumerate(codecs):
            ways = WAYS[bench] if number == 0 or bench == "repack" else WAYS[bench][1:]
            expected += [(name, None if name == "h5py" else codec, count) for name in ways]
    assert [(row["way"], row["codec"], row["processes"]) for row in rows] == expected
    for row in rows:
        assert row["tiles_per_s"] > 0
        assert row["cpu_us"] >= 0
        if row["way"] == "limit":
            assert row["of_limit"] is row["of_limit_cpu"] is row["own_mb"] is None
        elif row["codec"] is not None:
            share = row["tiles_per_s"] / limit[row["codec"], row["processes"]]
            assert row["of_limit"] == pytest.approx(share)
    for row in rows:
        bases = [r for r in rows if r["way"].startswith("h5py") and r["processes"] == row["processes"]]
        base = next(r for r in bases if r["codec"] in (row["codec"], None))
        assert row["of_h5py"] == pytest.approx(row["tiles_per_s"] / base["tiles_per_s"])


@pytest.mark.process
@pytest.mark.parametrize("bench", WAYS)
def test_prints_and_writes_one_table(
    bench: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.json"
    options = ["--tiles", "50", "--workers", "1", "--repeats", "1", "--codec", "fast", "--json", str(path)]
    assert main(["bench", bench, str(source), *options]) == 0
    printed = capsys.readouterr().out
    written = json.loads(path.read_text())
    check_rows(written["rows"], bench, ["fast"], [1])
    assert written["title"] == f"mmae bench {bench}" == printed.splitlines()[0].removeprefix("# ")
    assert sum(line.startswith("| ") for line in printed.splitlines()) == 2 + len(written["rows"])
    assert "small.h5 (24 tiles) as 50 tiles" in printed
    assert written["cpu"] in printed
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.slow
@pytest.mark.parametrize("bench", WAYS)
def test_several_codecs_processes_and_a_kept_scratch(bench: str, source: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    options = ["--tiles", "64", "--workers", "2", "--repeats", "2", "--scratch", str(scratch)]
    assert main(["bench", bench, str(source), *options, "--json", str(tmp_path / "1.json")]) == 0
    kept = sorted(path.name for path in scratch.iterdir())
    assert kept
    assert not any(name.startswith((".", "repacked")) for name in kept)
    assert main(["bench", bench, str(source), *options, "--json", str(tmp_path / "2.json")]) == 0
    assert sorted(path.name for path in scratch.iterdir()) == kept
    for name in ("1.json", "2.json"):
        check_rows(json.loads((tmp_path / name).read_text())["rows"], bench, ["small", "fast"], [1, 2])


@pytest.mark.slow
def test_makes_tiles_where_none_are_given(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    options = ["--tiles", "30", "--workers", "1", "--repeats", "1", "--codec", "none", "--json", str(path)]
    assert main(["bench", "loader", *options]) == 0
    written = json.loads(path.read_text())
    assert "synthetic tiles (360 tiles) as 30 tiles" in written["notes"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codec", "smal"], "--codec smal: unknown 'smal'; did you mean 'small'"),
        (["--codec", "small,,fast"], "--codec small,,fast: unknown ''"),
        (["--tiles", "2", "--workers", "3"], "--tiles 2: 3 processes read shards of their own: give at least 3"),
        (["--workers", "0"], "--workers 0: must be at least 1"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
        (["--tiles", "0"], "--tiles 0: must be at least 1"),
        (["--tiles", "10", "--batch", "11"], "--batch 11: must be at least 1 and at most --tiles 10"),
        (["--json", "."], "--json .: exists already"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "loader", str(source), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.process
def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from mmae.cli import main\n"
        "try: main(['bench', sys.argv[1], '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('h5py', 'webdataset', 'blosc2', 'torch', 'numpy') if m in sys.modules])"
    )
    for name in BENCHES:
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", name
