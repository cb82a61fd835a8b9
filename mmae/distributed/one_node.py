"""Ranks of one node meet on its loopback interface, where no other machine can reach them.

By default torch's store listens on every interface, gloo on that of the host's own name, and NCCL on the first that is
not loopback. None of them authenticates the processes that connect.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from mmae.distributed.launch_environment import local_world_size, world_size
from mmae.distributed.network_interface import interface_of

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

LOOPBACK: Final = "127.0.0.1"
INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def is_one_node(environment: Mapping[str, str]) -> bool:
    """Whether the launcher says that all ranks are on this machine."""
    return local_world_size(environment) == world_size(environment)


def meet_here(environment: MutableMapping[str, str]) -> None:
    """If all ranks are on one node, have them meet on loopback, except for interfaces that the user chose."""
    if not is_one_node(environment):
        return
    if "RANK" in environment and not keeps_store(environment):
        environment["MASTER_ADDR"] = LOOPBACK
    for name in INTERFACES:
        environment.setdefault(name, interface_of(LOOPBACK) or "lo")


def keeps_store(environment: Mapping[str, str]) -> bool:
    """Whether torchrun's agent keeps the store, on interfaces of its own choice."""
    return environment.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def open_store(environment: Mapping[str, str], timeout: timedelta) -> TCPStore:
    """Open the store that the process group will use, too. Rank 0 keeps it.

    Raises:
        OSError, RuntimeError: the store cannot be opened or reached.
    """
    # Not above: bad input is refused before the seconds that an import of torch takes.
    from torch._C._distributed_c10d import TCPStore

    keeps = environment.get("RANK", "0") == "0" and not keeps_store(environment)
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    own = socket.create_server((LOOPBACK, port)).detach() if keeps and is_one_node(environment) else None
    return TCPStore(
        address, port, is_master=keeps, timeout=timeout, wait_for_workers=False, multi_tenant=True, master_listen_fd=own
    )


@contextmanager
def store_on_loopback() -> Iterator[None]:
    """A context around the start of a process group: on one node, its store is opened on loopback before."""
    store = None
    if is_one_node(os.environ) and os.environ.get("RANK") == "0" and not keeps_store(os.environ):
        with suppress(OSError):
            store = open_store(os.environ, timedelta(minutes=5))
    yield
    del store
