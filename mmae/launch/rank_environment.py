"""Which variables the ranks on other nodes get, and which stay: secrets would be on command lines that all can read."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mmae.disk.files import atomic_file
from mmae.distributed.devices import DEVICES, VISIBLE
from mmae.errors import InputError
from mmae.launch.shell_quoting import exported

ALLOWED: Final = re.compile(
    r"(NCCL|GLOO|TORCH|MMAE|CUDA|UCX|MV2|FI|DS|DEEPSPEED|PYTHON|OMP|TRITON|MLFLOW)_\w+|PYTHONPATH|PYTHON[A-Z]+"
    r"|LD_LIBRARY_PATH|MAX_JOBS|HF_HOME|HF_HUB_OFFLINE|XDG_CACHE_HOME"
    r"|WANDB_(MODE|PROJECT|ENTITY|DIR|BASE_URL|RUN_GROUP|NAME|TAGS)"
)
OF_EACH_NODE: Final = frozenset({VISIBLE, DEVICES, "DS_ENV_FILE"})
"""Devices are numbered by slots there; the last is read by DeepSpeed's runner only."""
SECRET: Final = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE)|^AWS_|_KEY$", re.IGNORECASE)
LOGIN: Final = re.compile(r"://[^/\s@]+@")
EXPORTED_BY_DEEPSPEED: Final = ("MLFLOW", "PYTHON", "MV2", "UCX", "NCCL")
"""Prefixes of what DeepSpeed's runner exports of its own accord, secret or not."""

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def is_secret(name: str, value: str) -> bool:
    return bool(SECRET.search(name) or LOGIN.search(value))


def leaking(environment: Mapping[str, str]) -> list[str]:
    """Secrets that DeepSpeed would export by itself: it must not be started with them."""
    return [
        name
        for name, value in sorted(environment.items())
        if name.startswith(EXPORTED_BY_DEEPSPEED) and is_secret(name, value)
    ]


def exports(environment: Mapping[str, str], folder: Path, python: Path) -> list[str]:
    """Lines `NAME=value` as DeepSpeed reads them.

    Args:
        folder: the ranks' working directory, first in their PYTHONPATH.
        python: the interpreter; what lies beside it (ninja) is found first on every node.

    Raises:
        InputError: a value cannot be written.
    """
    values = {name: value for name, value in environment.items() if ALLOWED.fullmatch(name)}
    values["PYTHONPATH"] = ":".join(filter(None, [str(folder), values.get("PYTHONPATH", "")]))
    lines = [f"PATH={exported(str(python.parent), before=':$PATH')}"]
    for name, value in sorted(values.items()):
        # Restarts are told in MMAE_RESTARTS; MMAE_COMMAND may repeat what is on the command line anyway.
        if name in OF_EACH_NODE or (is_secret(name, value) and name != "MMAE_COMMAND"):
            continue
        try:
            lines.append(f"{name}={exported(value)}")
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return lines


def files_of_deepspeed(environment: Mapping[str, str], home: Path, folder: Path) -> tuple[Path, Path]:
    """Where DeepSpeed's runner, started in `folder`, looks for lines `NAME=value`; the second wins."""
    name = environment.get("DS_ENV_FILE", ".deepspeed_env")
    return home / name, folder / name


def of_the_user(environment: Mapping[str, str], home: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Lines of the user's own `.deepspeed_env`, in home and in the working directory, and what of them is left out.

    They stand as DeepSpeed would read them.

    Raises:
        InputError: a line is no `NAME=value`.
    """
    kept: list[str] = []
    left_out: list[str] = []
    for path in dict.fromkeys(files_of_deepspeed(environment, home, folder)):
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            if not line.strip() or line.startswith("#"):
                continue
            key, separator, value = line.partition("=")
            if not separator:
                raise InputError(f"{path}: {line!r} is not of the form NAME=value")
            (left_out if is_secret(key.strip(), value) else kept).append(line)
    return kept, [line.partition("=")[0].strip() for line in left_out]


def write(path: Path, lines: Iterable[str]) -> None:
    """Write the file that only its owner reads, whole or not at all."""
    with atomic_file(path, mode=0o600) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def passed_on(shell: Mapping[str, str], files: Sequence[Path]) -> dict[str, str]:
    """Of `shell` what DeepSpeed exports of its own accord, then the files' lines NAME=VALUE, later ones winning.

    Secrets stay here: these variables go by ssh's command line, which everybody on both machines can read.
    """
    pairs = [(name, value) for name, value in shell.items() if name.startswith(EXPORTED_BY_DEEPSPEED)]
    for path in files:
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            pairs += [(name, value) for name, _, value in (line.partition("=") for line in lines)]
    return {name: value for name, value in pairs if _NAME.fullmatch(name) and not is_secret(name, value)}


def write_exports(path: Path, own: str | None) -> None:
    """Write the variables that ranks on other nodes get, of this environment and of the user's own file.

    Args:
        own: the user's DS_ENV_FILE.

    Raises:
        InputError: a variable cannot be written, or the user's file is not of the form that DeepSpeed reads.
    """
    environment = {name: value for name, value in os.environ.items() if name != "DS_ENV_FILE"}
    environment |= {"DS_ENV_FILE": own} if own else {}
    folder = Path.cwd()
    theirs, left_out = of_the_user(environment, Path.home(), folder)
    write(path, exports(environment, folder, Path(sys.executable)) + theirs)
    if left_out:
        print(f"secrets in .deepspeed_env stay here: {', '.join(left_out)}", file=sys.stderr, flush=True)
