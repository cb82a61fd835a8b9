"""A run's folder: its files, its recipe, and what a resumed run may change.

config.yaml  ds_config.json  log.jsonl  checkpoints/global_stepN/  checkpoints/latest  pictures/  logs/  profile/
wandb/  tensorboard/
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from mmae.addresses import is_remote, map_locations, without_secrets
from mmae.config.config_values import assignment
from mmae.config.recipe_file import TRAINING, RecipeKind
from mmae.config.schema import Config, Flat, Resume, flatten, resume_policy, section_fields
from mmae.config.yaml_file import read_yaml
from mmae.disk.files import write_whole
from mmae.disk.json_text import parse_json
from mmae.disk.ownership import keep_from_others
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.run.layout import (
    ARCHIVE,
    BAND_STATS,
    CHECKPOINTS,
    CONFIG,
    DS_CONFIG,
    FOLLOWED,
    LOCK,
    LOG,
    LOGS,
    MODEL,
    PICTURES,
    PROFILE,
    check_run,
)

C = TypeVar("C")
_TUNED: Final = "task"
"""A section that recipes of fine-tunings have, and no others."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / CONFIG

    @property
    def ds_config_file(self) -> Path:
        return self.path / DS_CONFIG

    @property
    def band_stats_file(self) -> Path:
        return self.path / BAND_STATS

    @property
    def log_file(self) -> Path:
        return self.path / LOG

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def pictures(self) -> Path:
        return self.path / PICTURES

    @property
    def logs(self) -> Path:
        return self.path / LOGS

    @property
    def profiles(self) -> Path:
        return self.path / PROFILE

    def stored_config(self, trust: bool = False) -> Config | None:
        """`stored` of a run of `mmae train`."""
        return self.stored(TRAINING, trust)

    def stored(self, kind: RecipeKind[C], trust: bool = False) -> C | None:
        """The configuration of the run's last training; None if the folder holds no run yet.

        It does not contain the secrets of addresses: see `mmae.addresses`.

        Args:
            kind: of the run's recipe.
            trust: the run may be another user's, and name a command (`pipe:`).

        Raises:
            InputError: the folder holds something other than a run, or files that other users wrote or can write.
        """
        if self.config_file.is_file():
            check_run(self.path, trust)
            self._check_kind(kind)
            return kind.build(kind.read(self.config_file, trust), str(self.config_file))
        if self.path.exists() and (not self.path.is_dir() or any(map(_is_strange, self.path.iterdir()))):
            raise InputError(f"{self.path}: holds something, but no run (no {CONFIG}): choose another run.dir")
        return None

    def _check_kind(self, kind: RecipeKind[Any]) -> None:
        tree = read_yaml(self.config_file)
        tuned = isinstance(tree, dict) and any(str(key).partition(".")[0] == _TUNED for key in tree)
        wanted = any(section.name == _TUNED for section in section_fields(kind.root))
        if tuned and not wanted:
            raise InputError(
                f"{self.path}: holds a run of `mmae finetune`: where its model is meant, name {self.path / MODEL}; "
                "otherwise choose another folder"
            )
        if wanted and not tuned:
            raise InputError(f"{self.path}: holds a run of `mmae train`, not one of `mmae finetune`: choose another")

    def write_configs(self, config: Config, ds_config: dict[str, Any], band_stats: Any) -> None:
        """Write the resolved recipe, the merged DeepSpeed configuration and the statistics; each file whole or not."""
        self.write_recipe(recipe_text(config), band_stats)
        write_whole(self.ds_config_file, json.dumps(ds_config, indent=2) + "\n")

    def write_recipe(self, recipe: str, band_stats: Any) -> None:
        """Write the resolved recipe and the statistics; each file whole or not.

        With the statistics in the run's folder, a model can be exported on a machine without the shards.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        keep_from_others(self.path)
        write_whole(self.config_file, recipe)
        write_whole(self.band_stats_file, json.dumps(band_stats) + "\n")

    def stored_band_stats(self) -> dict[str, Any]:
        """The statistics that the run's tiles are normalised with.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            stats: dict[str, Any] = parse_json(read_regular_text(self.band_stats_file))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.band_stats_file}: cannot be read ({error}): copy it from the shards' index"
            ) from error
        return stats


def _is_strange(path: Path) -> bool:
    """Whether a file in a folder without a run shows that the folder is used for something else."""
    return not path.name.startswith((LOCK, ARCHIVE, FOLLOWED))


def open_run(path: str, trust: bool = False) -> RunFolder:
    """The folder of a run that has been trained.

    Args:
        trust: the run may belong to another user.

    Raises:
        InputError: there is no run, or other users wrote it or can write it.
    """
    folder = RunFolder(Path(path))
    check_run(folder.path, trust)
    if not folder.config_file.is_file():
        raise InputError(f"{path}: no run lives here (no {CONFIG}): give the run.dir of a training")
    return folder


def changes_on_resume(
    old: C, new: C, said: Flat, folder: RunFolder, leaves: bool = False
) -> dict[str, tuple[Any, Any]]:
    """Old and new of each value that a resumed run changes, without the values that do not affect learning.

    Args:
        old, new: configurations of one kind.
        said: the overrides of the command line, by dotted key.
        leaves: the start goes on in `folder` with a checkpoint of another run.

    Raises:
        InputError: a value that must not change differs, or one differs that the command line must set and does not.
    """
    before, after = flatten(old), flatten(new)
    changed: dict[str, tuple[Any, Any]] = {}
    for key, policy in resume_policy(type(new)).items():
        if before.get(key) == after[key] or policy is Resume.FREE:
            continue
        where = f"{folder.path}: {key} is {before.get(key)!r} in this run, and {after[key]!r} now"
        if policy is Resume.FIXED:
            raise InputError(f"{where}: it cannot change on resume; choose another run.dir, or put the value back")
        if policy is Resume.NEW_RUN and not leaves:
            raise InputError(
                f"{where}: it can change in a run of its own only; add --resume CHECKPOINT and a new run.dir, or put "
                "the value back"
            )
        if key not in said:
            raise InputError(
                f"{where}: to go on with the new value, add {assignment(key, after[key])} to the command line"
            )
        changed[key] = (before.get(key), after[key])
    return changed


def recipe_text(config: Any, kind: RecipeKind[Any] = TRAINING) -> str:
    """The run's own recipe as YAML of dotted keys. Paths are absolute, for commands typed in other folders."""
    flat = without_passwords(config)
    for key in kind.path_keys():
        said = flat[key]
        flat[key] = [_absolute(place) for place in said] if isinstance(said, list) else _absolute(said)
    return yaml.safe_dump(flat, sort_keys=False)


def _absolute(place: str | None) -> str | None:
    return os.path.abspath(place) if place and not is_remote(place) else place


def without_passwords(config: Any) -> Flat:
    """`flatten(config)` without the secrets of addresses, to be stored and shown."""
    flat = flatten(config)
    flat["data.shards"] = map_locations(flat["data.shards"], without_secrets)
    return flat
