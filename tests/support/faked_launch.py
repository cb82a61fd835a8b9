"""A launcher's script, started with fakes of the commands that it calls."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.support.commands import Finished, command_environment
from tests.support.paths import ROOT

LAUNCHERS = ROOT / "launchers"


def launch(
    folder: Path, script: str, *words: str, fakes: dict[str, str] | None = None, program: str = "bash",
    **environment: str,
) -> subprocess.Popen[str]:  # fmt: skip
    """Start a launcher in `folder`; `fakes` are shell programs that it finds first."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in (fakes or {}).items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    env = command_environment(PYTHONPATH=str(ROOT), HOME=str(folder), **environment)
    env["PATH"] = f"{programs}:{env['PATH']}"
    return subprocess.Popen(
        [*program.split(), str(LAUNCHERS / script), *words],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start(folder: Path, script: str, *words: str, fakes: dict[str, str] | None = None, **environment: str) -> Finished:
    """Run a launcher as `launch` starts it."""
    with launch(folder, script, *words, fakes=fakes, **environment) as process:
        try:
            out, err = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out, err)


def wait_for(file: Path) -> None:
    """Wait until a program has made a file."""
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def hosts(folder: Path) -> str:
    (folder / "hosts").write_text("node-1 slots=2\nnode-2 slots=4\n")
    return "hosts"


def end_record(folder: Path, why: str, reasons: list[str]) -> None:
    """A run that has just ended."""
    folder.mkdir(exist_ok=True)
    begin = {"kind": "start", "time": 1, "step": 0, "max_steps": 9}
    end = {"kind": "end", "time": 2, "step": 3, "why": why, "reasons": reasons}
    (folder / "log.jsonl").write_text(f"{json.dumps(begin)}\n{json.dumps(end)}\n")


PDSH = """
printf "%s\\n" "$*" >>pdsh
case "$*" in *mmae-is-there-*) printf 'node-%s: mmae-is-there-%s\\n' 1 0 2 1 ;; esac
"""
