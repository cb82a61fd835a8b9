"""What two trainings learned, compared: losses step by step, weights tensor by tensor, and samples seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmae.engine.checkpoint.consolidate import load_trained


def train_records(run: Path) -> list[dict[str, Any]]:
    """The training records of a run, one a step; of a step done twice (after a resume) the last."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    by_step = {record["step"]: record for record in records if record["kind"] == "train"}
    return [by_step[step] for step in sorted(by_step)]


def final_weights(run: Path) -> dict[str, Tensor]:
    """Float32 weights at the run's latest checkpoint."""
    trained = load_trained(str(run), None, trust=False)
    weights = dict(trained.model.state_dict())
    if trained.log_vars is not None:
        weights["log_vars"] = trained.log_vars
    return weights


def largest_difference(seen: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[float, str]:
    """max|a-b| / max|b| of a tensor, the largest over all tensors, and whose it is.

    The key part of attention biases is left out: softmax does not see a constant added to every key's score, so its
    true gradient is 0 and Adam divides noise by noise. Predictions show that it does not matter.
    """
    assert seen.keys() == expected.keys()
    worst = (0.0, "")
    for name, reference in expected.items():
        a, b = _without_key_bias(name, seen[name]), _without_key_bias(name, reference)
        scale = b.abs().max().item()
        difference = (a - b).abs().max().item()
        worst = max(worst, (difference / scale if scale else difference, name))
    return worst


def _without_key_bias(name: str, tensor: Tensor) -> Tensor:
    if name.endswith("attn.qkv.bias"):
        query, _, value = tensor.chunk(3, dim=-1)
        return torch.cat([query, value], dim=-1)
    if name.endswith("cross_attention.kv.bias"):
        return tensor.chunk(2, dim=-1)[1]
    return tensor


def largest_loss_difference(seen: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    """Largest relative difference of any output's loss at any step."""
    assert [record["step"] for record in seen] == [record["step"] for record in expected]
    differences: list[float] = [
        abs(a["losses"][name] - loss) / max(abs(loss), 1e-12)
        for a, b in zip(seen, expected, strict=True)
        for name, loss in b["losses"].items()
    ]
    return max(differences)


def samples_seen(run: Path) -> dict[int, dict[int, tuple[int, str]]]:
    """Step -> source row -> (random key, hash of the sample made of the tile), over all ranks and micro-batches."""
    seen: dict[int, dict[int, tuple[int, str]]] = {}
    for file in sorted(run.glob("samples_rank*.jsonl")):
        for text in file.read_text().splitlines():
            line = json.loads(text)
            step = seen.setdefault(line["step"], {})
            step.update(
                {row: (key, made) for row, key, made in zip(line["rows"], line["keys"], line["samples"], strict=True)}
            )
    return seen


def checkpoint_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint of ours, by file and place: weights, masters, moments."""
    tensors: dict[str, Tensor] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}/{key}")
        elif isinstance(value, list | tuple):
            for key, inner in enumerate(value):
                walk(inner, f"{name}/{key}")

    for file in sorted(checkpoint.glob("*.pt")):
        walk(torch.load(file, map_location="cpu", weights_only=False), file.name)
    return tensors
