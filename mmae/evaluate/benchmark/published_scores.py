"""Scores of others to place one's own among: the worst and the best baseline of GEO-Bench v1.

They are those of the suite's `normalizer.json`: of trained baselines, fine-tuned with a search over settings.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

PUBLISHED: Final = MappingProxyType(
    {
        "m-so2sat": (0.4493, 0.6095),
        "m-pv4ger": (0.9610, 0.9850),
        "m-forestnet": (0.4622, 0.6264),
        "m-eurosat": (0.9070, 0.9850),
        "m-brick-kiln": (0.9740, 0.9910),
        "m-bigearthnet": (0.6024, 0.7056),
        "m-pv4ger-seg": (0.9306, 0.9428),
        "m-nz-cattle": (0.6541, 0.8138),
        "m-chesapeake": (0.5588, 0.7170),
        "m-cashew-plant": (0.3725, 0.4982),
        "m-SA-crop-type": (0.2640, 0.3114),
        "m-NeonTree": (0.4504, 0.5858),
    }
)
"""Task -> worst and best, in the task's own metric."""


def normalised(task: str, score: float) -> float | None:
    """A score on the scale where the worst baseline is 0 and the best is 1; None where none was published."""
    if task not in PUBLISHED:
        return None
    worst, best = PUBLISHED[task]
    return (score - worst) / (best - worst)
