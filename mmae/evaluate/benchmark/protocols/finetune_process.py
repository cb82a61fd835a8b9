"""`mmae finetune` as a process of its own: it runs to its end, and is told to save and stop when this one is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from mmae.processes import passing_signals_to


def run_finetune(words: Sequence[str], ranks: int) -> int:
    """Run the command to its end. What it says goes to stderr, and its line of JSON nowhere.

    Returns:
        its exit status.

    Raises:
        KeyboardInterrupt: a signal asked this process to stop; the training has saved and ended.
    """
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
    command = [sys.executable, "-m", *launcher, "mmae.finetune.command", *words]
    # In a group of its own it gets the keyboard's interrupt once, from here.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
    ) as process, passing_signals_to(process) as asked:  # fmt: skip
        status = process.wait()
    if asked:
        raise KeyboardInterrupt
    return status
