"""The names of a run's scores, by which `checkpoint.keep_best` chooses: `val.loss`, `val.rmse.depth`, `eval.biome`, ...

val.loss          sum of the outputs' validation losses      eval.TASK    score of a probe
val.loss.OUTPUT   one of them
val.iou.OUTPUT    mean IoU of an output with classes
val.rmse.OUTPUT   RMSE of another output
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmae.modalities import MODALITIES

if TYPE_CHECKING:
    from mmae.config.schema import Config

VAL_LOSS: Final = "val.loss"
VAL_IOU: Final = "val.iou"
VAL_RMSE: Final = "val.rmse"
VAL: Final = "val."
EVAL: Final = "eval."
_LOWER: Final = (VAL_LOSS, VAL_RMSE)
LOWER: Final = frozenset({"rmse", "mae"})
"""Scores of fine-tuned models of which less is better; of all others more is."""


def is_lower_better(score: str) -> bool:
    """Whether a smaller value of this score is the better one."""
    return score.startswith(_LOWER)


def score_names(config: Config) -> list[str]:
    """The scores that a run of this recipe has."""
    model = config.model
    with_classes = [name for name in model.out_domains if name in MODALITIES and MODALITIES[name].categorical]
    return [
        VAL_LOSS,
        *(f"{VAL_LOSS}.{name}" for name in model.outputs),
        *(f"{VAL_IOU}.{name}" for name in with_classes),
        *(f"{VAL_RMSE}.{name}" for name in model.out_domains if name not in with_classes),
        *(f"{EVAL}{task}" for task in config.eval.tasks),
    ]
