"""Train the smallest model by other optimisers and schedules of masks, beside the usual ones.

    python -m tests.optimiser_trial SHARDS --out trials.jsonl --seeds 0,1,2 adamw:lr=4e-3 muon:lr=4e-3:matrix_lr=4e-2

A trial is an optimiser and settings (`Trial`). Each ends as a line of the file: the validation losses on the way, and
the processor time of a step. Trials that the file holds are not repeated. Without trials, the file is shown as a table.

Muon: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); its step is multiplied as
`torch.optim.Muon` does by `original` or `match_rms_adamw` (Liu et al., "Muon is Scalable for LLM Training", 2025).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import nn

from mmae.config.batch_split import BatchSplit
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.data.loading.loader import read_batches, train_batches
from mmae.data.sampling.order import TrainOrder
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_tiles
from mmae.data.shards.index import open_index
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.matrices.newton_schulz import orthogonal
from mmae.engine.module import PretrainModule
from mmae.engine.optim import lr_factor
from mmae.engine.step import prepare
from mmae.losses import scored
from mmae.model.counts.block_matrices import matrices_above
from mmae.model.parameters import parameter_groups

VAL_EVERY: Final = 20
VISIBLE: Final = 16
SMALL: Final = (
    "model.size=nano",
    "model.input_size=32",
    f"model.num_encoded_tokens={VISIBLE}",
    "model.decoder_dim=64",
    "model.decoder_depth=1",
)
"""What makes a training take a minute. As in the recipe one token of six is visible."""
HELD_OUT: Final = 0.2
"""Share of the training tiles that validate, and are not trained on."""
PLACES: Final = ("seen scenes", "new scene")
"""Where tiles that validate lie: beside those that are trained on, and those of the split `val`."""


@dataclass(frozen=True)
class Trial:
    """One way to train.

    Attributes:
        lr: AdamW's peak, for all parameters or for those that Muon leaves.
        matrix_lr: Muon's peak.
        part: the blocks whose matrices Muon trains.
        split: Muon takes the query's, key's and value's matrices one by one, not one above the other.
        scale: what multiplies Muon's step, beside the rate.
        tokens: visible tokens of a tile at the first and the last step, as a share of the usual number; between them a
            straight line.
        alphas: concentration of the modalities' shares at the first and the last step; a straight line in logarithms.
        steps, batch: their number, and the tiles of one.
    """

    optimiser: Literal["adamw", "muon"]
    lr: float
    matrix_lr: float = 0.0
    part: Literal["encoder", "all"] = "all"
    split: bool = True
    scale: Literal["original", "match_rms_adamw"] = "original"
    tokens: tuple[float, float] = (1.0, 1.0)
    alphas: tuple[float, float] = (1.0, 1.0)
    steps: int = 200
    batch: int = 16

    @classmethod
    def parse(cls, text: str) -> Trial:
        """From `optimiser:name=value:...`; two values are joined by `-`."""
        optimiser, *words = text.split(":")
        values: dict[str, Any] = {"optimiser": optimiser}
        kinds = {field.name: field.type for field in fields(cls)}
        for word in words:
            name, _, value = word.partition("=")
            kind = str(kinds[name])
            if kind.startswith("tuple"):
                values[name] = tuple(float(each) for each in value.split("-"))
            elif kind in {"float", "int"}:
                values[name] = float(value) if kind == "float" else int(value)
            else:
                values[name] = value == "True" if kind == "bool" else value
        return cls(**values)

    @property
    def is_plain(self) -> bool:
        """AdamW with the recipe's masks."""
        return replace(self, lr=0.0, steps=0, batch=0) == Trial("adamw", 0.0, steps=0, batch=0)

    def __str__(self) -> str:
        """As `parse` reads it, without what is the default."""
        words: list[str] = [self.optimiser]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                words.append(f"{field.name}={'-'.join(map(str, value)) if isinstance(value, tuple) else value}")
        return ":".join(words)

    def masks(self, step: int, config: Config) -> Config:
        """The configuration by which a step's visible tokens are drawn."""
        done = step / max(1, self.steps - 1)
        tokens = round(VISIBLE * (self.tokens[0] + done * (self.tokens[1] - self.tokens[0])))
        first, last = self.alphas
        alphas = first * (last / first) ** done
        return replace(config, model=replace(config.model, num_encoded_tokens=tokens, alphas=alphas))


