"""Probes at intervals of a training. A probe that fails costs its score: the training goes on.

Work is cut into parts that wait for no other rank; between them all ranks tell one another how it went. So a rank that
fails is not waited for. Nothing here changes what is learned: the random generators are put back as they were, and the
engine's own forward pass is not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmae.config.score_names import EVAL
from mmae.distributed.collectives import RankFailedError, gather, on_every_rank, rank, world
from mmae.engine.checkpoint.contents.rng_state import generators_kept
from mmae.engine.engine_protocol import Engine
from mmae.errors import InputError
from mmae.evaluate.frozen.token_vectors import pool
from mmae.evaluate.in_loop.loop_tasks import Labelled, find_tasks, labelled
from mmae.evaluate.in_loop.probed_tiles import Share, choose, read_share, seen_modalities
from mmae.evaluate.in_loop.whole_encoder import whole_encoder
from mmae.modalities import MODALITIES
from mmae.model.features import features
from mmae.terminal.error_line import first_line
from mmae.types import Inputs

if TYPE_CHECKING:
    from mmae.model.mmae import MultiMAE
    from mmae.run.spec import RunSpec


@dataclass(frozen=True)
class Probed:
    """The result of all probes at a step, the same on every rank.

    Attributes:
        scores: by task: accuracy or R2, higher is better; None where it is not a number.
        failed: why a task has no score.
    """

    scores: Mapping[str, float | None]
    failed: Mapping[str, str]

    @property
    def named(self) -> dict[str, float]:
        """The scores that are numbers, by their names for `checkpoint.keep_best`."""
        return {f"{EVAL}{task}": score for task, score in self.scores.items() if score is not None}


class InLoopProbes:
    """Every rank has one, with its share of the tiles. The fits of the tasks are shared among ranks, too."""

    def __init__(self, inputs: Sequence[Inputs], tasks: Mapping[str, Labelled]) -> None:
        """Args:
        inputs: of this rank's tiles, on the host, in micro-batches.
        tasks: by name.
        """
        self._inputs, self._tasks = inputs, tasks

    def evaluate(self, engine: Engine) -> Probed:
        """Probe the encoder as it is. Collective; only a failure of the communication raises."""
        with generators_kept(), torch.no_grad():
            try:
                vectors_SD = self._vectors(engine)
            except RankFailedError as error:
                return Probed({}, dict.fromkeys(self._tasks, str(error)))
            scores: dict[str, float | None] = {}
            failed: dict[str, str] = {}
            for own_scores, own_failed in gather(self._own_scores(vectors_SD)):
                scores |= own_scores
                failed |= own_failed
        in_order = {task: scores[task] for task in self._tasks if task in scores}
        return Probed(in_order, {task: failed[task] for task in self._tasks if task in failed})

    def _vectors(self, engine: Engine) -> Tensor:
        """The mean of the tokens with data of each chosen tile, float32 (S, D) on the host. Collective."""
        encoder = whole_encoder(engine)

        def encode() -> Tensor:
            batches = [_encoded(encoder, each, engine.device) for each in self._inputs]
            return torch.cat(batches or [torch.empty(0, encoder.variant.dim)])

        return _interleaved(gather(on_every_rank(encode)))

    def _own_scores(self, vectors_SD: Tensor) -> tuple[dict[str, float | None], dict[str, str]]:
        scores: dict[str, float | None] = {}
        failed: dict[str, str] = {}
        for task in list(self._tasks)[rank() :: world()]:
            try:
                score = self._tasks[task].score(vectors_SD)
                scores[task] = score if math.isfinite(score) else None
            except Exception as error:  # a probe must not end a training
                failed[task] = f"rank {rank()}: {first_line(error)}"
        return scores, failed


def in_loop_probes(spec: RunSpec) -> InLoopProbes:
    """The probes that a recipe asks for, with their tiles read and their labels checked. Collective.

    Raises:
        InputError: on every rank: an unknown task; tiles that cannot be read; labels that no probe can be made of.
    """
    tasks = find_tasks(spec.config.eval.tasks)
    chosen = choose(spec)
    seen_modalities(spec)
    modalities = [task.modality for task in tasks if task.modality]
    for task in tasks:
        _check_dataset(spec, task.name, task.modality)

    def read() -> tuple[Share, Tensor]:
        share = read_share(spec, chosen, modalities, rank(), world())
        usable_B = share.usable()
        return share, torch.stack([torch.where(usable_B, task.labels(share), torch.nan) for task in tasks], dim=1)

    try:
        share, label_BT = on_every_rank(read)
    except RankFailedError as error:
        raise InputError(f"eval.every: the tiles of the probes cannot be read: {error}") from error
    label_ST = _interleaved(gather(label_BT))
    labels = zip(tasks, label_ST.unbind(1), strict=True)
    return InLoopProbes(share.inputs, {task.name: labelled(task, label_S, chosen.fitted) for task, label_S in labels})


def _check_dataset(spec: RunSpec, task: str, modality: str) -> None:
    for each in spec.tiles.sets:
        if modality and MODALITIES[modality].dataset not in each.index.datasets:
            raise InputError(
                f"eval.tasks: {task}: {each.index.folder} has no dataset {MODALITIES[modality].dataset!r}: repack "
                "with it, or leave the task out"
            )


def _encoded(encoder: MultiMAE, inputs: Inputs, device: torch.device) -> Tensor:
    names = [name for name in encoder.config.in_domains if name in inputs.values]
    visible = inputs.visible()
    found = features(
        encoder,
        {name: inputs.values[name].to(device) for name in names},
        None if visible is None else {name: visible[name].to(device) for name in names},
    )
    tokens_BND = torch.cat([found.maps[name].flatten(1, 2) for name in names], dim=1)
    valid_BN = torch.cat([inputs.token_valid[name] for name in names], dim=1).to(device)
    return pool(tokens_BND, valid_BN, found.global_tokens, "mean").cpu()


def _interleaved(parts: list[Tensor]) -> Tensor:
    """Every rank's rows in the order of the chosen tiles: rank r has every world-th row from the r-th on."""
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole
