"""What a process group leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.commands import Command, free_port
from tests.support.paths import ROOT

KILLED_RANK = """
import os, signal, sys
import torch
import torch.distributed as dist
from mmae.distributed.process_group import join

rank = join()
total = torch.ones(())
dist.all_reduce(total)
shared = [name for name in os.listdir("/dev/shm") if os.environ["MASTER_PORT"] in name]
# A file's name, so that no rank's words mix with another's.
open(f"{rank} of {int(total)}, LOCAL_SIZE {os.environ['LOCAL_SIZE']}, shared {shared}", "x").close()
dist.barrier()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_ranks_leave_no_shared_memory(command: Command, tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(KILLED_RANK)
    port = str(free_port())
    done = command("deepspeed", "--num_gpus", "2", "--master_port", port, "rank.py", PYTHONPATH=str(ROOT))
    assert done.status != 0
    said = sorted(path.name for path in tmp_path.iterdir() if path.name != "rank.py")
    assert said == [f"{rank} of 2, LOCAL_SIZE 2, shared []" for rank in range(2)], done.err
    assert [name for name in os.listdir("/dev/shm") if port in name] == []
