"""Build DeepSpeed's ops ahead of time, for `launchers/prebuild.sh`: `python -m mmae.launch.prebuild OPS`."""

from __future__ import annotations

import sys
from pathlib import Path

from mmae.engine.operators.op_lock import break_dead, cache_root, holder_of, locks
from mmae.launch.entry import entry


def clear_locks(root: Path) -> list[str]:
    """Remove locks that no living build holds. Returns a line for each removed lock, and for each held one."""
    said = []
    for lock in locks(root):
        if break_dead(lock):
            said.append(f"removed {lock}: no living build holds it")
        elif holder := holder_of(lock):
            said.append(f"{lock} is held by {holder}: waiting for what it builds")
    return said


@entry
def main(*names: str) -> int:
    for line in clear_locks(cache_root()):
        _say(line)
    from mmae.engine.operators.op_build import announce_builds, build

    announce_builds(_say)
    for name in names:
        built = build(name)
        print(f"==> {name}: {built or 'not used on this accelerator'}", flush=True)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