class Muon(torch.optim.Optimizer):
    """Muon for stacks of matrices; a group's `parts` is the number of matrices that lie one above the other."""

    def __init__(self, groups: list[dict[str, Any]], scale: str) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": 0.95, "weight_decay": 0.05, "parts": 1})
        self._scale = scale

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])
                matrices = update.view(*update.shape[:-2], group["parts"], -1, update.shape[-1])
                rows, columns = matrices.shape[-2:]
                factor = math.sqrt(max(1, rows / columns))
                if self._scale == "match_rms_adamw":
                    factor = 0.2 * math.sqrt(max(rows, columns))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                change = orthogonal(matrices, torch.bfloat16).reshape(weight.shape)
                weight.sub_(change, alpha=group["lr"] * factor)


def optimisers(masters: dict[str, nn.Parameter], trial: Trial, config: Config) -> list[torch.optim.Optimizer]:
    """What trains a model's parameters in a trial, each parameter by one of them."""
    named, parts = dict(masters), defaultdict[int, list[nn.Parameter]](list)
    if trial.optimiser == "muon":
        for name in [name for name in named if matrices_above(name)]:
            if trial.part == "all" or "encoder" in name:
                parts[matrices_above(name) if trial.split else 1].append(named.pop(name))
    groups = parameter_groups(named.items(), config.train.weight_decay, False)
    adamw = torch.optim.AdamW(groups, lr=trial.lr, betas=config.train.opt_betas, fused=True)
    if not parts:
        return [adamw]
    matrices = [{"params": params, "parts": number, "lr": trial.matrix_lr} for number, params in parts.items()]
    return [adamw, Muon(matrices, trial.scale)]


@torch.no_grad()
def copy(module: nn.Module, masters: dict[str, nn.Parameter]) -> None:
    for weight, master in zip(module.parameters(), masters.values(), strict=True):
        weight.copy_(master)


class Bench:
    """The tiles of trainings of one length and batch size, kept in memory."""

    def __init__(self, shards: str, steps: int, batch: int, seed: int) -> None:
        words = [f"train.global_batch={batch}", f"train.max_steps={steps}", f"train.warmup_steps={steps // 10}"]
        words += [f"data.fraction={1 - HELD_OUT}", "data.workers=0", f"data.shards={shards}"]
        self.config = load_config("mini", [*SMALL, *words])
        self.seed, self.size = seed, (steps, batch)
        sets = [ShardSet(open_index(Path(shards)))]
        index, data, domains = sets[0].index, self.config.data, self.config.model.domains
        self._preprocess = Preprocess(data, self.config.model, index.band_stats, torch.device("cpu"))
        # Which tiles are held out, and their masks and crops, are the same for all seeds.
        tiles = training_tiles(sets, data, 0)
        self._train = list(
            train_batches(
                tiles, domains, data, seed=seed, order=TrainOrder(tiles.mixture.num_slots, batch, seed),
                split=BatchSplit(batch, 1, 1), rank=0, start_step=0, stop_step=steps, pin=False,
            )
        )  # fmt: skip
        held_out = np.setdiff1d(index.positions("train"), tiles.positions[0])
        places = dict(zip(PLACES, (held_out, index.positions("val")), strict=True))
        self._val = {
            name: [
                prepare(each, self._preprocess, self.config, train=False)
                for each in read_batches(sets, domains, positions, seed=0, epoch=0, size=24)
            ]
            for name, positions in places.items()
        }

    def run(self, trial: Trial) -> dict[str, Any]:
        """Train; the record of it."""
        module = PretrainModule(self.config.model, seed=self.seed)
        # Weights in float32 are trained, and copied to a model in bfloat16: as DeepSpeed does it.
        masters = {name: nn.Parameter(weight.detach().clone()) for name, weight in module.named_parameters()}
        module.bfloat16()
        chosen = optimisers(masters, trial, self.config)
        groups = [group for optimiser in chosen for group in optimiser.param_groups]
        peaks = [group["lr"] for group in groups]
        losses, seconds, curve = [], [0.0, 0.0], {}
        for step, batch in enumerate(self._train):
            inputs, plan = prepare(batch, self._preprocess, trial.masks(step, self.config), train=True)
            began = time.process_time()
            count_O = scored(inputs, plan, self.config.model).sum(1).float()
            loss = module(inputs, plan, count_O, 1.0)[0]
            torch.autograd.backward(loss)
            for weight, master in zip(module.parameters(), masters.values(), strict=True):
                assert weight.grad is not None
                master.grad, weight.grad = weight.grad.float(), None
            nn.utils.clip_grad_norm_(masters.values(), self.config.train.clip_grad)
            learnt = time.process_time()
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * lr_factor(step, self.config.train)
            for optimiser in chosen:
                optimiser.step()
            copy(module, masters)
            seconds[0] += learnt - began
            seconds[1] += time.process_time() - learnt
            losses.append(loss.item())
            if (step + 1) % VAL_EVERY == 0:
                curve[step + 1] = {name: self._validate(module, name) for name in self._val}
        return {
            "trial": str(trial), "seed": self.seed, "curve": curve, "train": mean(losses[-20:]),
            "seconds": [each / len(losses) for each in seconds], "settings": asdict(trial),
        }  # fmt: skip

    @torch.no_grad()
    def _validate(self, module: PretrainModule, name: str) -> dict[str, float]:
        """Mean loss of each output over tiles that are not trained on."""
        outputs = self.config.model.outputs
        sums, one_O = torch.zeros(2, len(outputs)), torch.ones(len(outputs))
        for inputs, plan in self._val[name]:
            sums += torch.stack([module(inputs, plan, one_O, 1.0)[1], scored(inputs, plan, self.config.model).sum(1)])
        return dict(zip(outputs, (sums[0] / sums[1]).tolist(), strict=True))


