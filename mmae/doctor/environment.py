"""The variables that DeepSpeed gives to ranks on other hosts: few of this shell's, and those of `.deepspeed_env`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mmae.launch.exports import EXPORTED_BY_DEEPSPEED, is_secret

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


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
