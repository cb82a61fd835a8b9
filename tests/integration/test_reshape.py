"""Stopped and resumed: the same shape bit for bit, another world size, ZeRO stage or precision within rounding."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mmae.terminal.plurals import counted
from tests.support.commands import SMALL
from tests.support.compare import (
    final_weights,
    largest_difference,
    largest_loss_difference,
    samples_seen,
    train_records,
)
from tests.support.group import Job, run_jobs
from tests.support.smooth_losses import SMOOTH

STOP, END = 5, 15
RECIPE = (
    *SMALL, "train.global_batch=16", f"train.max_steps={END}", "train.blr=1.6e-2", "data.workers=0", "log.every=1",
    "log.samples=true", "checkpoint.every=1000", "val.every=0", "model.task_balancer=uncertainty",
)  # fmt: skip
LOSS_BOUND = 1e-4
WEIGHT_BOUND = 1e-4


@dataclass(frozen=True)
class Shape:
    """Where a training runs."""

    stage: int
    ranks: int
    precision: str = "fp32"
    optimizer: str = "adamw"

    @property
    def name(self) -> str:
        return f"zero{self.stage}-{self.ranks}r-{self.precision}-{self.optimizer}"

    def job(self, run: str, shards: Path, *overrides: str, copy_of: str | None = None) -> Job:
        words = (*RECIPE, f"data.shards={shards}", f"train.precision={self.precision}")
        words = (*words, f"train.optimizer={self.optimizer}", *overrides)
        return Job(run, f"zero{self.stage}", words, copy_of, around=SMOOTH)


def train(jobs: dict[str, tuple[Shape, Job]], folder: Path) -> None:
    """Run jobs, those of one number of ranks in one process group."""
    for ranks in (1, 2):
        chosen = [job for shape, job in jobs.values() if shape.ranks == ranks]
        for done in run_jobs(chosen, ranks, folder).values():
            assert (done.status, done.error) == (0, ""), done.run


EVERY = [Shape(stage, ranks) for stage in range(4) for ranks in (1, 2)]
EVERY_BF16 = [Shape(stage, ranks, "bf16") for stage in range(4) for ranks in (1, 2)]
SAME_SPANNING = [Shape(0, 2), Shape(3, 2), Shape(0, 1, "bf16"), Shape(2, 2, "bf16"), Shape(3, 2, "bf16")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param(SAME_SPANNING, id="spanning"),
        pytest.param(
            [Shape(1, 2, "fp32", "muon"), Shape(2, 2, "bf16", "muon"), Shape(0, 1, "bf16", "muon")], id="muon"
        ),
        pytest.param([*EVERY, *EVERY_BF16], id="every", marks=pytest.mark.slow),
    ],
)
def test_the_same_shape_goes_on_bit_for_bit(shapes: list[Shape], synthetic_shards: Path, tmp_path: Path) -> None:
    """15 steps against 5 and 10; an epoch has 2 steps, so that 5 lies within one."""
    first = {s.name: (s, s.job(f"whole-{s.name}", synthetic_shards)) for s in shapes}
    half = {s.name: (s, s.job(f"halves-{s.name}", synthetic_shards, f"train.stop_at={STOP}")) for s in shapes}
    rest = {s.name: (s, s.job(f"halves-{s.name}", synthetic_shards)) for s in shapes}
    for jobs in (first, half, rest):
        train(jobs, tmp_path)
    for shape in shapes:
        whole, halves = tmp_path / f"whole-{shape.name}", tmp_path / f"halves-{shape.name}"
        expected, seen = final_weights(whole), final_weights(halves)
        assert [name for name in expected if not torch.equal(expected[name], seen[name])] == [], shape.name
        losses = [[record["losses"] for record in train_records(run)] for run in (whole, halves)]
        assert losses[0] == losses[1], shape.name
        assert samples_seen(whole) == samples_seen(halves), shape.name


PAIRS = list(itertools.product(EVERY, EVERY))
PAIRS_SPANNING = [
    (Shape(0, 1), Shape(2, 2)),
    (Shape(1, 1), Shape(3, 2)),
    (Shape(2, 2), Shape(1, 1)),
    (Shape(3, 2), Shape(0, 2)),
]
"""Each stage as a source and as a target, and each change of the number of ranks."""
MUON = [
    (Shape(one, ranks, "fp32", "muon"), Shape(other, 3 - ranks, "fp32", "muon"))
    for one, ranks, other in ((0, 1, 2), (2, 2, 1), (1, 2, 0))
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(PAIRS_SPANNING, id="spanning"),
        pytest.param(PAIRS, id="every", marks=pytest.mark.slow),
        pytest.param(MUON, id="muon", marks=pytest.mark.slow),
    ],
)
def test_any_shape_goes_on_in_any_other(
    pairs: list[tuple[Shape, Shape]], synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = Shape(1, 2, "fp32", pairs[0][0].optimizer)
    train({"whole": (reference, reference.job("whole", synthetic_shards))}, tmp_path)
    sources = dict.fromkeys(source for source, _ in pairs)
    train({s.name: (s, s.job(f"from-{s.name}", synthetic_shards, f"train.stop_at={STOP}")) for s in sources}, tmp_path)
    resumed = {(source, target): f"{source.name}-to-{target.name}" for source, target in pairs}
    train(
        {
            name: (target, target.job(name, synthetic_shards, copy_of=f"from-{source.name}"))
            for (source, target), name in resumed.items()
        },
        tmp_path,
    )
    expected_weights, expected = final_weights(tmp_path / "whole"), train_records(tmp_path / "whole")
    expected_samples = samples_seen(tmp_path / "whole")
    rows = []
    for (source, target), name in resumed.items():
        run = tmp_path / name
        losses = largest_loss_difference(train_records(run), expected)
        weights, where = largest_difference(final_weights(run), expected_weights)
        rows.append((source, target, losses, weights, where))
        assert samples_seen(run) == expected_samples, name
        assert _converted(run) == ("" if source == target else _words(source, target)), name
        assert [record["lr"] for record in train_records(run)] == [record["lr"] for record in expected], name
    with capsys.disabled():
        print(_table(rows))
    for source, target, losses, weights, where in rows:
        assert losses <= LOSS_BOUND, (source.name, target.name)
        assert weights <= WEIGHT_BOUND, (source.name, target.name, where)


@pytest.mark.slow
def test_steps_that_were_skipped_do_not_count_in_another_shape(synthetic_shards: Path, tmp_path: Path) -> None:
    """AdamW corrects its moments by the number of updates, which early in a training is much."""
    source, targets = Shape(1, 2), (Shape(0, 2), Shape(2, 2))
    words = ["train.skip_grad_norm=1000", "train.warmup_steps=0"]
    train({"first": (source, source.job("first", synthetic_shards, *words, "train.stop_at=3"))}, tmp_path)
    # The first step's gradient alone is left out.
    norms = [record["grad_norm"] for record in train_records(tmp_path / "first")]
    words = [f"train.skip_grad_norm={norms[0] * 0.999!r}", *words[1:]]
    train(
        {
            "whole": (source, source.job("whole", synthetic_shards, *words, "train.stop_at=6")),
            "half": (source, source.job("half", synthetic_shards, *words, "train.stop_at=3")),
        },
        tmp_path,
    )
    left_out = [record["skipped"] for record in train_records(tmp_path / "half")]
    assert left_out[0] is True
    assert False in left_out
    jobs = {
        each.name: (each, each.job(each.name, synthetic_shards, *words, "train.stop_at=6", copy_of="half"))
        for each in targets
    }
    train(jobs, tmp_path)
    for name in jobs:
        assert largest_difference(final_weights(tmp_path / name), final_weights(tmp_path / "whole"))[0] < WEIGHT_BOUND


@pytest.mark.slow
def test_another_precision_goes_on(synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The master weights and moments are carried over; what differs is the rounding of the steps that follow."""
    to_float, to_half = (Shape(1, 2, "bf16"), Shape(2, 2, "fp32")), (Shape(0, 2, "fp32"), Shape(3, 2, "bf16"))
    for source, target in (to_float, to_half):
        train(
            {
                "whole": (source, source.job(f"whole-{source.name}", synthetic_shards)),
                "half": (source, source.job(f"from-{source.name}", synthetic_shards, f"train.stop_at={STOP}")),
            },
            tmp_path,
        )
        name = f"{source.name}-to-{target.name}"
        train({name: (target, target.job(name, synthetic_shards, copy_of=f"from-{source.name}"))}, tmp_path)
        losses = largest_loss_difference(
            train_records(tmp_path / name), train_records(tmp_path / f"whole-{source.name}")
        )
        with capsys.disabled():
            print(f"\n{name}: largest relative loss difference {losses:.1e}")
        assert losses < 0.1


