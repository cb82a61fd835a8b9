"""What the fields of a log's records may hold. A record with something else in one is damaged: readers need not ask.

Other fields are free: later versions, and other kinds of runs, write what is not named here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

_WHOLE: Final = frozenset(
    {"step", "epoch", "world", "max_steps", "stop", "log_every", "checkpoint_every", "validation_tiles", "pid",
     "steps_per_epoch", "slowest_rank"}
)  # fmt: skip
_NUMBERS: Final = frozenset(
    {"loss", "loss_mean", "lr", "grad_norm", "mfu", "tiles_per_second", "step_seconds", "data_wait_share",
     "save_seconds", "val_seconds", "eval_seconds", "slowest_step_seconds", "median_step_seconds", "peak_memory_gb",
     "device_peak_tflops"}
)  # fmt: skip
_NUMBERS_BY_NAME: Final = frozenset({"losses", "scored", "lost", "iou", "rmse", "scores", "lrs"})
_TEXTS: Final = frozenset({"why", "error", "host", "keep_best"})
_TEXTS_BY_NAME: Final = frozenset({"units", "failed"})
_LAST_SECOND: Final = 253_402_300_800
"""The year 10 000: later times cannot be printed."""
_LONGEST: Final = 18
"""Digits of a whole number."""


def is_sound(record: Mapping[str, Any]) -> bool:
    """Whether each field that is named here holds what it should, or null."""
    return all(value is None or key not in _CHECKS or _CHECKS[key](value) for key, value in record.items())


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 10**_LONGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < _LAST_SECOND


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _has_numbers_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(each is None or _is_number(each) for each in value.values())


def _has_texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _has_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_scored(value: Any) -> bool:
    """Whether it is what a validation or probes found."""
    found = isinstance(value, dict) and any(isinstance(value.get(key), dict) for key in ("losses", "scores"))
    return found and is_sound(value)


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        **dict.fromkeys(_WHOLE, _is_whole),
        **dict.fromkeys(_NUMBERS, _is_number),
        **dict.fromkeys(_NUMBERS_BY_NAME, _has_numbers_by_name),
        **dict.fromkeys(_TEXTS, _is_text),
        **dict.fromkeys(_TEXTS_BY_NAME, _has_texts_by_name),
        "time": _is_time,
        "reasons": _has_texts,
        "ema": _is_scored,
    }
)
