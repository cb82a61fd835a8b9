"""`mmae report`: what a page says, and what it must never hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmae.cli import main
from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.schema import flatten
from tests.support.reported_run import START, history, step_record, val_record, write_run
from tests.support.tiny_sets import write_set

HOSTILE = "<script>alert(1)</script>"
PLACES = {1: (1.0, 2.0), 2: (3.0, 4.0), 3: (5.0, 6.0)}


class Page(HTMLParser):
    """The elements of a page, and its texts by element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())


def report(tmp_path: Path, *runs: Path, words: tuple[str, ...] = ()) -> Page:
    out = tmp_path / "report.html"
    assert main(["report", *map(str, runs), "--out", str(out), *words]) == 0
    page = Page(out)
    assert len(page.text) < 1_000_000
    assert not re.search(r"https?:|(?:src|href)=.//|@import|url\(", page.text)
    assert page.count("script") == 1
    svgs = re.findall(r"<svg.*?</svg>", page.text, re.DOTALL)
    assert all("<title>" in each or 'aria-hidden="true"' in each for each in svgs)
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    return page


def test_a_run_is_told_in_figures_tables_and_words(tmp_path: Path) -> None:
    write_set(tmp_path / "shards", {"train": [1, 2], "val": [3]}, places=PLACES)
    scores = {"kind": "eval", "time": 1100.0, "step": 100, "scores": {"probe accuracy": 0.75}, "failed": {}}
    records = [*history()[:-1], scores, history()[-1]]
    run = write_run(tmp_path / "run", records, pictures=2, data__shards=str(tmp_path / "shards"), model__size="tiny")
    page = report(tmp_path, run)
    for words in ("finished, step 100 of 100", "tiny MultiMAE", "2 ranks x 4 tiles", "Training loss", "Learning rate",
                  "Gradient norm", "Skipped steps", "Throughput", "Waiting for data", "Slowest rank", "probe accuracy",
                  "colour (red, green, blue) (rgb)", "train (2 tiles)", "model.size", "Step 20"):  # fmt: skip
        assert words in page.words, words
    assert page.count("img") == 2
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_averaged_weights_are_drawn_beside_the_weights(tmp_path: Path) -> None:
    ema = {"losses": {"rgb": 0.5, "semseg": 1.5}, "scored": {"rgb": 5, "semseg": 5}, "lost": {}, "iou": {"semseg": 0.5}}
    records = [val_record(step, iou={"semseg": 0.25}, ema=ema) for step in (50, 100)]
    records += [{"kind": "eval", "time": 1100.0, "step": step, "scores": {"biome": 0.5}, "failed": {},
                 "ema": {"scores": {"biome": 0.75}, "failed": {}}} for step in (50, 100)]  # fmt: skip
    first, second = (write_run(tmp_path / name, [*history()[:-1], *records]) for name in ("one", "two"))
    page = report(tmp_path, first)
    assert "validation, averaged weights" in page.words
    assert "one, averaged weights" in page.words
    titles = re.findall("<title>(.*?)</title>", page.text)
    assert [title for title in titles if "ema" in title] == []
    assert {"iou semseg (validation)", "biome (eval)"} <= set(titles)
    (tmp_path / "report.html").unlink()
    page = report(tmp_path, first, second)
    assert "colour (red, green, blue) (rgb), validation, averaged weights" in page.words


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    losses = {"rgb": 1.0, HOSTILE: 2.0}
    records: list[dict[str, Any]] = [
        {"kind": "start", **START, "host": HOSTILE}, step_record(1, losses=losses), val_record(1, losses=losses),
        {"kind": HOSTILE, "step": 1, HOSTILE: 3.0},
        {"kind": "end", "time": 2000.0, "step": 1, "why": "error", "error": HOSTILE},
    ]  # fmt: skip
    run = write_run(tmp_path / HOSTILE.replace("/", "_"), records, log__wandb_project=f"{HOSTILE}\x1b[31m")
    (tmp_path / "results.json").write_text(json.dumps([{HOSTILE: HOSTILE, "value": 1.0, "low": 0.5, "high": 2.0}]))
    page = report(tmp_path, run, words=("--results", str(tmp_path / "results.json")))
    assert "alert(1)" in page.words
    assert "\x1b" not in page.text


