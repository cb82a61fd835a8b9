"""How DeepSpeed writes checkpoints."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine

from mmae.engine.engine_protocol import Engine


class WriterInterface(CheckpointEngine):  # type: ignore[misc]  # DeepSpeed has no types
    """What DeepSpeed calls while it saves and loads; a subclass has `save` and `makedirs` too.

    Written for deepspeed 0.19.8, which chooses among classes of its own by the JSON and takes no object.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__

    def create(self, info: Any) -> None:
        """DeepSpeed begins a save. There is nothing to do."""

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read what DeepSpeed itself wrote. Unpickles: the caller has checked the owner."""
        return torch.load(path, map_location=map_location, weights_only=False)

    def commit(self, info: Any) -> bool:
        """DeepSpeed ends a save. Whether the save counts is decided by all ranks, later."""
        return True


def replace_writer(engine: Engine, writer: WriterInterface) -> None:
    """Have the engine save and load through `writer`.

    Written for deepspeed 0.19.8. It copies two scripts of its own beside each checkpoint, from rank 0 alone in the
    middle of a save, where an error would leave the other ranks waiting: that is left out, `mmae export` replaces them.
    """
    engine.checkpoint_engine = writer  # type: ignore[attr-defined]
    engine._copy_recovery_script = lambda save_path: None  # type: ignore[attr-defined]


def end_failed_save(engine: Engine) -> None:
    """Make the collective calls that a failed save has skipped on this rank, so that no other rank waits for ever.

    Written for deepspeed 0.19.8: this is how its `save_checkpoint` ends.
    """
    if hasattr(engine.optimizer, "checkpoint_event_epilogue"):
        engine.optimizer.checkpoint_event_epilogue()
    dist.barrier()
