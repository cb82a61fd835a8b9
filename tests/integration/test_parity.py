"""However a training is spread, it learns the same: every shape against a plain torch loop with torch's AdamW."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.batch_split import BatchSplit
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.data.loading.loader import read_batches, train_batches
from mmae.data.sampling.order import TrainOrder
from mmae.data.sampling.training_tiles import training_positions
from mmae.data.shards.index import Index, open_index
from mmae.data.transforms.preprocess import Preprocess
from mmae.draws import VALIDATION_EPOCH
from mmae.engine.module import PretrainModule
from mmae.engine.optim import build_optimizer, lr_factor
from mmae.engine.step import prepare
from mmae.losses import scored
from mmae.model.mmae import MultiMAE
from tests.support.commands import SMALL
from tests.support.compare import (
    final_weights,
    largest_difference,
    largest_loss_difference,
    samples_seen,
    train_records,
)
from tests.support.group import Job, run_jobs
from tests.support.smooth_losses import SMOOTH, smooth

GLOBAL_BATCH = 16
STEPS = 20
RECIPE = (
    *SMALL, f"train.global_batch={GLOBAL_BATCH}", f"train.max_steps={STEPS}", "train.blr=1.6e-2", "data.workers=0",
    "log.every=1", "log.samples=true", "checkpoint.every=1000", "val.every=0",
)  # fmt: skip
FLOAT32_BOUND = 1e-5
BF16_LOSS_BOUND, BF16_WEIGHT_BOUND = 2e-3, 0.15
"""Of bf16 runs among one another: a gradient has eight bits. Seen: 5e-4, and 0.07 on biases that started from 0."""

STAGES = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")


@dataclass(frozen=True)
class Shape:
    """How a training is spread."""

    ds: str
    ranks: int
    accumulation: int
    checkpointing: str
    precision: str = "fp32"
    every: int = 1
    optimizer: str = "adamw"

    @property
    def name(self) -> str:
        spread = f"{self.ds}-{self.ranks}r-{self.accumulation}a-{self.checkpointing}{self.every}-{self.precision}"
        return f"{spread}-{self.optimizer}"

    def job(self, shards: Path) -> Job:
        micro = GLOBAL_BATCH // self.ranks // self.accumulation
        return Job(
            self.name,
            self.ds,
            (
                *RECIPE, f"data.shards={shards}", f"train.micro_batch={micro}", f"train.precision={self.precision}",
                f"train.activation_checkpointing={self.checkpointing}", f"train.checkpoint_blocks_every={self.every}",
                f"train.optimizer={self.optimizer}",
            ),
            around=SMOOTH,
        )  # fmt: skip


EVERY = [Shape(*case) for case in itertools.product(STAGES, (1, 2), (1, 2, 4), ("none", "selective", "full"))]
SPANNING = [
    Shape("zero0", 1, 4, "full"),
    Shape("zero0", 2, 1, "none"),
    Shape("zero1", 2, 2, "selective"),
    Shape("zero2", 1, 1, "none"),
    Shape("zero2", 2, 4, "full"),
    Shape("zero3", 1, 2, "selective"),
    Shape("zero3", 2, 1, "none"),
    Shape("zero2_offload", 2, 2, "none"),
    Shape("zero3_offload", 2, 1, "selective"),
    *(Shape(ds, 2, 1, "full", every=2) for ds in ("zero1", "zero3")),
]
"""Each stage, each number of ranks, each accumulation, each kind of checkpointing, and most pairs of them."""

MUON = [
    Shape(ds, ranks, 2, "none", optimizer="muon") for ds in ("zero0", "zero1", "zero2") for ranks in (1, 2)
]  # fmt: skip
BF16 = [Shape(ds, ranks, 2, "none", "bf16") for ds in ("zero0", "zero1", "zero2", "zero3") for ranks in (1, 2)]


@dataclass(frozen=True)
class Reference:
    """What the plain loop learned."""

    config: Config
    initial: dict[str, Tensor]
    weights: dict[str, Tensor]
    records: list[dict[str, Any]]
    keys: list[dict[int, int]]


@pytest.fixture(scope="module")
def reference(synthetic_shards: Path) -> Reference:
    return _plain(synthetic_shards)


@smooth()
def _plain(shards: Path, *more: str) -> Reference:
    """20 steps in plain torch: the whole global batch at once, one process, no DeepSpeed."""
    config = load_config("debug", [*RECIPE, f"data.shards={shards}", *more])
    index = open_index(shards)
    module = PretrainModule(config.model, seed=config.train.seed)
    initial = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    optimizer = build_optimizer(module, config.train, config.model)
    preprocess = Preprocess(config.data, config.model, index.band_stats, torch.device("cpu"))
    records, keys = [], []
    for step, batch in enumerate(_batches(index, config)):
        for group in optimizer.param_groups:
            group["lr"] = config.train.lr * lr_factor(step, config.train)
        inputs, plan = prepare(batch, preprocess, config, train=True)
        count_O = scored(inputs, plan, config.model).sum(1).float()
        loss, loss_O, _ = module(inputs, plan, count_O, 1.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.train.clip_grad)
        optimizer.step()
        losses = dict(zip(config.model.outputs, loss_O.tolist(), strict=True))
        records.append({"step": step + 1, "losses": losses, "scored": count_O.tolist()})
        keys.append(dict(zip(batch.row_B.tolist(), batch.key_B.tolist(), strict=True)))
    return Reference(config, initial, dict(module.model.state_dict()), records, keys)


def _batches(index: Index, config: Config) -> Any:
    order = TrainOrder(len(training_positions(index, config.data)), GLOBAL_BATCH, config.train.seed)
    return train_batches(
        index, config.model.domains, config.data, seed=config.train.seed, order=order,
        split=BatchSplit(GLOBAL_BATCH, 1, 1), rank=0, start_step=0, stop_step=STEPS, pin=False,
    )  # fmt: skip


def _train(shapes: list[Shape], shards: Path, folder: Path) -> None:
    for ranks in (1, 2):
        jobs = [shape.job(shards) for shape in shapes if shape.ranks == ranks]
        for done in run_jobs(jobs, ranks, folder).values():
            assert (done.status, done.error) == (0, ""), done.run


def test_the_reference_meets_gaps_in_the_data(reference: Reference) -> None:
    counts = torch.tensor([record["scored"] for record in reference.records])
    fewest = dict(zip(reference.config.model.outputs, counts.min(0).values.tolist(), strict=True))
    # Elevation is the one dataset without a no-data value.
    assert fewest.pop("depth") == GLOBAL_BATCH
    assert all(count < GLOBAL_BATCH for count in fewest.values())
    assert len(reference.records) == STEPS


@pytest.mark.timeout(5400)
@pytest.mark.parametrize(
    "shapes",
    [pytest.param(SPANNING, id="spanning"), pytest.param(EVERY, id="every", marks=pytest.mark.slow)],
)
def test_every_shape_learns_what_a_plain_loop_learns(
    shapes: list[Shape],
    reference: Reference,
    synthetic_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _train(shapes, synthetic_shards, tmp_path)
    rows, samples = [], samples_seen(tmp_path / shapes[0].name)
    for shape in shapes:
        run = tmp_path / shape.name
        weights, where = largest_difference(final_weights(run), reference.weights)
        losses = largest_loss_difference(train_records(run), reference.records)
        rows.append((shape, weights, where, losses, _prediction_difference(run, reference)))
        assert samples_seen(run) == samples, shape.name
    with capsys.disabled():
        print(_table(rows))
    assert [{row: key for row, (key, _) in samples[step].items()} for step in sorted(samples)] == reference.keys
    for shape, weights, where, losses, predictions in rows:
        assert weights <= FLOAT32_BOUND, (shape.name, where)
        assert losses <= FLOAT32_BOUND, shape.name
        assert predictions <= FLOAT32_BOUND, shape.name


@pytest.mark.slow
def test_muon_learns_what_it_learns_in_a_plain_loop(
    synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = _plain(synthetic_shards, "train.optimizer=muon")
    _train(MUON, synthetic_shards, tmp_path)
    rows = []
    for shape in MUON:
        weights, where = largest_difference(final_weights(tmp_path / shape.name), reference.weights)
        losses = largest_loss_difference(train_records(tmp_path / shape.name), reference.records)
        rows.append((shape, weights, where, losses, 0.0))
    with capsys.disabled():
        print(_table(rows))
    for shape, weights, where, losses, _ in rows:
        assert weights <= FLOAT32_BOUND, (shape.name, where)
        assert losses <= FLOAT32_BOUND, shape.name


@pytest.mark.slow
def test_bf16_stays_within_its_own_rounding(
    synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(BF16, synthetic_shards, tmp_path)
    expected = final_weights(tmp_path / BF16[0].name)
    rows = []
    for shape in BF16:
        run = tmp_path / shape.name
        weights, where = largest_difference(final_weights(run), expected)
        losses = largest_loss_difference(train_records(run), train_records(tmp_path / BF16[0].name))
        rows.append((shape, weights, where, losses, 0.0))
    with capsys.disabled():
        print(_table(rows))
    for shape, weights, where, losses, _ in rows:
        assert weights <= BF16_WEIGHT_BOUND, (shape.name, where)
        assert losses <= BF16_LOSS_BOUND, shape.name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_zero_3_starts_from_the_weights_of_zero_0(
    precision: str, reference: Reference, synthetic_shards: Path, tmp_path: Path
) -> None:
    # Started from a checkpoint-free run of one step at a rate of 0, whose weights are the initial ones.
    for ranks in (1, 2):
        jobs = [
            Job(
                f"{ds}-{ranks}", ds,
                (*RECIPE, f"data.shards={synthetic_shards}", "train.blr=0", "train.stop_at=1",
                 f"train.precision={precision}"),
            )
            for ds in ("zero0", "zero3")
        ]  # fmt: skip
        assert all(done.status == 0 for done in run_jobs(jobs, ranks, tmp_path).values())
        for ds in ("zero0", "zero3"):
            weights = final_weights(tmp_path / f"{ds}-{ranks}")
            rounded = {
                name: tensor.bfloat16().float() if precision == "bf16" else tensor
                for name, tensor in reference.initial.items()
            }
            assert [name for name in weights if not torch.equal(weights[name], rounded[name])] == []


def _prediction_difference(run: Path, reference: Reference) -> float:
    """max|a-b| / max|b| of the predictions for some validation tiles."""
    from mmae.engine.checkpoint.consolidate import load_trained

    config = reference.config
    index = open_index(config.data.locations[0])
    preprocess = Preprocess(config.data, config.model, index.band_stats, torch.device("cpu"))
    batch = next(read_batches(index, config.model.domains, index.positions("val")[:4], seed=0, epoch=VALIDATION_EPOCH))
    inputs, plan = prepare(batch, preprocess, config, train=False)
    plain = MultiMAE(config.model)
    plain.load_state_dict(reference.weights)
    with torch.no_grad():
        expected = plain.eval()(inputs.values, plan).patches
        seen = load_trained(str(run), None, trust=False).model(inputs.values, plan).patches
    return max(float((seen[name] - expected[name]).abs().max() / expected[name].abs().max()) for name in expected)


def _table(rows: list[tuple[Shape, float, str, float, float]]) -> str:
    lines = [f"\n{'shape':<44}{'weights':>10}{'losses':>10}{'predictions':>13}  worst tensor"]
    for shape, weights, where, losses, predictions in rows:
        lines.append(f"{shape.name:<44}{weights:>10.1e}{losses:>10.1e}{predictions:>13.1e}  {where}")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/usr/include/libaio.h").is_file(), reason="libaio-dev is not installed")
def test_nvme_offload_starts(synthetic_shards: Path, tmp_path: Path) -> None:
    """Builds DeepSpeed's async_io op on the first start, which takes minutes."""
    words = (*RECIPE, f"data.shards={synthetic_shards}", "train.precision=fp32", "train.stop_at=2")
    done = run_jobs([Job("run", "zero3_nvme", words)], 1, tmp_path)["run"]
    assert (done.status, done.error) == (0, "")
