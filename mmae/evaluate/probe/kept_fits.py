"""Fits on disk: what was chosen and predicted, by all that it depends on, so that no probe fits the same twice.

The baselines of a run's checkpoints are the same, and an interrupted probe goes on with the next fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.evaluate.frozen.sweep import Candidate, Choice, Probed, probe

if TYPE_CHECKING:
    from mmae.evaluate.frozen.methods import Method
    from mmae.evaluate.frozen.metrics import Metric
    from mmae.evaluate.probe.task_rows import TaskRows

_GROUP: Final = "probed"
_VERSION: Final = 1


def probe_once(
    root: Path,
    features: str,
    rows: TaskRows,
    candidates: Iterable[Candidate],
    method: Method,
    metric: Metric,
    normalisers: Sequence[str],
) -> Probed:
    """`sweep.probe`, or what it gave before.

    Args:
        root: where features and fits are kept.
        features: names the stored features that the candidates are made of.

    Raises:
        InputError: as `sweep.probe`; or what is stored is damaged, or nothing can be written.
    """
    identity = {
        "fit": features,
        "kind": rows.task.kind,
        "outputs": rows.task.outputs,
        "rows": _hash_of(rows),
        "method": repr(method),
        "metric": metric.name,
        "normalisers": list(normalisers),
        "version": _VERSION,
    }
    store = FeatureStore(root, identity)
    if not store.has(_GROUP):
        probed = probe(rows.task, candidates, method, metric, normalisers)
        choice: dict[str, Any] = {key: np.array(value) for key, value in vars(probed.choice).items()}
        arrays = {"prediction": probed.prediction.cpu().numpy(), "val_score": np.array(probed.val_score)}
        store.save(_GROUP, {**arrays, **choice})
    found = store.load(_GROUP)
    choice = {key: found[key].item() for key in ("block", "pooling", "normaliser", "setting")}
    return Probed(Choice(**choice), float(found["val_score"]), torch.from_numpy(found["prediction"]))


def _hash_of(rows: TaskRows) -> str:
    found = hashlib.blake2b(digest_size=16)
    for array in (rows.tile_R, rows.patch_R, rows.part_R, rows.y_R.numpy()):
        if array is not None:
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
