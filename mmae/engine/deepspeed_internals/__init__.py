"""Everything that reaches into DeepSpeed behind its public interface, in one place.

Each function says which version it was written for and why it is needed. In `tests/engine/deepspeed_internals`,
`test_uses_of_deepspeed.py` checks that the attributes and methods used here exist in the installed DeepSpeed, with the
signatures expected here; the tests beside it, that each function does what it says. After an upgrade run that folder,
then read the functions that it names.

Not here: the files of DeepSpeed's checkpoints (`checkpoint/conversion/universal_state.py`), and what belongs to torch
(`skip_update.py`, `operators/op_build.py`).
"""

from __future__ import annotations

import re
from typing import Final

OLDEST: Final = (0, 19, 4)
NEXT_UNTESTED: Final = (0, 20)
"""The versions that this package is tested with, the second one excluded. `setup.py` says the same."""


def untested_version(version: str) -> str | None:
    """One line for a start with a DeepSpeed outside the tested range; None within it."""
    # Not as version numbers are ordered: a release candidate of 0.20 is as untested as 0.20 itself.
    if OLDEST <= tuple(map(int, re.findall(r"\d+", version)[:3])) < NEXT_UNTESTED:
        return None
    oldest, newest = (".".join(map(str, bound)) for bound in (OLDEST, NEXT_UNTESTED))
    return (
        f"WARNING: mmae is not tested with deepspeed {version}, whose internals it uses: "
        f'if the training fails, pip install "deepspeed>={oldest},<{newest}"'
    )
