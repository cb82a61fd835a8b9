"""On one node nothing listens where another machine could reach it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mmae.distributed.one_node import LOOPBACK, is_one_node, meet_here, open_store, store_on_loopback
from mmae.distributed.tcp_probe import Listener
from tests.support.forked_ranks import run_ranks

HERE = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


@pytest.mark.parametrize(
    ("environment", "here"),
    [
        ({}, True),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, True),
        ({"WORLD_SIZE": "2", "LOCAL_SIZE": "2"}, True),
        ({"WORLD_SIZE": "4", "LOCAL_SIZE": "2"}, False),
        ({"WORLD_SIZE": "2"}, False),
    ],
)
def test_where_ranks_are(environment: dict[str, str], here: bool) -> None:
    assert is_one_node(environment) is here


def test_ranks_of_one_node_meet_on_loopback() -> None:
    said = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node-1"}
    meet_here(said)
    assert said["MASTER_ADDR"] == "127.0.0.1"
    assert {name: said[name] for name in HERE} == HERE


def test_an_interface_that_the_user_chose_stays() -> None:
    said = {"GLOO_SOCKET_IFNAME": "eth0"}
    meet_here(said)
    assert said == {**HERE, "GLOO_SOCKET_IFNAME": "eth0"}


def test_the_store_of_an_agent_is_where_it_keeps_it() -> None:
    said = {"RANK": "0", "MASTER_ADDR": "node-1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    meet_here(said)
    assert said["MASTER_ADDR"] == "node-1"


def test_several_nodes_meet_where_the_launcher_says() -> None:
    said = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node-1"}
    before = dict(said)
    meet_here(said)
    assert said == before


def listening() -> Iterator[str]:
    """The addresses at which this process listens, once for each port."""
    own = {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                yield words[1].partition(":")[0]


def listen(how: str) -> None:
    """A rank that meets the others, and prints where it listens."""
    import torch
    import torch.distributed as dist

    from mmae.distributed.process_group import leave

    meet_here(os.environ)
    # As the preflight leaves it to the process group, or not.
    store = open_store(os.environ, timedelta(seconds=200)) if how == "called" else None
    with store_on_loopback():
        dist.init_process_group("gloo")
    listener = Listener(LOOPBACK)
    dist.all_reduce(torch.ones(3))
    dist.barrier()
    print(len(list(listening())), set(listening()), flush=True)
    dist.barrier()
    leave()
    del listener, store


@pytest.mark.process
@pytest.mark.parametrize("how", ["called", "alone"])
@pytest.mark.parametrize("world", [1, 2])
def test_master_port_gloo_and_the_watchdog_listen_on_loopback(how: str, world: int, tmp_path: Path) -> None:
    size = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "localhost"}
    for number, done in enumerate(run_ranks(listen, [(how,)] * world, tmp_path, **size)):
        count, _, where = done.out.partition(" ")
        # The store's, gloo's, the watchdog's.
        assert int(count) == (3 if number == 0 else 2), done
        assert where == "{'0100007F'}\n"
