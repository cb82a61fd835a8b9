"""Trackers that raise, block and fall behind, and real ones."""

from __future__ import annotations

import json
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmae.config.schema import Config, LogConfig
from mmae.engine.history.wandb_runs import WandbRun
from mmae.engine.telemetry import trackers
from mmae.engine.telemetry.trackers import Background, Numbers, any_left_behind, close_trackers, start_trackers
from mmae.errors import InputError
from mmae.run.spec import check_trackers


class Kept:
    """A tracker that keeps what it gets, raises where it is told to, and waits at a gate."""

    def __init__(self, fails_at: str = "", gate: threading.Event | None = None) -> None:
        self.fails_at, self.gate = fails_at, gate
        self.logged: list[int] = []
        self.pictures: list[str] = []
        self.closed = False

    def _call(self, name: str) -> None:
        if name == self.fails_at:
            raise OSError(f"{name} failed\nwith details")
        if self.gate is not None:
            self.gate.wait()

    def log(self, step: int, numbers: Numbers) -> None:
        self._call("log")
        self.logged.append(step)

    def picture(self, step: int, path: Path) -> None:
        self._call("picture")
        self.pictures.append(path.name)

    def close(self) -> None:
        self._call("close")
        self.closed = True


def test_everything_arrives_in_order() -> None:
    kept = Kept()
    background = Background("wandb", lambda: kept, pytest.fail)
    for step in range(100):
        background.log(step, {"x": 1.0})
    background.picture(7, Path("step_7.png"))
    assert background.close()
    assert kept.logged == list(range(100))
    assert kept.pictures == ["step_7.png"]
    assert kept.closed
    background.log(101, {})
    assert background.close()


@pytest.mark.parametrize("fails_at", ["log", "picture", "close"])
def test_one_that_fails_is_dropped_with_one_line(fails_at: str) -> None:
    said: list[str] = []
    background = Background("wandb", lambda: Kept(fails_at), said.append)
    for step in range(5):
        background.log(step, {})
        background.picture(step, Path("p"))
    assert background.close()
    assert said == [f"wandb: {fails_at} failed; training goes on without it; log.jsonl has everything"]


def test_one_that_cannot_be_made_is_dropped_with_one_line() -> None:
    said: list[str] = []

    def make() -> Kept:
        raise ModuleNotFoundError("No module named 'wandb'")

    background = Background("wandb", make, said.append)
    background.log(1, {})
    assert background.close()
    assert len(said) == 1
    assert "No module named 'wandb'" in said[0]


def test_one_that_blocks_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    gate = threading.Event()
    background = Background("wandb", lambda: Kept(gate=gate), said.append, size=10)
    # The gate is shut: whoever waited for the tracker would wait for ever.
    for step in range(2000):
        background.log(step, {"x": 1.0})
    assert said == ["wandb: does not keep up: beyond 10 waiting records it misses some; log.jsonl has everything"]
    assert any_left_behind()
    monkeypatch.setattr(trackers, "END_SECONDS", 0.05)
    assert not close_trackers([background, Background("tensorboard", Kept, said.append)])
    gate.set()
    assert background.close(120)


def test_one_that_blocks_while_it_starts_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "START_SECONDS", 0.05)
    gate, said = threading.Event(), list[str]()

    def make() -> Kept:
        gate.wait()
        return Kept()

    background = Background("wandb", make, said.append)
    background.log(1, {})
    assert not background.close(0.05)
    assert said == ["wandb: not done after 0 s, left behind; log.jsonl has everything"]
    gate.set()
    assert background.close(120)


def test_tensorboard_gets_numbers_and_pictures(tmp_path: Path) -> None:
    config = Config(log=LogConfig(wandb=False, tensorboard=True))
    check_trackers(config)
    picture = tmp_path / "step_3.png"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(picture)
    started = start_trackers(tmp_path, config, pytest.fail)
    assert len(started) == 1
    started[0].log(3, {"train/loss": 0.5})
    started[0].picture(3, picture)
    assert close_trackers(started)
    assert not any_left_behind()
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/loss" in content
    assert b"val/pictures" in content