def test_nothing_a_checkpoint_cannot_carry_is_in_the_model() -> None:
    """Conversion writes back parameters: a persistent buffer or a frozen parameter would be lost in silence."""
    from mmae.config.recipe_file import load_config
    from mmae.engine.module import PretrainModule

    for recipe in ("debug", "vit_l", "paper"):
        with torch.device("meta"):
            module = PretrainModule(load_config(recipe, ["model.task_balancer=uncertainty"]).model)
        parameters = dict(module.named_parameters())
        assert module.state_dict().keys() == parameters.keys()
        assert all(parameter.requires_grad for parameter in parameters.values())


def _converted(run: Path) -> str:
    """What the last start of a run said it converted."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    said: str = [record["converted"] for record in records if record["kind"] == "resume"][-1]
    return said


def _words(source: Shape, target: Shape) -> str:
    pairs = (
        (counted(source.ranks, "rank"), counted(target.ranks, "rank")),
        (f"ZeRO-{source.stage}", f"ZeRO-{target.stage}"),
        (source.precision, target.precision),
    )
    return ", ".join(f"{there} -> {here}" for there, here in pairs if there != here)


def _table(rows: list[tuple[Shape, Shape, float, float, str]]) -> str:
    lines = [f"\n{'from':<24}{'to':<24}{'losses':>10}{'weights':>10}  worst tensor"]
    for source, target, losses, weights, where in rows:
        lines.append(f"{source.name:<24}{target.name:<24}{losses:>10.1e}{weights:>10.1e}  {where}")
    return "\n".join(lines)
