"""The names of a run's scores, by which `checkpoint.keep_best` chooses: `val.loss`, `val.rmse.depth`, `eval.biome`, ...

val.loss          sum of the outputs' validation losses      eval.TASK    score of a probe
val.loss.OUTPUT   one of them
val.iou.OUTPUT    mean IoU of an output with classes
val.rmse.OUTPUT   RMSE of another output
ema.SCORE         the same of the averaged weights (`train.ema`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmae.modalities import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmae.config.schema import Config

VAL_LOSS: Final = "val.loss"
VAL_IOU: Final = "val.iou"
VAL_RMSE: Final = "val.rmse"
VAL: Final = "val."
EVAL: Final = "eval."
EMA: Final = "ema."
_LOWER: Final = (VAL_LOSS, VAL_RMSE)
LOWER: Final = frozenset({"rmse", "mae"})
"""Scores of fine-tuned models of which less is better; of all others more is."""


def is_lower_better(score: str) -> bool:
    """Whether a smaller value of this score is the better one."""
    return of_weights(score).startswith(_LOWER)


def of_weights(score: str) -> str:
    """The score's name without the mark of the averaged weights."""
    return score.removeprefix(EMA)


def is_of_average(score: str) -> bool:
    return score.startswith(EMA)


def of_average(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores of the averaged weights by their names in a run."""
    return {f"{EMA}{name}": value for name, value in scores.items()}


def probes_average(config: Config) -> bool:
    """Whether the averaged weights are probed, too."""
    return config.eval.averaged or (config.checkpoint.keep_best or "").startswith(f"{EMA}{EVAL}")


def score_names(config: Config) -> list[str]:
    """The scores that a run of this recipe has."""
    model = config.model
    with_classes = [name for name in model.out_domains if name in MODALITIES and MODALITIES[name].categorical]
    names = [
        VAL_LOSS,
        *(f"{VAL_LOSS}.{name}" for name in model.outputs),
        *(f"{VAL_IOU}.{name}" for name in with_classes),
        *(f"{VAL_RMSE}.{name}" for name in model.out_domains if name not in with_classes),
        *(f"{EVAL}{task}" for task in config.eval.tasks),
    ]
    return names if config.train.ema is None else [*names, *(f"{EMA}{name}" for name in names)]
