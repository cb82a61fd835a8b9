"""`mmae branch RUN --at STEP --decay N --run NEW`: a cool-down from a checkpoint of a run, as a run of its own.

The branch reads the tiles that the run would have read next, in the same order. The run itself is only read.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.config.schema import Config
    from mmae.run.folder import RunFolder

_OF_A_WORLD: Final = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"
)  # fmt: skip
"""Keys of a run's ds_config.json that follow from its recipe and its number of ranks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trunk", metavar="RUN", help="the run's folder; nothing in it changes")
    parser.add_argument("--at", type=int, required=True, metavar="STEP", help="checkpoint to go on from")
    parser.add_argument("--decay", type=int, required=True, metavar="N", help="steps in which the learning rate falls")
    parser.add_argument("--run", required=True, metavar="NEW", help="folder of the branch (its run.dir)")
    parser.add_argument("--shape", choices=("linear", "1-sqrt"), help="shape of the fall (default: train.decay_shape)")
    parser.add_argument("--deepspeed_config", metavar="JSON", help="packaged name or file (default: the run's own)")
    parser.add_argument("--prepare", action="store_true", help="write NEW, print the command to start it, and stop")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a key that a resume may")
    add_trust_argument(parser, "a run")


def run(args: argparse.Namespace) -> int:
    """Exit statuses are those of `mmae train`."""
    from mmae.config.deepspeed_schema import DeepSpeedJson
    from mmae.config.recipe_file import parse_overrides
    from mmae.disk.ownership import check_tree
    from mmae.run.folder import RunFolder, open_run
    from mmae.run.spec import engine_settings, tiles_of

    said = parse_overrides(args.overrides)
    trunk, new = open_run(args.trunk, args.trust), RunFolder(Path(args.run).absolute())
    config = trunk.stored_config(args.trust)
    assert config is not None
    if trunk.path.resolve() in new.path.resolve().parents:
        raise InputError(
            f"--run {args.run}: lies within the run {args.trunk}, in which nothing may change: choose another"
        )
    checkpoint = _checkpoint(trunk, args.at)
    # A copy belongs to this user, and so nothing would check again whose the files were.
    check_tree(checkpoint, args.trust)
    branch = branch_config(config, new, args.at, args.decay, args.shape, said)
    ds_config = _ds_config(trunk, args.deepspeed_config)
    engine_settings(branch, trunk.ds_config_file, DeepSpeedJson.model_validate(ds_config), world=1)
    if not args.prepare:
        tiles_of(branch)
    write_branch(new, checkpoint, branch, ds_config)
    words = [f"--config={new.config_file}", f"--deepspeed_config={new.ds_config_file}", *args.overrides]
    words += ["--trust"] if args.trust else []
    if args.prepare:
        from mmae.addresses import hide_in_words

        print(shlex.join(["bash", "launchers/single_node.sh", *hide_in_words(words)]))
        return 0
    return _train(words)


def branch_config(
    trunk: Config, new: RunFolder, step: int, decay: int, shape: str | None, said: dict[str, Any]
) -> Config:
    """The recipe of a cool-down over `decay` steps from a checkpoint of `trunk`.

    Args:
        said: overrides of the command line.

    Raises:
        InputError: nothing can cool down there, or an override is not allowed.
    """
    from mmae.config.recipe_file import build_config
    from mmae.config.schema import flatten
    from mmae.engine.optim import cooled_down
    from mmae.model.counts.named_parts import check_parts
    from mmae.run.folder import changes_on_resume

    if decay < 1:
        raise InputError(f"--decay {decay}: the learning rate falls over at least 1 step")
    for key in ("run.dir", "train.max_steps", "train.schedule", "train.decay_share", "train.decay_shape"):
        if key in said:
            raise InputError(f"command line: {key} follows from --run, --at, --decay and --shape: leave it out")
    try:
        train = cooled_down(trunk.train, step, decay)
    except ValueError as error:
        raise InputError(f"--at {step}: {error}: choose another checkpoint") from None
    before, after = flatten(trunk), flatten(replace(trunk, train=train))
    decided = {key: value for key, value in after.items() if value != before[key]}
    decided |= {"run.dir": str(new.path)} | ({} if shape is None else {"train.decay_shape": shape})
    config = build_config(before | decided | said, "the branch", said)
    check_parts(config)
    changes_on_resume(trunk, config, decided | said, new, leaves=True)
    return config


def write_branch(new: RunFolder, checkpoint: Path, config: Config, ds_config: dict[str, Any]) -> None:
    """Write a run's folder, whole or not at all, that begins with a copy of another run's checkpoint.

    Files of the same disk are shared (hard links): the copy takes no room, and stays when the other is removed.

    Raises:
        InputError: the folder holds something, or cannot be written; or the checkpoint is damaged.
    """
    from mmae.disk.files import atomic_folder, check_new_folder, write_whole, writing
    from mmae.engine.checkpoint.integrity import look_at, problem_of
    from mmae.run.folder import RunFolder, recipe_text
    from mmae.run.layout import BAND_STATS, CHECKPOINTS, LATEST
    from mmae.run.parent import note_parent

    check_new_folder(new.path)
    with writing(new.path, "choose another folder, or start again"):
        # What is damaged would be found only in the copy, as the one checkpoint of a run that cannot begin.
        problem = problem_of(checkpoint) if config.checkpoint.verify_hashes else look_at(checkpoint)
        if isinstance(problem, str):
            raise InputError(f"{checkpoint}: damaged: {problem}: choose another checkpoint")
        new.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(new.path) as partial:
            copied = partial / CHECKPOINTS / checkpoint.name
            shutil.copytree(checkpoint, copied, copy_function=_share)
            write_whole(copied.parent / LATEST, checkpoint.name)
            folder = RunFolder(partial)
            shutil.copy2(checkpoint / BAND_STATS, folder.band_stats_file)
            write_whole(folder.config_file, recipe_text(config))
            write_whole(folder.ds_config_file, json.dumps(ds_config, indent=2) + "\n")
            note_parent(partial, checkpoint)


def _share(source: str, target: str) -> str:
    # Another user's file would stay theirs.
    with suppress(OSError):
        if os.stat(source).st_uid == os.getuid():
            os.link(os.path.realpath(source), target)
            return target
    return str(shutil.copy2(source, target))


def _checkpoint(trunk: RunFolder, step: int) -> Path:
    from mmae.run.layout import checkpoint_names, name_of

    checkpoint = trunk.checkpoints / name_of(step)
    if not checkpoint.is_dir():
        raise InputError(
            f"--at {step}: {trunk.path} has no such checkpoint (there are: {checkpoint_names(trunk.checkpoints)})"
        )
    return checkpoint


def _ds_config(trunk: RunFolder, named: str | None) -> dict[str, Any]:
    """DeepSpeed's configuration for any number of ranks."""
    from mmae.config.deepspeed import load_deepspeed_json

    path, _ = load_deepspeed_json(str(trunk.ds_config_file) if named is None else named)
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree if named is not None else {key: value for key, value in tree.items() if key not in _OF_A_WORLD}


def _train(words: list[str]) -> int:
    from mmae import train
    from mmae.terminal.edge import Parser, parse

    parser = Parser(prog="mmae train")
    train.add_arguments(parser)
    return train.run(parse(parser, words))
