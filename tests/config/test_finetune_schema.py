"""Recipes of fine-tunings: keys, contradictions, and what a resumed run may change."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from mmae.config.finetune_checks import FINETUNING
from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.packaged_files import find, packaged_names
from mmae.config.schema import Config, Resume, resume_policy, section_type
from mmae.errors import InputError
from mmae.run.folder import recipe_text
from tests.support.tuning_case import tuning_config

RECIPES = [name for name in packaged_names("mmae.recipes", ".yaml") if name.startswith("finetune_")]
GIVEN = ["model.init_from=M", "data.shards=S"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_packaged_recipe_is_valid_and_says_how_to_run_it(name: str) -> None:
    config = FINETUNING.load(name, GIVEN)
    head = find(name, "mmae.recipes", ".yaml", "recipe").read_text(encoding="utf-8").split("\nrun:")[0]
    assert config.run.dir == f"runs/{name}"
    assert config.task.kind == name.removeprefix("finetune_")
    assert f"mmae finetune --config {name} " in head
    for word in ("# command ", "# hardware ", "# outcome "):
        assert word in head


def test_there_is_a_recipe_for_each_kind_of_task() -> None:
    assert set(RECIPES) == {
        f"finetune_{kind}" for kind in ("classification", "multilabel", "segmentation", "regression")
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("train.lr=1", "unknown key 'train.lr'; did you mean 'train.blr'?"),
        ("tasks.kind=regression", "unknown key 'tasks.kind'; did you mean 'task.kind'?"),
        ("task.kind=detection", "task.kind='detection'"),
        ("train.max_steps=often", "train.max_steps"),
        ("model.init_from=", "model.init_from is not set"),
        ("task.target=", "task.target is not set"),
        ("task.labels=labels.csv", "needs one a pixel"),
        ("model.head=attention", "model.head=attention does not fit task.kind=segmentation: use patch_linear"),
        ("model.in_domains=[rgb,radar]", "unknown modality 'radar'"),
        ("model.in_domains=[rgb,rgb]", "names a modality twice"),
        ("model.in_domains=[]", "model.in_domains is empty"),
        ("model.size=huger", "unknown model.size='huger'; did you mean 'huge'?"),
        ("model.bands=[rgb:B4,rgb:B99]", "sentinel2 has no band 'B99'"),
        ("model.bands=[rgb:B4,rgb:B4]", "model.bands names a band of rgb twice"),
        ("model.bands=[semseg:class]", "model.bands: semseg holds classes"),
        ("model.bands=[B4]", "model.bands: unknown modality 'B4'"),
        ("train.mixup=0.4", "train.mixup mixes labels of tiles"),
        ("train.warmup_steps=1000", "longer than the whole schedule"),
        ("train.stop_at=1000", "lies behind train.max_steps"),
        ("data.test_split=val", "what chooses must not score"),
        ("data.val_split=train", "would choose by what was learned"),
        ("data.test_split=train", "would score what was learned"),
        ("data.workers=129", "too many loader processes"),
        ("data.prefetch=1025", "would not fit into memory"),
    ],
)
def test_a_contradiction_is_refused_with_what_to_write(word: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        FINETUNING.load("finetune_segmentation", [*GIVEN, word])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.val_fraction=0.5", "data.test_fraction=0.5"], "leave some for training"),
        (
            ["task.kind=regression", "task.target=elevation", "model.head=linear", "task.class_weights=balanced"],
            "has none",
        ),
        (
            ["task.kind=regression", "task.target=elevation", "model.head=linear", "task.label_smoothing=0.1"],
            "has none",
        ),
        (["task.kind=regression", "task.target=elevation", "model.head=linear", "train.cutmix=1"], "is not in a part"),
        (["task.kind=multilabel", "model.head=linear", "train.mixup=1", "train.cutmix=1"], "choose one"),
        (["finetune.seeds=3", "train.stop_at=3"], "stops a single training"),
        (["model.init_from=none"], "knows no inputs"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError) as refused:
        FINETUNING.load("finetune_segmentation", [*GIVEN, *words])
    assert said in str(refused.value)


def test_keys_that_mean_the_same_as_in_training_have_the_same_name() -> None:
    """What only one of the two commands has is listed here, so that a new key is a decision."""
    ours = {f"{section.name}.{key.name}" for section in fields(FinetuneConfig)
            for key in fields(section_type(section.name, FinetuneConfig))}  # fmt: skip
    theirs = set(resume_policy(Config))
    shared = {"run.dir", "data.shards", "data.fraction", "data.crop", "data.flip", "data.workers", "model.init_from",
              "model.in_domains", "model.input_size", "model.patch_size", "model.drop_path", "train.max_steps",
              "train.stop_at", "train.global_batch", "train.micro_batch", "train.seed", "train.blr", "train.min_lr",
              "train.warmup_steps", "train.weight_decay", "train.opt_betas", "train.clip_grad", "train.precision",
              "val.every", "checkpoint.every", "checkpoint.keep_last", "log.every", "log.wandb"}  # fmt: skip
    assert shared <= ours & theirs
    sections = {key.partition(".")[0] for key in ours}
    assert sections - {key.partition(".")[0] for key in theirs} == {"task", "finetune", "source"}


def test_a_runs_own_recipe_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    config = tuning_config(
        "model.blocks=[1]", "train.cutmix=0.5", "data.val_fraction=0.2", f"run.dir={tmp_path / 'run'}"
    )
    path = tmp_path / "config.yaml"
    path.write_text(recipe_text(config, FINETUNING))
    read = FINETUNING.build(FINETUNING.read(path), str(path))
    assert read.train == config.train
    assert read.model == config.model
    assert read.task == config.task
    assert read.data.shards == str(Path("S").absolute())


def test_what_decides_the_weights_cannot_change_on_resume() -> None:
    policy = resume_policy(FinetuneConfig)
    assert {policy[key] for key in ("train.seed", "task.kind", "model.init_from", "data.val_fraction")} == {
        Resume.FIXED
    }
    assert policy["train.max_steps"] is Resume.EXPLICIT
    assert {policy[key] for key in ("train.micro_batch", "data.workers", "train.stop_at")} == {Resume.FREE}
