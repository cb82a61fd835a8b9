"""The variables that DeepSpeed gives to ranks on other hosts: few of this shell's, and those of `.deepspeed_env`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mmae.launch.exports import EXPORTED_BY_DEEPSPEED

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def passed_on(shell: Mapping[str, str], files: Sequence[Path]) -> dict[str, str]:
    """Of `shell` what DeepSpeed exports of its own accord, then the files' lines NAME=VALUE, later ones winning."""
    found = {
        name: value for name, value in shell.items() if name.startswith(EXPORTED_BY_DEEPSPEED) and _NAME.fullmatch(name)
    }
    for path in files:
        if path.is_file():
            pairs = (line.partition("=") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
            found.update({name: value for name, _, value in pairs if _NAME.fullmatch(name)})
    return found
