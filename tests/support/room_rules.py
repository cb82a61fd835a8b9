"""Which modules may import which, as tables, and the imports as they are, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

from tests.support.paths import ROOT

PACKAGES = ("mmae", "data_tools")

GROUND = frozenset(
    {
        "addresses",
        "disk",
        "draws",
        "errors",
        "modalities",
        "processes",
        "recipes",
        "terminal",
        "types",
        "variants",
        "version",
    }
)
"""Modules and packages of `mmae` that everything may stand on; they know only one another."""

INFERENCE = frozenset({"inference", "raw_tiles"})
"""Modules and packages of `mmae` that use a trained encoder, and need nothing of training."""

PROGRAMS = frozenset({"export", "publish", "rank_program", "train"})
"""Modules and packages of `mmae` that use all of the engine, each a program or a function for users."""

_DATA_AND_MODEL = frozenset({"config", "data", "model", "losses"})
_TRAINING = _DATA_AND_MODEL | {"distributed", "run", "engine", "inference", "evaluate"}

BELOW: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ground": frozenset(),
        "config": frozenset(),
        # These three do not know one another.
        "data": frozenset({"config"}),
        "model": frozenset({"config"}),
        "losses": frozenset({"config"}),
        "distributed": frozenset({"config"}),
        "run": _DATA_AND_MODEL | {"distributed"},
        "engine": _DATA_AND_MODEL | {"distributed", "run"},
        "inference": _DATA_AND_MODEL,
        "report": _TRAINING,
        # Worker processes and their progress are those of data_tools.
        "evaluate": _DATA_AND_MODEL | {"distributed", "run", "engine", "inference", "data_tools"},
        "programs": _TRAINING,
        # Predictions are written as those of scenes are.
        "finetune": _TRAINING | {"programs", "scenes"},
        "scenes": _TRAINING | {"programs", "data_tools"},
        "scaling_law": frozenset({"config"}),
        "plan": _DATA_AND_MODEL | {"scaling_law"},
        "scale": _TRAINING | {"programs", "plan", "launch", "scaling_law", "report"},
        "launch": _TRAINING | {"programs"},
        "doctor": _TRAINING | {"programs", "plan", "launch"},
        # Benches compare with everything there is.
        "bench": _TRAINING | {"programs", "scenes", "plan", "data_tools"},
        "data_tools": frozenset({"data"}),
        # The command line names its commands' modules, and imports the chosen one.
        "cli": frozenset(),
    }
)
"""What each room may import beside itself and the ground."""

INSIDE: Mapping[str, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "mmae.data": {
            "shards": frozenset(),
            "label_files": frozenset(),
            "remote": frozenset({"shards"}),
            "sampling": frozenset({"shards", "remote"}),
            "loading": frozenset({"shards", "remote", "sampling"}),
            "transforms": frozenset(),
            "checks": frozenset({"shards", "remote", "sampling", "transforms"}),
        },
        "mmae.model": {
            "short_attention": frozenset(),
            "": frozenset({"short_attention"}),
            "counts": frozenset(),
            "published": frozenset({""}),
            "heads": frozenset({""}),
            "tuned": frozenset({"", "heads"}),
            "saved": frozenset({"", "counts", "published", "tuned"}),
        },
        "mmae.run": {
            "layout": frozenset(),
            "locking": frozenset({"layout"}),
            "": frozenset({"layout", "locking"}),
        },
        "mmae.finetune": {
            "model": frozenset(),
            "labelled": frozenset(),
            "sources": frozenset({"labelled"}),
            "start": frozenset({"model", "labelled", "sources"}),
            "scoring": frozenset({"labelled", "sources"}),
            "training": frozenset({"model", "labelled", "sources", "start", "scoring"}),
            "": frozenset({"model", "labelled", "sources", "start", "scoring", "training"}),
        },
        "mmae.engine": {
            "operators": frozenset(),
            "matrices": frozenset(),
            "gpu_options": frozenset({""}),
            "deepspeed_internals": frozenset({""}),
            "": frozenset({"matrices", "gpu_options", "deepspeed_internals"}),
            "history": frozenset(),
            "checkpoint": frozenset({"", "history", "deepspeed_internals"}),
            "average": frozenset({"", "checkpoint", "deepspeed_internals"}),
            "telemetry": frozenset({"", "history", "checkpoint", "deepspeed_internals"}),
        },
        "mmae.engine.checkpoint": {
            "": frozenset({"contents", "conversion"}),
            "contents": frozenset(),
            "conversion": frozenset(),
        },
        "mmae.evaluate": {
            "frozen": frozenset(),
            "pictures": frozenset(),
            "in_loop": frozenset({"frozen", "probe"}),
            "": frozenset({"frozen", "pictures"}),
            "probe": frozenset({"frozen"}),
            "benchmark": frozenset({"frozen"}),
        },
        "mmae.evaluate.benchmark": {
            "tasks": frozenset(),
            "geobench": frozenset({"tasks"}),
            "mmearth_bench": frozenset({"tasks"}),
            "encoding": frozenset({"tasks"}),
            "protocols": frozenset({"tasks", "encoding"}),
            "": frozenset({"tasks", "geobench", "mmearth_bench", "encoding", "protocols"}),
        },
        "mmae.scenes": {
            "files": frozenset(),
            "windows": frozenset({"files"}),
            "": frozenset({"files", "windows"}),
        },
        "mmae.publish": {
            "": frozenset({"hub"}),
            "hub": frozenset(),
            "images": frozenset({""}),
            "programs": frozenset({"", "images"}),
            "carried": frozenset(),
            "plugins": frozenset({"", "images", "programs"}),
        },
        "mmae.report": {
            "page": frozenset(),
            "shards": frozenset({"page"}),
            "listing": frozenset(),
            "": frozenset({"page", "shards"}),
        },
        "mmae.launch": {
            "supervision": frozenset(),
            "": frozenset({"supervision"}),
        },
        "mmae.doctor": {
            "agent": frozenset(),
            "hosts": frozenset({"agent"}),
            "checks": frozenset({"agent", "hosts"}),
            "bandwidth": frozenset({"agent", "hosts", "checks"}),
            "": frozenset({"agent", "hosts", "checks", "bandwidth"}),
        },
        "mmae.bench": {
            "": frozenset(),
            "repack": frozenset({""}),
            "loader": frozenset({""}),
            "shuffle": frozenset({""}),
            "embed": frozenset({""}),
            "step": frozenset({""}),
            "attention": frozenset({"", "step"}),
        },
        "data_tools": {
            "workers": frozenset(),
            "source": frozenset({"workers"}),
            "stats": frozenset({"workers", "source"}),
            "repack": frozenset({"workers", "source", "stats"}),
            "verify": frozenset({"workers", "source", "stats", "repack"}),
            "synth": frozenset(),
        },
    }
)
"""What each sub-package may import of those beside it; the name of a package's own modules is empty."""

