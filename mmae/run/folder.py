"""A run's folder: what lies where, and who may write to it.

config.yaml  ds_config.json  log.jsonl  checkpoints/global_stepN/  checkpoints/latest  pictures/  logs/  profile/
wandb/  tensorboard/
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmae.addresses import is_remote, map_locations, without_secrets
from mmae.config.config_values import assignment
from mmae.config.recipe_file import build_config, path_keys, read_recipe
from mmae.config.schema import Config, Flat, Resume, flatten, resume_policy
from mmae.disk.files import write_whole
from mmae.disk.json_text import parse_json
from mmae.disk.ownership import check_run, keep_from_others
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
    PICTURES,
    PROFILE,
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

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
        """The configuration the run was last trained with; None where no run lives here yet.

        Secrets of addresses are not in it: see `mmae.addresses`.

        Args:
            trust: the run may be another user's, and name a command (`pipe:`).

        Raises:
            InputError: the folder holds something else than a run, or files that others wrote or can write.
        """
        if self.config_file.is_file():
            check_run(self.path, trust)
            return build_config(read_recipe(self.config_file, trust), str(self.config_file))
        if self.path.exists() and (not self.path.is_dir() or any(map(_is_strange, self.path.iterdir()))):
            raise InputError(f"{self.path}: holds something, but no run (no config.yaml): choose another run.dir")
        return None

    def write_configs(self, config: Config, ds_config: dict[str, Any], band_stats: Any) -> None:
        """The resolved recipe, the merged DeepSpeed configuration, and the normalisation; each file whole or absent.

        With the statistics in the run folder a model can be exported where the shards are not.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        keep_from_others(self.path)
        write_whole(self.config_file, recipe_text(config))
        write_whole(self.ds_config_file, json.dumps(ds_config, indent=2) + "\n")
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
    """Whether something in a folder without a run says that the folder is not for runs."""
    return not path.name.startswith((LOCK, ARCHIVE, FOLLOWED))


def open_run(path: str, trust: bool = False) -> RunFolder:
    """The folder of a run that has been trained.

    Args:
        trust: it may be another user's.

    Raises:
        InputError: there is none, or others wrote it or can write it.
    """
    folder = RunFolder(Path(path))
    check_run(folder.path, trust)
    if not folder.config_file.is_file():
        raise InputError(f"{path}: no run lives here (no config.yaml): give the run.dir of a training")
    return folder


def changes_on_resume(old: Config, new: Config, said: Flat, folder: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Values that a resumed run changes, old and new; those that change nothing that is learned are left out.

    Args:
        said: what the command line says, by dotted key.

    Raises:
        InputError: a value that defines the run differs, or one that must be said on the command line was not.
    """
    before, after = flatten(old), flatten(new)
    changed: dict[str, tuple[Any, Any]] = {}
    for key, policy in resume_policy().items():
        if before.get(key) == after[key] or policy is Resume.FREE:
            continue
        where = f"{folder.path}: {key} is {before.get(key)!r} in this run, and {after[key]!r} now"
        if policy is Resume.FIXED:
            raise InputError(f"{where}: it cannot change on resume; choose another run.dir, or put the value back")
        if key not in said:
            raise InputError(
                f"{where}: to go on with the new value say {assignment(key, after[key])} on the command line"
            )
        changed[key] = (before.get(key), after[key])
    return changed


def recipe_text(config: Config) -> str:
    """The run's own recipe, YAML of dotted keys. Its places are absolute: later commands are typed in other folders."""
    flat = without_passwords(config)
    for key in path_keys():
        said = flat[key]
        flat[key] = [_absolute(place) for place in said] if isinstance(said, list) else _absolute(said)
    return yaml.safe_dump(flat, sort_keys=False)


def _absolute(place: str | None) -> str | None:
    return os.path.abspath(place) if place and not is_remote(place) else place


def without_passwords(config: Config) -> Flat:
    """`flatten(config)` as it may be written down and sent to others: without the secrets of addresses."""
    flat = flatten(config)
    flat["data.shards"] = map_locations(flat["data.shards"], without_secrets)
    return flat
