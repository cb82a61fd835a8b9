"""A training that is told secrets on its command line: its folder is searched for them, byte for byte."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from tests.support.commands import SMALL, Command, Finished
from tests.support.web import serving

LOGIN, PASSWORD, SIGNATURE, TOKEN = "u5er-qjx", "pa55/w0rd-kvz", "5ignature-hbm", "t0ken-wpf"
SECRETS = [LOGIN, PASSWORD, "pa55%2Fw0rd-kvz", SIGNATURE, TOKEN]


def train(command: Command, *words: str) -> Finished:
    small = [word for word in SMALL if not word.startswith("log.wandb")]
    return command(
        "mmae", "train", "--config", "debug", "run.dir=run", "data.cache_dir=cache", "train.max_steps=2",
        "train.global_batch=4", "train.micro_batch=4", "log.every=1", "log.tensorboard=true", *small, *words,
        WANDB_MODE="offline",
    )  # fmt: skip


def held_in(folder: Path) -> dict[str, list[str]]:
    """The secrets in each file, and in names, below a folder."""
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(files) > 10
    return {
        name: found
        for name, content in files.items()
        if (found := [each for each in SECRETS if each.encode() in content or each in name])
    }


@pytest.fixture
def trained(command: Command, synthetic_shards: Path, tmp_path: Path) -> Path:
    """A run that got its shards from a command for a step, and from an address for another."""
    pipe = f"pipe:echo {TOKEN} >/dev/null; echo 'Warning: {TOKEN}' >&2; cat {shlex.quote(str(synthetic_shards))}/{{}}"
    first = train(command, f"data.shards={pipe}", "train.stop_at=1")
    assert first.status == 0, first.err
    with serving(synthetic_shards) as web:
        host = web.url.removeprefix("http://")
        address = f"http://{LOGIN}:{PASSWORD.replace('/', '%2F')}@{host}/?X-Signature={SIGNATURE}"
        second = train(command, f"data.shards={address}")
    assert second.status == 0, second.err
    assert second.last_json["step"] == 2
    for secret in SECRETS:
        assert secret not in first.out + first.err + second.out + second.err
    return tmp_path / "run"


def test_no_secret_of_the_command_line_is_anywhere_in_the_run_s_folder(trained: Path, here: Command) -> None:
    assert list(trained.glob("wandb/offline-run-*/*.wandb"))
    assert held_in(trained) == {}
    # What is there says that something is missing, and a command that needs it says how to give it.
    said = yaml.safe_load((trained / "config.yaml").read_text())["data.shards"]
    assert said.startswith("http://***@127.0.0.1:")
    assert said.endswith("/?***")
    done = here("baseline", "run")
    assert done.status == 2
    (line,) = (line for line in done.err.splitlines() if "error:" in line)
    assert "***" in line
    assert "--shards" in line