DATA_TOOLS_GROUND = frozenset(
    {
        "disk.content_hash",
        "disk.file_lock",
        "disk.files",
        "disk.free_space",
        "disk.json_text",
        "disk.library_file",
        "disk.regular_file",
        "draws",
        "errors",
        "modalities",
        "terminal.error_line",
        "terminal.plurals",
        "terminal.printable",
        "terminal.table",
    }
)
"""What `data_tools` may take of the ground: it knows neither models nor batches."""

EXCEPTIONS = MappingProxyType(
    {
        ("mmae", "mmae.data.loading.shard_dataset"): "`mmae.ShardDataset`, in the same way",
        ("mmae", "mmae.inference.raw_encoder"): "`mmae.load_encoder`, in the same way as the next two",
        ("mmae", "mmae.model.features"): "`mmae.features`, imported when it is first asked for; here for type checkers",
        ("mmae", "mmae.model.saved.saved_model"): "`mmae.load_model`, in the same way",
        ("mmae", "mmae.publish.hub.hub_model"): "`mmae.MultiMAE`, in the same way",
    }
)


@dataclass(frozen=True)
class Import:
    """One import: by which module, of which, and whether only a type checker ever sees it."""

    by: str
    of: str
    typing_only: bool


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def all_files() -> tuple[Path, ...]:
    return tuple(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))


@cache
def all_modules() -> frozenset[str]:
    return frozenset(map(module_name, all_files()))


def is_typing(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_below(node: ast.AST, by: str, typing_only: bool = False) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(by, alias.name, typing_only) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{by}: a relative import"
        for alias in node.names:
            # `from mmae import draws` is of `mmae.draws`.
            module = f"{node.module}.{alias.name}"
            yield Import(by, module if module in all_modules() else str(node.module), typing_only)
    for child in ast.iter_child_nodes(node):
        yield from imports_below(child, by, typing_only or (is_typing(node) and child in node.body))


@cache
def all_imports() -> tuple[Import, ...]:
    found: list[Import] = []
    for path in all_files():
        found += imports_below(ast.parse(path.read_text(encoding="utf-8")), module_name(path))
    return tuple(found)


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    if package == "data_tools":
        return "data_tools"
    name = rest.partition(".")[0]
    if name in {"", *GROUND}:
        return "ground"
    if name in INFERENCE:
        return "inference"
    if name in PROGRAMS:
        return "programs"
    return "cli" if name == "__main__" else name


def allowed(each: Import) -> bool:
    here, there = room(each.by), room(each.of)
    if here == "data_tools" and there == "ground":
        return each.of.removeprefix("mmae.") in DATA_TOOLS_GROUND
    return there in {here, "ground"} or there in BELOW[here]


def sub_room(package: str, module: str) -> str:
    """The sub-package of a package that a module is in; empty for the package's own modules."""
    name = module.removeprefix(f"{package}.").partition(".")[0]
    return name if name in INSIDE[package] else ""


def allowed_inside(package: str, by: str, of: str) -> bool:
    here, there = sub_room(package, by), sub_room(package, of)
    return here == there or there in INSIDE[package][here]


def of_ours() -> list[Import]:
    return [each for each in all_imports() if each.of.partition(".")[0] in PACKAGES]


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of names that lead to one another: what is left once all that ends somewhere is taken away."""
    reached: dict[str, set[str]] = {}
    for name in edges:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            new = edges.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reached[name] = seen
    found = {tuple(sorted({name, *(other for other in seen if name in reached.get(other, ()))}))
             for name, seen in reached.items() if name in seen}  # fmt: skip
    return [list(group) for group in sorted(found)]
