"""Facts about a host, gathered without torch, so that it answers within a second."""

from __future__ import annotations

import os
import pwd
import resource
import runpy
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import mmae
from mmae.distributed.code_hash import code_hash
from mmae.processes import this_machine
from mmae.version import installed_version

ENVIRONMENT: Final = ("CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TORCH_EXTENSIONS_DIR")
TOOLS: Final = ("ninja", "g++")
_NVIDIA: Final = Path("/proc/driver/nvidia")
_TOOL_S: Final = 8.0


@dataclass(frozen=True)
class Facts:
    """Facts about one host.

    Attributes:
        machine: identifies the boot of the machine and its process namespace; equal for two names of one machine.
        versions: the versions of packages; "absent" if one is missing.
        cuda: CUDA version that torch was built for; "" for none.
        driver: driver version; "" if there is none.
        gpus: number that the driver lists; -1 if it did not answer.
        code: hash over the package's Python files.
        open_files: largest number of files that a process may open; -1: no limit.
        locked_memory: bytes that a process may lock; -1: no limit.
        infiniband: names of its adapters.
        shm_size, shm_free: bytes of /dev/shm.
        own_addresses: addresses that the host's own name resolves to.
        environment: the variables of `ENVIRONMENT` that are set.
        missing_tools: the `TOOLS` that are not in PATH.
    """

    hostname: str
    machine: str
    user: str
    uid: int
    python: str
    versions: dict[str, str]
    cuda: str
    driver: str
    gpus: int
    code: str
    open_files: int
    locked_memory: int
    infiniband: list[str]
    shm_size: int
    shm_free: int
    own_addresses: list[str]
    environment: dict[str, str]
    missing_tools: list[str]


def gather() -> Facts:
    """The facts about this machine."""
    shm = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
    driver, gpus = _driver()
    return Facts(
        hostname=socket.gethostname(),
        machine=this_machine(),
        user=user_name(os.getuid()),
        uid=os.getuid(),
        python=".".join(map(str, sys.version_info[:3])),
        versions={name: installed_version(name) for name in ("torch", "deepspeed", "mmae", "numpy")}
        | {"mmae": mmae.__version__},
        cuda=torch_built_for("cuda"),
        driver=driver,
        gpus=gpus,
        code=code_hash(Path(mmae.__file__).parent),
        open_files=_limit(resource.RLIMIT_NOFILE),
        locked_memory=_limit(resource.RLIMIT_MEMLOCK),
        infiniband=_names(Path("/sys/class/infiniband")),
        shm_size=shm.total if shm else 0,
        shm_free=shm.free if shm else 0,
        own_addresses=_own_addresses(),
        environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        missing_tools=[name for name in TOOLS if shutil.which(name) is None],
    )


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def torch_built_for(what: str) -> str:
    """The version of `cuda` or `hip` that torch was built for, read from its version.py; "" for none."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        known = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    except (OSError, SyntaxError):
        return ""
    return str(known.get(what) or "")


def _driver() -> tuple[str, int]:
    """Driver version and number of GPUs, from nvidia-smi, or from the kernel if that is missing."""
    if shutil.which("nvidia-smi") is None:
        try:
            words = (_NVIDIA / "version").read_text().partition("Module")[2].split()
        except OSError:
            return "", 0
        return next((word for word in words if word[0].isdigit()), "?"), len(_names(_NVIDIA / "gpus"))
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_TOOL_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return "", -1
    versions = done.stdout.split()
    return (versions[0], len(versions)) if versions else ("", 0)


def _limit(which: int) -> int:
    soft, _ = resource.getrlimit(which)
    return -1 if soft == resource.RLIM_INFINITY else soft


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _own_addresses() -> list[str]:
    try:
        return sorted({str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None)})
    except OSError:
        return []