def test_several_runs_stand_side_by_side_with_what_differs(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a" / "run", model__size="tiny")
    two = write_run(tmp_path / "b" / "run", model__size="nano", train__seed=5)
    page = report(tmp_path, one, two)
    differing = re.search(r"What differs between the recipes</caption>.*?</table>", page.text, re.DOTALL)
    assert differing
    assert re.findall(r'<th scope="row">([^<]*)', differing[0]) == ["run.dir", "model.size", "train.seed"]
    assert "colour (red, green, blue) (rgb), validation" in page.words


@pytest.mark.parametrize("records", [history()[:1], history()[:3], []], ids=["at the start", "training", "no start"])
def test_a_run_that_is_under_way_is_reported_too(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    page = report(tmp_path, write_run(tmp_path / "run", records))
    assert "No number to draw" in page.words or len(records) > 1


def test_without_validation_there_is_no_line_of_it(tmp_path: Path) -> None:
    records = [record for record in history() if record["kind"] != "val"]
    page = report(tmp_path, write_run(tmp_path / "run", records))
    assert "There is no picture of a validation" in page.words
    assert "colour (red, green, blue) (rgb)" in page.words


def test_a_damaged_log_is_reported_as_far_as_it_goes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    log = run / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"loss": 1.18', b'"loss" 1.18', 1) + b'\xff\x00\n{"kind": "tr')
    page = report(tmp_path, run)
    assert re.search(r"\d damaged or half-written, left out", page.words)
    assert "Training loss" in page.words


def test_results_of_other_commands_are_tables_with_intervals(tmp_path: Path) -> None:
    rows = [
        {"task": "biome", "value": 0.8, "low": 0.75, "high": 0.86},
        {"task": "soil", "value": 0.4, "low": 0.3, "high": 0.5},
    ]
    (tmp_path / "probe.json").write_text(json.dumps({"title": "mmae probe", "rows": rows, "notes": ["of 5 scenes"]}))
    (tmp_path / "baseline.json").write_text(json.dumps([{"output": "rgb", "constant": 0.534, "last": 0.1}]))
    words = ("--results", str(tmp_path / "probe.json"), "--results", str(tmp_path / "baseline.json"))
    page = report(tmp_path, write_run(tmp_path / "run"), words=words)
    assert "of 5 scenes" in page.words
    assert "0.86" in page.words
    assert "best constant: from 0.534 to 0.534" in page.words


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("x", "holds no rows"), ("[]", "holds no rows"), ("3", "no rows")],
)
def test_results_that_are_none_are_refused(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    run = write_run(tmp_path / "run")
    assert main(["report", str(run), "--out", str(tmp_path / "p"), "--results", str(tmp_path / "r.json")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_page_is_never_replaced_and_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "page.html").write_text("mine")
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 2
    assert (tmp_path / "page.html").read_text() == "mine"
    assert main(["report", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other.html")]) == 2
    assert main(["report", *[str(run)] * 7, "--out", str(tmp_path / "other.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_fine_tuning_is_told_in_its_own_words_and_its_scores_once(tmp_path: Path) -> None:
    parent, tuned = write_run(tmp_path / "parent"), write_run(tmp_path / "tuned")
    said = {"model.init_from": str(parent), "task.kind": "segmentation", "task.target": "lulc"}
    (tuned / "config.yaml").write_text(yaml.safe_dump({**flatten(FinetuneConfig()), **said}))
    scores = {"split": "val", "tiles": 3, "scores": {"miou": 0.5}}
    results = {"task": "lulc", "kind": "segmentation", "main": "miou", "step": 3, "training_tiles": 9, "val": scores}
    (tuned / "results.json").write_text(json.dumps(results))
    text = report(tmp_path, parent, tuned).text
    assert f"segmentation of lulc from the weights of {parent}" in text
    assert "None" not in text
    assert text.count("mmae finetune tuned (") == 1
    # Keys that are as a fine-tuning has them by default are not named as changed.
    (tmp_path / "one").mkdir()
    assert "task.least_share" not in report(tmp_path / "one", tuned).text.partition("The whole recipe")[0]
