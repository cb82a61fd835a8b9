"""Trainings of which parts are frozen, or learn at another rate, at every ZeRO stage, with resumes of every shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmae.config.schema import Config
from mmae.engine.checkpoint.consolidate import load_trained
from mmae.engine.checkpoint.contents.frozen_state import FROZEN_TENSORS
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import load_pretrained
from mmae.run.folder import RunFolder
from tests.support.commands import SMALL, Command
from tests.support.compare import checkpoint_tensors, final_weights, largest_difference, train_records
from tests.support.group import Job, run_jobs
from tests.support.smooth_losses import SMOOTH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

END = 4
RECIPE = (
    *SMALL, "train.global_batch=16", f"train.max_steps={END}", "data.workers=0", "log.every=1", "checkpoint.every=100",
    "train.precision=fp32", "model.drop_path=0", "log.pictures=0", "train.blr=1e-2", "train.warmup_steps=0",
)  # fmt: skip
ENCODER, INPUTS, DECODERS = "train.frozen=[encoder]", "train.frozen=[tokenizer,encoder]", "train.frozen=[decoders]"
SLOWED = "train.lr_multipliers={encoder:0.1,encoder.blocks.0:3,*.bias:2}"
HALF = "train.stop_at=2"
FIRST = "train.frozen=[tokenizer,encoder.global_tokens,encoder.blocks.0]"
MIXED = (
    "train.schedule=wsd", "train.decay_share=0.5", "train.ema=32", "model.parametrisation=mup",
    "train.frozen=[encoder.blocks.0,tokenizer.adapters.rgb]", "train.lr_multipliers={encoder:0.3,decoders.out_proj:2}",
    "model.task_balancer=uncertainty", "train.micro_batch=4", "train.warmup_steps=1",
)  # fmt: skip


def job(run: str, shards: Path, *overrides: str, stage: int | str = 1, **more: Any) -> Job:
    return Job(run, f"zero{stage}", (*RECIPE, f"data.shards={shards}", *overrides), around=SMOOTH, **more)


@pytest.fixture(scope="module")
def runs(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, shards, stages = tmp_path_factory.mktemp("runs"), synthetic_shards, range(4)
    two = [job(f"frozen{stage}", shards, ENCODER, stage=stage) for stage in stages]
    two += [job(f"half{stage}", shards, ENCODER, HALF, stage=stage) for stage in stages]
    two += [job(f"halves{stage}", shards, ENCODER, stage=stage, copy_of=f"half{stage}") for stage in stages]
    two += [job(f"{was}to{now}", shards, ENCODER, stage=now, copy_of=f"half{was}") for was, now in ((0, 3), (2, 0))]
    two += [
        job("inputs3", shards, INPUTS, "train.activation_checkpointing=full", "train.micro_batch=4", stage=3),
        job("inputs1", shards, INPUTS),
        job("decoders2", shards, DECODERS, "train.micro_batch=4", "train.activation_checkpointing=selective", stage=2),
        job("decoders1", shards, DECODERS),
        job("wide", shards, ENCODER, "model.parametrisation=mup", "train.ema=64", stage=3),
        job("bf16", shards, ENCODER, "train.precision=bf16", "train.ema=64", stage=3),
    ]
    two += [job(f"slowed{stage}", shards, SLOWED, "model.parametrisation=mup", stage=stage) for stage in stages]
    two += [job(f"slow-half{stage}", shards, SLOWED, HALF, stage=stage) for stage in (0, 2, 3)]
    two += [
        job(f"other{stage}", shards, "train.lr_multipliers={encoder:0.5}", stage=stage, copy_of=f"slow-half{stage}")
        for stage in (0, 2, 3)
    ]
    two += [
        job("first3", shards, FIRST, stage=3),
        job("first1", shards, FIRST),
        job("offloaded2", shards, ENCODER, stage="2_offload"),
        job("offloaded3", shards, ENCODER, stage="3_offload"),
        *(job(f"mixed{stage}", shards, *MIXED, stage=stage) for stage in (0, 2, 3)),
        job("mixed-half2", shards, *MIXED, HALF, stage=2),
        job("mixed-halves2", shards, *MIXED, stage=2, copy_of="mixed-half2"),
        job("mixed-2to3", shards, *MIXED, stage=3, copy_of="mixed-half2"),
    ]
    two += [job("thawed", shards, DECODERS, copy_of="half1")]
    one = [
        job("alone", shards, ENCODER, "train.micro_batch=4"),
        job("not-direct", shards, ENCODER, "train.micro_batch=4", "train.direct_gradients=false"),
        job("3to1", shards, ENCODER, copy_of="half3"),
        job("1to3", shards, ENCODER, stage=3, copy_of="half1"),
        job("halved", shards, "train.lr_multipliers={tokenizer:0.5,encoder:0.5,decoders:0.5}"),
        job("half-rate", shards, "train.blr=5e-3"),
    ]
    for ranks, jobs in ((2, two), (1, one)):
        for done in run_jobs(jobs, ranks, folder).values():
            refused = 2 if done.run == "thawed" else 0
            assert done.status == refused, (done.run, done.error)
            assert ("it cannot change on resume" in done.error) == bool(refused)
    return folder


def config(run: Path) -> Config:
    found = RunFolder(run).stored_config()
    assert found is not None
    return found


def begun(run: Path) -> dict[str, Tensor]:
    of = config(run)
    return MultiMAE(of.model, seed=of.train.seed).state_dict()


def train_average(run: Path) -> dict[str, Tensor]:
    return load_trained(str(run), None, trust=False, averaged=True).model.state_dict()


@pytest.mark.parametrize(
    ("run", "frozen"),
    [
        *((f"frozen{stage}", ("encoder",)) for stage in range(4)),
        ("inputs1", ("tokenizer", "encoder")),
        ("inputs3", ("tokenizer", "encoder")),
        ("decoders2", ("decoders",)),
        ("alone", ("encoder",)),
        ("wide", ("encoder",)),
        ("first3", ("tokenizer", "encoder.global_tokens", "encoder.blocks.0")),
        ("offloaded2", ("encoder",)),
        ("offloaded3", ("encoder",)),
        *((f"mixed{stage}", ("encoder.blocks.0", "tokenizer.adapters.rgb")) for stage in (0, 2, 3)),
    ],
)
def test_frozen_parts_stay_bit_for_bit_and_all_others_learn(runs: Path, run: str, frozen: tuple[str, ...]) -> None:
    before, after = begun(runs / run), final_weights(runs / run)
    after.pop("log_vars", None)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(frozen)}


@pytest.mark.parametrize("stage", range(4))
def test_the_optimiser_holds_no_number_of_a_frozen_part(runs: Path, stage: int) -> None:
    checkpoint = runs / f"frozen{stage}" / "checkpoints" / f"global_step{END}"
    kept = load_file(checkpoint / FROZEN_TENSORS)
    assert {name.split(".")[1] for name in kept} == {"encoder"}
    learned = sum(each.numel() for name, each in begun(runs / "frozen1").items() if not name.startswith("encoder."))
    moments = [each for name, each in checkpoint_tensors(checkpoint).items() if name.endswith("exp_avg_sq")]
    numbers = sum(each.numel() for each in moments)
    # Parts of ranks are padded.
    assert learned <= numbers < learned + 8 * len(kept) + 600


@pytest.mark.parametrize("pair", [*((f"frozen{at}", f"halves{at}") for at in range(4)), ("mixed2", "mixed-halves2")])
def test_a_resumed_training_is_the_same_bit_for_bit(runs: Path, pair: tuple[str, str]) -> None:
    whole, halves = (final_weights(runs / run) for run in pair)
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []


@pytest.mark.parametrize(
    ("run", "as_run"),
    [
        *((f"frozen{stage}", "frozen1") for stage in (0, 2, 3)),
        *((run, "frozen1") for run in ("0to3", "2to0", "3to1", "1to3", "alone", "not-direct")),
        ("inputs3", "inputs1"),
        ("decoders2", "decoders1"),
        ("first3", "first1"),
        ("offloaded2", "frozen1"),
        ("offloaded3", "frozen1"),
        *((run, "mixed0") for run in ("mixed2", "mixed3", "mixed-2to3")),
        *((f"slowed{stage}", "slowed1") for stage in (0, 2, 3)),
        *((f"other{stage}", "other0") for stage in (2, 3)),
    ],
)
def test_every_shape_learns_the_same(runs: Path, run: str, as_run: str) -> None:
    assert largest_difference(final_weights(runs / run), final_weights(runs / as_run))[0] < 1e-4


def test_a_factor_on_all_parts_is_another_learning_rate(runs: Path) -> None:
    slowed, expected = final_weights(runs / "halved"), final_weights(runs / "half-rate")
    assert [name for name in slowed if not torch.equal(slowed[name], expected[name])] == []
    rates = train_records(runs / "halved")[2]
    assert rates["lrs"]["encoder"] == train_records(runs / "half-rate")[2]["lr"] == rates["lr"] / 2


def test_another_factor_on_resume_is_said(runs: Path) -> None:
    lines = [json.loads(text) for text in (runs / "other2" / "log.jsonl").read_text().splitlines()]
    resumed = next(line for line in lines if line["kind"] == "resume")
    assert resumed["converted"] == "groups of learning rates"
    assert resumed["changes"]["train.lr_multipliers"][1] == {"encoder": 0.5}


@pytest.mark.parametrize("run", ["mixed2", "mixed3", "mixed-halves2"])
def test_all_at_once_average_the_same_in_every_shape(runs: Path, run: str) -> None:
    seen, expected = (train_average(runs / name) for name in (run, "mixed0"))
    assert largest_difference(seen, expected)[0] < 1e-4
    rates = [record["lr"] for record in train_records(runs / run)]
    # One step of warm-up, then the peak, and a fall over the last two.
    assert rates[0] == 0 < rates[3] < rates[2] == rates[1]


@pytest.mark.parametrize("run", ["wide", "bf16"])
def test_an_export_of_averaged_weights_holds_the_frozen_ones(runs: Path, run: str, here: Command) -> None:
    assert here("export", run, f"{run}-model", "--ema", cwd=runs).status == 0
    _, model = load_pretrained(runs / f"{run}-model")
    exported, before = model.state_dict(), begun(runs / run)
    for name in before:
        if name.startswith("encoder."):
            rounded = before[name].to(torch.bfloat16).float() if run == "bf16" else before[name]
            assert torch.equal(exported[name], rounded)
        else:
            assert not torch.equal(exported[name], before[name])
