"""Which variables the ranks on other nodes get. Secrets stay here: every user can read them on a command line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mmae.disk.files import atomic_file
from mmae.distributed.devices import DEVICES, VISIBLE
from mmae.errors import InputError
from mmae.launch.entry import COMMAND
from mmae.launch.shell_quoting import exported

ALLOWED: Final = re.compile(
    r"(NCCL|GLOO|TORCH|MMAE|CUDA|UCX|MV2|FI|DS|DEEPSPEED|PYTHON|OMP|TRITON|MLFLOW)_\w+|PYTHONPATH|PYTHON[A-Z]+"
    r"|LD_LIBRARY_PATH|MAX_JOBS|HF_HOME|HF_HUB_OFFLINE|XDG_CACHE_HOME"
    r"|WANDB_(MODE|PROJECT|ENTITY|DIR|BASE_URL|RUN_GROUP|NAME|TAGS)"
)
OF_EACH_NODE: Final = frozenset({VISIBLE, DEVICES, "DS_ENV_FILE"})
"""Each node numbers its devices by slots. Only DeepSpeed's runner reads the last one."""
SECRET: Final = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE)|^AWS_|_KEY$", re.IGNORECASE)
LOGIN: Final = re.compile(r"://[^/\s@]+@")
EXPORTED_BY_DEEPSPEED: Final = ("MLFLOW", "PYTHON", "MV2", "UCX", "NCCL")
"""Prefixes of the variables that DeepSpeed's runner exports by itself, secrets included."""

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def is_secret(name: str, value: str) -> bool:
    return bool(SECRET.search(name) or LOGIN.search(value))


def leaking(environment: Mapping[str, str]) -> list[str]:
    """Secrets that DeepSpeed would export by itself: it must be started without them."""
    return [
        name
        for name, value in sorted(environment.items())
        if name.startswith(EXPORTED_BY_DEEPSPEED) and is_secret(name, value)
    ]


def exports(environment: Mapping[str, str], folder: Path, python: Path) -> list[str]:
    """Lines `NAME=value` as DeepSpeed reads them.

    Args:
        folder: the ranks' working directory, first in their PYTHONPATH.
        python: the interpreter; programs beside it (ninja) are found first on every node.

    Raises:
        InputError: a value cannot be written.
    """
    lines = [f"PATH={exported(str(python.parent), before=':$PATH')}"]
    for name, value in sorted(_of_the_launcher(environment, folder).items()):
        try:
            lines.append(f"{name}={exported(value)}")
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return lines


def _of_the_launcher(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    values = {name: value for name, value in environment.items() if ALLOWED.fullmatch(name)}
    values["PYTHONPATH"] = ":".join(filter(None, [str(folder), values.get("PYTHONPATH", "")]))
    return {
        name: value
        for name, value in values.items()
        # MMAE_COMMAND repeats words that are on the command line anyway.
        if name not in OF_EACH_NODE and (name == COMMAND or not is_secret(name, value))
    }


def files_of_deepspeed(environment: Mapping[str, str], home: Path, folder: Path) -> tuple[Path, Path]:
    """Where DeepSpeed's runner, started in `folder`, looks for lines `NAME=value`; the second wins."""
    name = environment.get("DS_ENV_FILE", ".deepspeed_env")
    return home / name, folder / name


def of_the_user(environment: Mapping[str, str], home: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Lines of the user's own `.deepspeed_env` files, and the names of those that are left out as secrets.

    The files lie in the home folder and in the working directory; lines are in the order that DeepSpeed reads.

    Raises:
        InputError: a file cannot be read, or a line is not `NAME=value`.
    """
    kept: list[str] = []
    left_out: list[str] = []
    for path in dict.fromkeys(files_of_deepspeed(environment, home, folder)):
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: it cannot be read ({error}): correct it, or move it away") from error
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            key, separator, value = line.partition("=")
            if not separator:
                raise InputError(f"{path}: {line!r} is not of the form NAME=value")
            (left_out if is_secret(key.strip(), value) else kept).append(line)
    return kept, [line.partition("=")[0].strip() for line in left_out]


def write(path: Path, lines: Iterable[str]) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    with atomic_file(path, mode=0o600) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def of_remote_ranks(environment: Mapping[str, str], home: Path, folder: Path) -> dict[str, str]:
    """The variables that a training started in `folder` gives its ranks on other hosts; PATH is not among them.

    Each source wins over those before it: what DeepSpeed exports by itself, what `exports` adds, the user's own files.
    Values of these files stay as they are written there, where a training has the other host's shell expand them.

    Raises:
        InputError: as `of_the_user`.
    """
    by_deepspeed = {name: value for name, value in environment.items() if name.startswith(EXPORTED_BY_DEEPSPEED)}
    lines = [line.partition("=") for line in of_the_user(environment, home, folder)[0]]
    theirs = {name.strip(): value.strip() for name, _, value in lines}
    values = by_deepspeed | _of_the_launcher(environment, folder) | theirs
    return {name: value for name, value in values.items() if _NAME.fullmatch(name) and not is_secret(name, value)}


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
