"""Hosts made up for the checks: well in every way but those said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmae.doctor.agent.facts import Facts
from mmae.doctor.agent.storage import Folder, OpCache, OpLock, Shards
from mmae.doctor.hosts.survey import Answers

WELL = Facts(
    hostname="node",
    machine="boot-1",
    user="eo",
    uid=1000,
    python="3.11.9",
    versions={"torch": "2.6.0", "deepspeed": "0.19.8", "mmae": "0.1.0", "numpy": "2.0.0"},
    cuda="12.4",
    driver="550.54",
    gpus=8,
    code="c0de",
    open_files=65536,
    locked_memory=-1,
    infiniband=[],
    shm_size=64 << 30,
    shm_free=60 << 30,
    own_addresses=["10.0.0.1"],
    environment={},
    missing_tools=[],
)
RUN = Folder("/runs/a", True, True, "eo", "0755", 10**12, "", "no", 0.0)
SHARDS = Shards("/shards", "f1f1", "")


def facts(**said: Any) -> Facts:
    return replace(WELL, **said)


def host(name: str, said: Facts = WELL, **more: Any) -> Answers:
    return Answers(name, facts=said, **more)


def cache(*locks: OpLock, writable: bool = True, batons: bool = True) -> OpCache:
    return OpCache("/cache", writable, batons, list(locks))
