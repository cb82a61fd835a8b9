"""What a unit test may not do: start a process, by whatever way Python has."""

from __future__ import annotations

import multiprocessing.util
import sys
from types import FrameType

STARTS_A_PROCESS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


class StartsAProcessError(RuntimeError):
    """A test without the marker `process` starts one."""

    def __init__(self, way: str) -> None:
        super().__init__(f"a unit test starts a process ({way}): mark it with pytest.mark.process")


def refuse_processes() -> None:
    """Refuse every process from now on, in this process and for its whole life: an audit hook cannot be removed."""
    sys.addaudithook(_refuse)
    # A C function without an audit event starts what multiprocessing spawns, and its servers.
    multiprocessing.util.spawnv_passfds = _refuse_spawn  # type: ignore[attr-defined]


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event in STARTS_A_PROCESS and not _is_importing():
        raise StartsAProcessError(event)


def _refuse_spawn(*_: object) -> int:
    raise StartsAProcessError("multiprocessing")


def _is_importing() -> bool:
    """Whether a library is being imported: torch asks the linker for other libraries, h5py the system for its name."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename != IMPORT_SYSTEM:
        frame = frame.f_back
    return frame is not None
