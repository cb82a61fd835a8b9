"""Probes of an engine: features of its own weights, and failures that cost a score and nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from mmae.engine.module import PretrainModule
from mmae.errors import InputError
from mmae.evaluate.in_loop import probes as probes_module
from mmae.evaluate.in_loop.loop_tasks import Labelled
from mmae.evaluate.in_loop.probed_tiles import choose, read_share
from mmae.evaluate.in_loop.probes import InLoopProbes, in_loop_probes
from mmae.evaluate.in_loop.whole_encoder import whole_encoder
from mmae.model.features import features
from mmae.run.spec import RunSpec, make_run_spec
from mmae.variants import Variant
from tests.support.small_model import SMALL
from tests.support.tiny_sets import write_set

TASKS = "eval.tasks=[elevation,slope]"


class Engine:
    """As much of an engine as probes touch."""

    device = torch.device("cpu")

    def __init__(self, spec: RunSpec) -> None:
        self.module = PretrainModule(spec.config.model, Variant(16, 2, 2, 32), seed=3)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    write_set(tmp_path / "shards", {"train": range(40), "val": range(50, 62)})
    return spec_of(tmp_path / "shards", TASKS)


def spec_of(shards: Path, *overrides: str) -> RunSpec:
    words = [*SMALL, f"data.shards={shards}", f"run.dir={shards.parent / 'run'}", "data.check_units=false"]
    return make_run_spec("debug", "zero1", [*words, "eval.every=1", *overrides], 1)


def evaluated(probes: InLoopProbes, engine: Engine) -> Any:
    return probes.evaluate(cast(Any, engine))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_whole_encoder_is_the_engine_s_own(spec: RunSpec, dtype: torch.dtype) -> None:
    engine = Engine(spec)
    engine.module.to(dtype)
    encoder = whole_encoder(cast(Any, engine))
    assert not hasattr(encoder, "decoders")
    assert (encoder.training, engine.module.training) == (False, True)
    trained = dict(engine.module.model.named_parameters())
    for name, parameter in encoder.named_parameters():
        assert parameter.dtype == dtype
        assert parameter.data_ptr() == trained[name].data_ptr()
    (first, *_) = read_share(spec, choose(spec), [], 0, 1).inputs
    maps = [features(model, first.values).maps["rgb"] for model in (encoder, engine.module.model.eval())]
    assert torch.equal(*maps)


def test_scores_are_those_of_the_features_of_the_engine_s_weights(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, seen = Engine(spec), list[torch.Tensor]()
    score = Labelled.score
    monkeypatch.setattr(Labelled, "score", lambda self, vectors_SD: seen.append(vectors_SD) or score(self, vectors_SD))
    found = evaluated(in_loop_probes(spec), engine)
    assert (list(found.scores), found.failed) == (["elevation", "slope"], {})
    assert found.named == {f"eval.{task}": score for task, score in found.scores.items()}
    with torch.no_grad():
        batches = read_share(spec, choose(spec), [], 0, 1).inputs
        maps = [features(engine.module.model.eval(), each.values).maps["rgb"] for each in batches]
    expected_SD = torch.cat(maps).flatten(1, 2).mean(1)
    torch.testing.assert_close(seen[0], expected_SD)
    # Other weights have other scores, the same weights the same ones.
    assert evaluated(in_loop_probes(spec), engine) == found
    with torch.no_grad():
        engine.module.model.tokenizer.adapters["rgb"].proj.weight.mul_(-3)
    assert evaluated(in_loop_probes(spec), engine).scores != found.scores


def test_the_random_generators_stay_as_they_are(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(self: Labelled, vectors_SD: torch.Tensor) -> float:
        return torch.rand(()).item() + float(np.random.rand()) + random.random()

    monkeypatch.setattr(Labelled, "score", draws)
    probes, engine = in_loop_probes(spec), Engine(spec)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert evaluated(probes, engine).failed == {}
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_probe_that_fails_costs_its_own_score(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Labelled.score

    def once(self: Labelled, vectors_SD: torch.Tensor) -> float:
        monkeypatch.setattr(Labelled, "score", score)
        raise ZeroDivisionError("the fit\nbroke")

    probes, engine = in_loop_probes(spec), Engine(spec)
    monkeypatch.setattr(Labelled, "score", once)
    found = evaluated(probes, engine)
    assert (set(found.scores), found.failed) == ({"slope"}, {"elevation": "rank 0: the fit"})


def test_a_rank_without_memory_costs_all_scores_of_this_time(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    probes, engine = in_loop_probes(spec), Engine(spec)
    with monkeypatch.context() as patch:
        patch.setattr(probes_module, "_encoded", no_memory)
        found = evaluated(probes, engine)
    assert (found.scores, found.named) == ({}, {})
    assert found.failed == dict.fromkeys(("elevation", "slope"), "rank 0: no memory")
    assert evaluated(probes, engine).failed == {}


def test_weights_that_have_diverged_have_no_score(spec: RunSpec) -> None:
    engine = Engine(spec)
    with torch.no_grad():
        engine.module.model.encoder.blocks[0].mlp.fc1.weight.fill_(torch.nan)
    found = evaluated(in_loop_probes(spec), engine)
    assert found.scores == {}
    assert all("not finite" in reason for reason in found.failed.values())


def test_a_score_that_is_not_a_number_is_none(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labelled, "score", lambda *_: float("nan"))
    found = evaluated(in_loop_probes(spec), Engine(spec))
    assert (found.scores, found.named) == ({"elevation": None, "slope": None}, {})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["eval.tasks=[biom]"], "there is no task 'biom'; did you mean 'biome'?"),
        (["eval.tasks=[biome]"], "biome: all 40 labelled tiles of training are of one class"),
        (["eval.tasks=[canopy_height]"], "canopy_height: .* has no dataset 'canopy_height_eth': repack with it"),
        ([TASKS, "eval.tiles=30"], "elevation: only 18 of the 18 tiles of training have a label, .* needs 27"),
    ],
)
def test_probes_that_cannot_be_made_are_refused(spec: RunSpec, overrides: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        in_loop_probes(spec_of(Path(spec.config.data.locations[0]), *overrides))


def test_tiles_that_cannot_be_read_are_refused(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> None:
        raise OSError(5, "Input/output error", "train-000000.tar")

    monkeypatch.setattr(probes_module, "read_share", unreadable)
    with pytest.raises(InputError, match=r"the tiles of the probes cannot be read: rank 0: .*Input/output error"):
        in_loop_probes(spec)
