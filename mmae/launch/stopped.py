"""Whether a run was stopped by what a scheduler does, and not by its user: `python -m mmae.launch.stopped RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from mmae.launch.entry import entry
from mmae.run.state import read_run

OF_A_SCHEDULER: Final = frozenset({"SIGTERM", "SIGUSR1", "the end of the Slurm job"})


def stopped_by_scheduler(run: Path) -> str | None:
    """The reasons, if all of them are a scheduler's; a user's limit, or the file `stop`, shall not be undone.

    Raises:
        InputError: no run lives there.
    """
    found = read_run(run)
    reasons = set(found.why.split(" and "))
    return found.why if found.state == "stopped" and reasons <= OF_A_SCHEDULER else None


@entry
def main(run: str) -> int:
    why = stopped_by_scheduler(Path(run))
    print(why or "")
    return 0 if why else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
