from __future__ import annotations

import pytest

from mmae.cli import main
from mmae.terminal.missing_package import missing_package


def lacks(name: str) -> str | None:
    return missing_package(ModuleNotFoundError(f"No module named {name!r}", name=name), "mmae train")


def test_a_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["deepspeed<0.20", "zlib-ng>=0.5", "rasterio>=1.4; extra == 'geo'", 's3fs; extra == "s3"']
    monkeypatch.setattr("mmae.terminal.missing_package.requires", lambda _: listed)
    assert lacks("deepspeed.ops") == "mmae train needs deepspeed, which is not installed: pip install mmae"
    assert lacks("PIL") == "mmae train needs pillow, which is not installed: pip install mmae"
    assert lacks("zlib_ng") == "mmae train needs zlib-ng, which is not installed: pip install mmae"
    assert lacks("rasterio") == "mmae train needs rasterio, which is not installed: pip install 'mmae[geo]'"
    assert lacks("s3fs.core") == "mmae train needs s3fs, which is not installed: pip install 'mmae[s3]'"


@pytest.mark.parametrize("name", ["mmae.nothing", "data_tools.nothing", "json.nothing", ""])
def test_a_module_of_ours_that_is_missing_is_a_bug(name: str) -> None:
    assert lacks(name) is None


def test_a_command_ends_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mmae.run.status", None)
    with pytest.raises(ModuleNotFoundError):
        main(["status", "run"])

    def without(_: object) -> int:
        raise ModuleNotFoundError("No module named 'wandb'", name="wandb")

    monkeypatch.undo()
    monkeypatch.setattr("mmae.run.status.run", without)
    assert main(["status", "run"]) == 2
    assert capsys.readouterr().err == "mmae: error: mmae status needs wandb, which is not installed: pip install mmae\n"
    monkeypatch.setattr("mmae.bench.step.command.run", without)
    assert main(["bench", "step", "--json", "x"]) == 2
    assert capsys.readouterr().err.startswith("mmae: error: mmae bench step needs wandb")
