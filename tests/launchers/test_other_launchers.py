"""Other launchers on two hosts, started on each of them by hand."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.host_training import BY_HAND, on_host, train
from tests.support.namespace_hosts import Host
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

ACCELERATE = [
    "accelerate", "launch", "--config_file", str(ROOT / "launchers" / "accelerate.yaml"), "--num_machines", "2",
    "--machine_rank", "{number}", "--num_processes", "2", "--main_process_ip", "node-1", "--main_process_port", "29500",
    "-m", "mmae.train",
]  # fmt: skip
TORCHRUN = [
    "torchrun", "--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", "node-1:29500",
    "--rdzv_id", "1", "-m", "mmae.train",
]  # fmt: skip


@pytest.mark.parametrize("launcher", [ACCELERATE, TORCHRUN, BY_HAND], ids=["accelerate", "torchrun", "no_ssh"])
def test_two_hosts_train_and_go_on(
    launcher: list[str], cluster: list[Host], synthetic_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("node-1 slots=1\nnode-2 slots=1\n")
    for stop in (2, 3):
        words = train(synthetic_shards, "train.max_steps=3", "val.every=0", f"train.stop_at={stop}", "log.every=1")
        with ExitStack() as both:
            lives = [
                both.enter_context(
                    on_host(host, tmp_path, [*(word.format(number=number) for word in launcher), *words])
                )
                for number, host in enumerate(cluster[:2])
            ]
            ended = [live.finish(deadline=200) for live in lives]
            assert [done.status for done in ended] == [0, 0], [done.err for done in ended]
            assert lives[0].everything() == []
    assert lives[0].records("start")[0]["world"] == 2
    assert lives[0].records("resume")[0]["step"] == 2
    assert [record["step"] for record in lives[0].records("train")] == [1, 2, 3]
