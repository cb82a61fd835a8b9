"""Fine-tuned scores: one `mmae finetune` for each row, as a command of its own.

It trains on the suite's own task, chooses on validation, and looks at the test once. The run folder is kept and belongs
to the row's key: a command that was interrupted goes on with it, and one that has ended is not repeated.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmae.config.config_values import assignment
from mmae.config.finetune_checks import FINETUNING
from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.schema import Resume, resume_policy
from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.band_choice import choose_columns, no_bands
from mmae.evaluate.benchmark.protocols.finetune_process import run_finetune
from mmae.evaluate.benchmark.protocols.finetune_scores import read_scores
from mmae.run.layout import RESULTS, SEEDS

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask, Kind

_RECIPES: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        "classification": ("finetune_classification",),
        "multilabel": ("finetune_multilabel",),
        "segmentation": ("finetune_segmentation",),
        "regression": ("finetune_regression",),
        "pixel_regression": ("finetune_regression", "task.kind=pixel_regression", "model.head=patch_linear"),
    }
)
"""Kind of task -> recipe, and what is set in it."""
_NORMALISE: Final = MappingProxyType({"auto": "auto", "model": "model", "task": "data"})
_OWN_SECTIONS: Final = frozenset({"source", "finetune", "run"})
_OWN_KEYS: Final = frozenset(
    {"model.init_from", "train.seed", "task.kind", "data.shards", "data.normalise", "data.check_units"}
)
"""Keys of a recipe that a row says by other means."""
_SPLIT_KEYS: Final = frozenset({"data.val_split", "data.test_split", "data.val_fraction", "data.test_fraction"})
"""Keys that would make another validation or test of a task."""
_SCORED: Final = frozenset({"train.precision", "data.band_stats"})
"""Keys that a run may change on the way, and that change its score all the same."""


@dataclass(frozen=True)
class FinetuneProtocol:
    """How models are fine-tuned.

    Attributes:
        runs: the folder that keeps a run folder a row.
        search: pairs of learning rate and layer decay that are tried on validation; 0: those of the recipe.
        overrides: `section.key=value` of the recipe, checked by `check_override`.
        ranks: processes of a training.
    """

    runs: Path
    search: int = 0
    overrides: tuple[str, ...] = ()
    ranks: int = 1

    @property
    def decisive(self) -> tuple[str, ...]:
        """The overrides on which a score depends, in one order: without those that a run may change on its way."""
        said, policy = FINETUNING.parse_overrides(list(self.overrides)), resume_policy(FinetuneConfig)
        return tuple(
            assignment(key, said[key]) for key in sorted(said) if policy[key] is not Resume.FREE or key in _SCORED
        )


@dataclass(frozen=True)
class TunedModel:
    """What is fine-tuned, and how its tiles are read.

    Attributes:
        location: a model folder, or a name on the hub.
        inputs: its modalities.
        suite, data: the suite, and its folder.
        level: of Sentinel-2, if it is known better.
        normalisation: as `Reading` has it.
        check_units: compare values with the statistics first.
    """

    location: str
    inputs: tuple[str, ...]
    suite: str
    data: Path
    level: str | None
    normalisation: str
    check_units: bool
    trust: bool


def check_override(said: str) -> None:
    """Refuse an override that is none, or that belongs to the row.

    Raises:
        InputError: the message names it.
    """
    if "=" not in said or said.startswith("-"):
        raise InputError(f"--finetune {said}: write KEY=VALUE, such as train.max_steps=2000")
    for key in FINETUNING.parse_overrides([said]):
        if key in _SPLIT_KEYS:
            raise InputError(f"--finetune {said}: the benchmark says which samples validate and test: leave it out")
        if key in _OWN_KEYS or key.partition(".")[0] in _OWN_SECTIONS:
            raise InputError(f"--finetune {said}: this command sets that key itself: leave it out")


def check_recipe(task: BenchmarkTask, tuned: TunedModel, protocol: FinetuneProtocol) -> None:
    """Refuse what cannot be trained, before hours are spent on other tasks.

    Raises:
        InputError: the recipe of this task cannot be built with the overrides, or the model takes none of its bands.
    """
    columns, _ = choose_columns(tuned.inputs, task, ())
    if not columns:
        raise InputError(no_bands(task, tuned.inputs))
    recipe, *settings = _settings(task, tuned, protocol)
    FINETUNING.load(recipe, settings)


def finetuned_score(
    task: BenchmarkTask, tuned: TunedModel, protocol: FinetuneProtocol, test: str, seed: int, key: str
) -> ScoredTest:
    """Fine-tune a model, and score one test.

    Args:
        seed: of the training, and of the bootstrap.
        key: stands for the row: each has a run folder of its own.

    Raises:
        InputError: the training did not end well, or left no scores.
    """
    name = f"{task.info.name}-{task.partition}-{test}-seed{seed}".replace("%", "pc")
    folder = protocol.runs / f"{name}-{hashlib.blake2b(key.encode(), digest_size=6).hexdigest()}"
    part = folder / SEEDS / f"seed_{seed}" if protocol.search else folder
    recipe, *settings = _settings(task, tuned, protocol)
    words = ["--config", recipe, *settings, f"run.dir={folder.absolute()}", f"data.test_split={test}"]
    words += [f"train.seed={seed}", *(["--trust"] if tuned.trust else [])]
    print(f"{name}: mmae finetune in {folder}", flush=True)
    begun = time.perf_counter()
    status = run_finetune(words, protocol.ranks)
    if status < 0:
        raise InputError(
            f"{name}: the fine-tuning was ended by {_signal(-status)} (its folder is {folder}); if the system lacked "
            "memory, say a smaller --finetune train.micro_batch=N: the command then goes on with it"
        )
    if status:
        raise InputError(
            f"{name}: the fine-tuning ended with status {status}, for the reason above (its folder is {folder}): mend "
            "that, then start the same command again"
        )
    if not (part / RESULTS).is_file():
        raise InputError(f"{name}: the fine-tuning in {folder} was asked to stop: the same command goes on with it")
    return read_scores(task.info, part, test, seed, max(1, protocol.search), time.perf_counter() - begun)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _settings(task: BenchmarkTask, tuned: TunedModel, protocol: FinetuneProtocol) -> list[str]:
    """The recipe, and all settings but those that differ by test and seed."""
    model = Path(tuned.location)
    return [
        *_RECIPES[task.info.kind], f"source.kind={tuned.suite}", f"source.folder={tuned.data.absolute()}",
        f"source.task={task.info.name}", f"source.partition={task.partition}",
        *([f"source.level={tuned.level}"] if tuned.level else []),
        f"model.init_from={model.absolute() if model.exists() else tuned.location}",
        f"data.normalise={_NORMALISE[tuned.normalisation]}", f"data.check_units={str(tuned.check_units).lower()}",
        f"finetune.search={protocol.search}", *protocol.overrides,
    ]  # fmt: skip