def total(losses: dict[str, float]) -> float:
    return sum(losses.values())


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(records: list[dict[str, Any]]) -> str:
    """A row for each trial: the loss at the end, its range over seeds, and when it was as low as AdamW's best end."""
    trials: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        trials[record["trial"]].append(record)
    # Of the trials with the most seeds: one seed alone may be a lucky one.
    most = max(map(len, trials.values()))
    plain = [runs for text, runs in trials.items() if Trial.parse(text).is_plain and len(runs) == most]
    goals = {name: min((mean(_ends(runs, name)) for runs in plain), default=0.0) for name in PLACES}
    lines = [
        f"| trial | seeds | {' | '.join(f'{name} | step' for name in PLACES)} | s a step |",
        f"| --- | --- |{' --- | --- |' * len(PLACES)} --- |",
    ]
    for text, runs in sorted(trials.items(), key=lambda item: mean(_ends(item[1], PLACES[0]))):
        cells = [f"`{text}`", str(len(runs))]
        for name, goal in goals.items():
            ends = _ends(runs, name)
            over = f" ({min(ends):.3f} to {max(ends):.3f})" if len(ends) > 1 else ""
            cells += [f"{mean(ends):.3f}{over}", _reached(runs, name, goal)]
        cells.append(" + ".join(f"{mean(run['seconds'][part] for run in runs):.3f}" for part in range(2)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ends(runs: list[dict[str, Any]], name: str) -> list[float]:
    return [total(list(run["curve"].values())[-1][name]) for run in runs]


def _reached(runs: list[dict[str, Any]], name: str, goal: float) -> str:
    """The first validated step at which the mean over seeds is at most the goal."""
    for step in runs[0]["curve"]:
        if mean(total(run["curve"][step][name]) for run in runs) <= goal:
            return str(step)
    return "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.optimiser_trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shards")
    parser.add_argument("trials", nargs="*", metavar="TRIAL")
    parser.add_argument("--out", type=Path, default=Path("trials.jsonl"))
    parser.add_argument("--seeds", default="0")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    held = {(record["trial"], record["seed"]) for record in read(options.out)}
    trials = [Trial.parse(text) for text in options.trials]
    for seed in map(int, options.seeds.split(",")):
        bench: Bench | None = None
        for trial in trials:
            if (str(trial), seed) in held:
                continue
            if bench is None or bench.size != (trial.steps, trial.batch):
                bench = Bench(options.shards, trial.steps, trial.batch, seed)
            record = bench.run(trial)
            with options.out.open("a") as out:
                out.write(json.dumps(record) + "\n")
            print(table([record]), flush=True)
    print(table(read(options.out)))


if __name__ == "__main__":
    main()