def test_wandb_gets_pictures_over_our_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, object]] = []
    run = types.SimpleNamespace(define_metric=lambda *_, **__: None, log=logged.append, finish=lambda: None)
    fake = types.ModuleType("wandb")
    fake.__dict__.update(init=lambda **_: run, Settings=lambda **_: None, Image=lambda path: f"image {Path(path).name}")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    started = start_trackers(tmp_path, Config(), pytest.fail)
    started[0].log(2, {"train/loss": 0.5})
    started[0].picture(3, tmp_path / "step_3.png")
    assert close_trackers(started)
    assert logged == [
        {"train/loss": 0.5, "global_step": 2},
        {"val/pictures": "image step_3.png", "global_step": 3},
    ]


class Service:
    """What W&B knows on its server."""

    def __init__(self, offline: bool = False, down: bool = False) -> None:
        self.offline, self.down = offline, down
        self.logged: list[dict[str, object]] = []
        self.groups = {"bbbbbbbb": "run"}
        self.began_with: dict[str, object] = {}

    def init(self, **words: object) -> object:
        self.began_with = words
        return types.SimpleNamespace(
            define_metric=lambda *_, **__: None, log=self.logged.append, finish=lambda: None, offline=self.offline,
            entity="me", project="mmae", group=words["group"],
        )  # fmt: skip

    def run(self, path: str) -> object:
        name = path.removeprefix("me/mmae/")
        if self.down or name not in self.groups:
            raise ConnectionError("no answer")
        other = types.SimpleNamespace(group=self.groups[name])
        other.update = lambda: self.groups.update({name: other.group})
        return other

    def module(self) -> types.ModuleType:
        fake = types.ModuleType("wandb")
        fake.__dict__.update(init=self.init, Settings=lambda **_: None, Api=lambda: types.SimpleNamespace(run=self.run))
        return fake


@pytest.mark.parametrize(
    ("service", "group"),
    [(Service(), "run, archived"), (Service(offline=True), "run"), (Service(down=True), "run")],
    ids=["online", "offline", "down"],
)
def test_a_wandb_run_takes_over_the_history_and_those_that_left_leave_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service, group: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", service.module())
    (tmp_path / "run").mkdir()
    log = tmp_path / "run" / "log.jsonl"
    kept = [
        {"kind": "start", "step": 0},
        {"kind": "train", "time": 5.5, "step": 4, "losses": {"rgb": 0.5, "dem": None}},
    ]
    log.write_text("".join(json.dumps(record) + "\n" for record in kept))
    started = start_trackers(tmp_path / "run", Config(), pytest.fail, WandbRun("cccccccc", 3, ("bbbbbbbb", "aaaaaaaa")))
    started[0].log(5, {"train/losses/rgb": 0.25})
    assert close_trackers(started)
    assert service.began_with["id"] == "cccccccc"
    assert service.logged == [
        {"train/time": 5.5, "train/step": 4, "train/losses/rgb": 0.5, "global_step": 4},
        {"train/losses/rgb": 0.25, "global_step": 5},
    ]
    assert service.groups == {"bbbbbbbb": group}


def test_a_missing_tensorboard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmae.run.spec.find_spec", lambda _: None)
    check_trackers(Config())
    with pytest.raises(InputError, match=r"pip install 'mmae\[tensorboard\]'"):
        check_trackers(Config(log=LogConfig(tensorboard=True)))


def test_a_wandb_run_gets_its_names_and_goes_on_where_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service.module())
    said = LogConfig(wandb_entity="team", wandb_name="first try", wandb_group="sweep", wandb_tags=("a", "b"))
    (tmp_path / "log.jsonl").write_text("")
    started = start_trackers(tmp_path, Config(log=said), pytest.fail, WandbRun("cccccccc", 3, goes_on=True))
    assert close_trackers(started)
    names = {key: service.began_with[key] for key in ("entity", "name", "group", "tags", "id", "resume")}
    assert names == {
        "entity": "team", "name": "first try", "group": "sweep", "tags": ["a", "b"], "id": "cccccccc",
        "resume": "allow",
    }  # fmt: skip


@pytest.mark.parametrize(("mode", "key", "online"), [("", "k", True), ("", "", False), ("offline", "k", False),
                                                      ("online", "", True)])  # fmt: skip
def test_wandb_is_online_as_its_mode_and_key_say(
    mode: str, key: str, online: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert trackers.wandb_is_online() is online
