"""`mmae plan`, as it is typed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmae.cli import main
from mmae.config.deepspeed import load_deepspeed_json
from mmae.config.recipe_file import load_config
from mmae.model.counts.parameter_counts import parameter_counts
from mmae.scaling_law.law_file import write_fits
from mmae.scaling_law.law_fit import fit_law
from tests.support.paths import ROOT
from tests.support.synthetic_ladder import LAW, written_ladder

WORDS = ("vit_l", "--gpus", "8", "--gpu-memory", "80GB")
Capture = pytest.CaptureFixture[str]


def planned(capsys: Capture, *words: str) -> list[str]:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out.splitlines()


def launched(lines: list[str]) -> list[str]:
    """The words of the command that is printed last."""
    words = shlex.split(lines[-1])
    assert "bash" in words[:2]
    return words


def first_part(lines: list[str]) -> list[str]:
    return lines[1 : lines.index("")]


def test_a_recipe_may_be_named_as_in_training(capsys: Capture) -> None:
    recipe, *words = WORDS
    assert planned(capsys, *words, "train.micro_batch=32", "--config", recipe) == planned(
        capsys, *WORDS, "train.micro_batch=32"
    )


def test_a_table_notes_and_a_command(capsys: Capture) -> None:
    lines = planned(capsys, *WORDS)
    rows = first_part(lines)
    assert len(rows) == 2 + 7 * 3
    assert max(map(len, lines[:-1])) <= 100
    assert [row.split("|")[2].strip() for row in rows if "=>" in row] == ["zero1"]
    assert "\x1b" not in "".join(lines)
    text = " ".join(" ".join(lines).split())
    for stated in ("308.5 M parameters", "measured with ViT large at micro-batch 1024", "measured with all 15 datasets",
                   "tiles/s a node"):  # fmt: skip
        assert stated in text


def test_the_command_can_be_given_to_training(capsys: Capture) -> None:
    said = ("model.drop_path=0.2", "train.micro_batch=32", "data.shards=https://x/a b")
    words = launched(planned(capsys, *WORDS, *said))
    assert words[:3] == ["RANKS=8", "bash", "launchers/single_node.sh"]
    options = dict(zip(words[3:7:2], words[4:7:2], strict=True))
    load_deepspeed_json(options["--deepspeed_config"])
    config = load_config(options["--config"], words[7:])
    assert (config.model.drop_path, config.train.micro_batch) == (0.2, 512)
    assert config.train.activation_checkpointing == "none"
    assert config.data.locations == ("https://x/a b",)


def test_many_nodes_need_a_hostfile(capsys: Capture) -> None:
    lines = planned(capsys, *WORDS, "--nodes", "4")
    assert launched(lines)[:3] == ["bash", "launchers/multi_node.sh", "HOSTFILE"]
    assert "data.shards=SHARDS" in launched(lines)


def test_every_micro_batch(capsys: Capture) -> None:
    rows = first_part(planned(capsys, *WORDS, "--all", "--deepspeed_config", "zero2"))
    assert len(rows) == 2 + 3 * 10
    assert all("zero2" in row for row in rows[2:])


def test_json(tmp_path: Path, capsys: Capture) -> None:
    planned(capsys, *WORDS, "--json", str(tmp_path / "plan.json"))
    content: dict[str, Any] = json.loads((tmp_path / "plan.json").read_text())
    chosen = content["recommended"]
    assert [row for row in content["rows"] if row["choice"]] == [chosen]
    assert chosen["micro_batch"] * chosen["accumulation"] * 8 == 4096
    tiles, world = 470_000 * 4096, 8
    assert chosen["gpu_hours"] == pytest.approx(tiles / chosen["tiles_per_second"] / 3600)
    assert chosen["epoch_minutes"] == pytest.approx(1.2e6 / chosen["tiles_per_second"] / world / 60)


def test_a_utilisation_that_was_measured(tmp_path: Path, capsys: Capture) -> None:
    speeds = []
    for number, more in enumerate((["--mfu", "0.1"], ["--mfu", "0.2"], ["--mfu", "0.2", "--peak-tflops", "494.5"])):
        path = tmp_path / f"{number}.json"
        planned(capsys, *WORDS, *more, "--json", str(path))
        speeds.append(json.loads(path.read_text())["recommended"]["tiles_per_second"])
    assert speeds[1] == pytest.approx(2 * speeds[0])
    assert speeds[2] == pytest.approx(speeds[0])


def test_time_on_the_network(tmp_path: Path, capsys: Capture) -> None:
    more = ("--nodes", "4", "--deepspeed_config", "zero1", "--json", str(tmp_path / "plan.json"))
    lines = planned(capsys, *WORDS, "--bandwidth", "2.5", *more)
    chosen = json.loads((tmp_path / "plan.json").read_text())["recommended"]
    assert chosen["network_gb"] == pytest.approx(3 * 31 / 32 * 2 * 0.3085, rel=1e-3)
    assert chosen["network_seconds"] == pytest.approx(chosen["network_gb"] / 2.5)
    step = 4096 / 32 / chosen["tiles_per_second"]
    assert chosen["network_share"] == pytest.approx(chosen["network_seconds"] / (chosen["network_seconds"] + step))
    assert any("of a step |" in line for line in lines)
    assert not any("of a step |" in line for line in planned(capsys, *WORDS))


def test_nothing_fits(capsys: Capture) -> None:
    lines = planned(capsys, "vit_g", "--gpus", "1", "--gpu-memory", "1GB")
    assert "nothing fits" in lines[-1]
    assert not any("=>" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vit_x", "--gpus", "8", "--gpu-memory", "80GB"], "did you mean"),
        (["vit_l", "--gpus", "0", "--gpu-memory", "80GB"], "--gpus 0: must be at least 1"),
        (["vit_l", "--gpus", "9999999", "--gpu-memory", "80GB"], "--gpus 9999999: must be at most 1,000,000"),
        (["vit_l", "--gpus", "8", "--gpu-memory", "80GB", "--nodes", "-1"], "--nodes -1"),
        (["vit_l", "--gpus", "8", "--gpu-memory", "80"], "--gpu-memory 80: give an amount"),
        (["vit_l", "--gpus", "7", "--gpu-memory", "80GB"], "cannot be split over 7 ranks"),
        ([*WORDS, "--mfu", "35"], "--mfu 35: give a share"),
        ([*WORDS, "--peak-tflops", "nan"], "--peak-tflops nan"),
        ([*WORDS, "--bandwidth", "0"], "--bandwidth 0: give GB a second"),
        ([*WORDS, "--bandwidth", "2GB"], "--bandwidth 2GB"),
        ([*WORDS, "--tiles", "none"], "--tiles none: give a number"),
        ([*WORDS, "--deepspeed_config", "zero9"], "zero9"),
        ([*WORDS, "model.sise=huge"], "did you mean 'model.size'"),
        ([*WORDS, "data.shards=/nowhere/at/all"], "data.shards=/nowhere/at/all: index.json cannot be read"),
        ([*WORDS, "--json", "/nowhere/at/all.json"], "there is no folder"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: Capture) -> None:
    assert main(["plan", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err


@pytest.mark.process
def test_torch_is_not_needed() -> None:
    script = f"import sys; from mmae.cli import main; main({['plan', *WORDS]!r}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_stated_as_measured_stands_in_the_readme() -> None:
    readme = (ROOT / "mmae" / "bench" / "README.md").read_text(encoding="utf-8")
    for figure in ("5 494", "6 470", "3 187", "2 630", "1 952", "1 520", "5 613", "11 849", "20.4 / 29.7 / 97.5 MB",
                   "21.6 %", "27.7 %", "30.0 %", "37.6 %", "31.1 %", "37.9 %"):  # fmt: skip
        assert figure in readme


def test_a_ladder_predicts_losses_the_best_size_and_when_to_take_the_next(capsys: Capture, tmp_path: Path) -> None:
    ladder = written_ladder(tmp_path / "ladder")
    fits = {output: fit_law(ladder.points(output), draws=20) for output in ladder.outputs()}
    write_fits(tmp_path / "ladder", ladder, fits)
    words = ["mini", "--gpus", "1", "--gpu-memory", "80GB", "--ladder", str(tmp_path / "ladder")]
    text = "\n".join(planned(capsys, *words, "--json", str(tmp_path / "plan.json")))
    facts = json.loads((tmp_path / "plan.json").read_text())["ladder"]
    parameters = parameter_counts(load_config("mini", []).model).encoder
    rgb = facts["predicted"]["rgb"]
    assert rgb["loss"] == pytest.approx(LAW.loss(parameters, 300 * 32), rel=0.02)
    assert rgb["low"] < rgb["loss"] < rgb["high"]
    assert "predicted validation loss of tiny after 9,600 tiles" in text
    assert "the best size is" in text
    assert "point of no return: " in text
    # More hours: a larger size, more tiles.
    best = facts["best"][0]["size"]
    lines = planned(capsys, *words, "--gpu-hours", "50000", "model.patch_size=4")
    assert f"best size is {best}:" not in "\n".join(lines)
    assert "ANOTHER RECIPE: model.patch_size is 8 in the ladder, and 4 here" in lines
    assert "is the largest size" in "\n".join(planned(capsys, *words, "model.size=gigantic"))
    for refused, why in (
        (["--ladder", str(tmp_path)], "holds no ladder"),
        ([*words[5:], "--gpu-hours", "1e-18"], "no size could see a single tile"),
        (["--gpu-hours", "3"], "--gpu-hours is the budget of a prediction by --ladder"),
    ):
        assert main(["plan", *words[:5], *refused]) == 2
        assert why in capsys.readouterr().err
