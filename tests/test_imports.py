"""Which way imports point, read from the source: a module may know what lies below it, and nothing above or beside."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

import pytest

from mmae.bench.command import COMMANDS as BENCHES
from mmae.cli import COMMANDS
from tests.conftest import ROOT

PACKAGES = ("mmae", "data_tools")

FOUNDATION = frozenset(
    {
        "addresses",
        "batching",
        "draws",
        "edge",
        "error_line",
        "errors",
        "free_space",
        "json_text",
        "log_records",
        "modalities",
        "ownership",
        "pictures",
        "plurals",
        "printable",
        "processes",
        "recipe_arguments",
        "regular_file",
        "resources",
        "table",
        "types",
        "variants",
        "yaml_file",
        "__version__",
    }
)
"""Modules of `mmae` that everything may stand on; they know only one another."""

BELOW = MappingProxyType(
    {
        "foundation": set(),
        "config": set(),
        "data": {"config"},
        "model": {"config"},
        "losses": {"config"},
        "engine": {"config", "data", "model", "losses"},
        "command": {"config", "data", "model", "losses", "engine"},
        # Benches compare with everything there is.
        "bench": {"config", "data", "model", "losses", "engine", "command", "data_tools"},
        "data_tools": {"data"},
        # The command line names its commands' modules, and imports the chosen one.
        "cli": set(),
    }
)
"""What each layer may import beside itself and the foundation."""

DATA_TOOLS_FOUNDATION = frozenset(
    {"errors", "modalities", "draws", "free_space", "json_text", "plurals", "printable", "regular_file"}
)
"""What `data_tools` may take of the foundation: it knows neither models nor batches."""

EXCEPTIONS = MappingProxyType(
    {
        ("mmae", "mmae.model.features"): "`mmae.features`, imported when it is first asked for; here for type checkers",
        ("mmae", "mmae.model.folder"): "`mmae.load_model`, in the same way",
        ("mmae.__main__", "mmae.cli"): "`python -m mmae` is the command line",
        ("mmae.table", "mmae.data.atomic"): "files that are written whole, which know nothing of data",
        ("mmae.model.folder", "mmae.data.atomic"): "so is a model's folder",
    }
)

HOMES = MappingProxyType(
    {
        "h5py": {
            # One file, opened and checked; what it holds; its tile table.
            "data_tools.hdf5", "data_tools.source_datasets", "data_tools.metadata",
            # Where its chunks lie, so that they are read without h5py.
            "data_tools.chunks", "data_tools.chunk_search",
            # Nothing of it may lie in other files.
            "data_tools.hdf5_links",
            # Each worker process of a repack opens the file for itself.
            "data_tools.shard_job",
            # Writes a file.
            "data_tools.hdf5_output",
            # Verifies by plain reads, through nothing that packed.
            "data_tools.verify_source",
            "mmae.bench",
        },
        "deepspeed": {"mmae.engine"},
        "webdataset": {"mmae.data.remote_pipe", "mmae.bench"},
        "fsspec": {"mmae.data.remote_fsspec"},
        "requests": {"mmae.data.remote_http"},
        "blosc2": {"mmae.data.blosc", "mmae.data.codec", "mmae.bench"},
        "timm": {"mmae.model.block"},
        "wandb": {"mmae.engine.trackers"},
        "pydantic": {"mmae.config", "mmae.engine"},
    }
)  # fmt: skip
"""Modules, or packages, in which a library may be imported when the program runs."""

HEAVY = ("torch", "timm", "deepspeed", "webdataset", "h5py", "blosc2", "wandb", "PIL", "requests", "fsspec", "pandas")


@dataclass(frozen=True)
class Import:
    """One import: by which module, of which, and whether only a type checker ever sees it."""

    by: str
    of: str
    typing_only: bool


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_typing(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_below(node: ast.AST, by: str, typing_only: bool = False) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(by, alias.name, typing_only) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{by}: a relative import"
        # `from mmae import draws` is of `mmae.draws`.
        names = [f"mmae.{alias.name}" for alias in node.names] if node.module == "mmae" else [str(node.module)]
        yield from (Import(by, name, typing_only) for name in names)
    for child in ast.iter_child_nodes(node):
        yield from imports_below(child, by, typing_only or (is_typing(node) and child in node.body))


@cache
def all_imports() -> tuple[Import, ...]:
    found: list[Import] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found += imports_below(ast.parse(path.read_text(encoding="utf-8")), module_name(path))
    return tuple(found)


def layer(module: str) -> str:
    package, _, rest = module.partition(".")
    if package == "data_tools":
        return "data_tools"
    name = rest.partition(".")[0]
    if name in {"", *FOUNDATION}:
        return "foundation"
    if name in {"config", "config_checks", "config_values"}:
        return "config"
    return name if name in BELOW else "command"


def allowed(each: Import) -> bool:
    here, there = layer(each.by), layer(each.of)
    if here == "data_tools" and there == "foundation":
        return each.of.removeprefix("mmae.") in DATA_TOOLS_FOUNDATION
    return there in {here, "foundation"} or there in BELOW[here]


def of_ours() -> list[Import]:
    return [each for each in all_imports() if each.of.partition(".")[0] in PACKAGES]


def test_the_source_was_read() -> None:
    assert len(of_ours()) > 200
    assert {layer(each.by) for each in of_ours()} == BELOW.keys()


def test_imports_point_down() -> None:
    wrong = {f"{each.by} imports {each.of}" for each in of_ours()
             if not allowed(each) and (each.by, each.of) not in EXCEPTIONS}  # fmt: skip
    assert not wrong


def test_every_exception_is_needed() -> None:
    assert {(each.by, each.of) for each in of_ours() if not allowed(each)} == EXCEPTIONS.keys()


@pytest.mark.parametrize(
    ("by", "of", "may"),
    [
        ("mmae.data.reader", "mmae.config", True),
        ("mmae.data.reader", "mmae.model.mmae", False),
        ("mmae.model.mmae", "mmae.losses", False),
        ("mmae.losses", "mmae.data.labels", False),
        ("mmae.config", "mmae.model.mmae", False),
        ("mmae.engine.step", "mmae.losses", True),
        ("mmae.engine.step", "mmae.train", False),
        ("mmae.train", "mmae.engine.step", True),
        ("mmae.train", "mmae.bench.speeds", False),
        ("mmae.errors", "mmae.config", False),
        ("mmae.draws", "mmae.errors", True),
        ("mmae.cli", "mmae.train", False),
        ("mmae.data.index", "data_tools.pack", False),
        ("mmae.bench.shards", "data_tools.repack", True),
        ("data_tools.pack", "mmae.data.codec", True),
        ("data_tools.pack", "mmae.config", False),
        ("data_tools.pack", "mmae.types", False),
        ("data_tools.pack", "mmae.table", False),
    ],
)
def test_the_rules_are_these(by: str, of: str, may: bool) -> None:
    assert allowed(Import(by, of, False)) is may


def test_what_an_import_is() -> None:
    guarded = "if TYPE_CHECKING:\n  import torch\nelse:\n  import timm\n"
    source = f"import h5py\nfrom mmae import draws\n{guarded}def f():\n  import a.b"
    found = list(imports_below(ast.parse(source), "x"))
    assert [(each.of, each.typing_only) for each in found] == [
        ("h5py", False), ("mmae.draws", False), ("torch", True), ("timm", False), ("a.b", False)
    ]  # fmt: skip


def at_home(module: str, library: str) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in HOMES[library])


@pytest.mark.parametrize("library", HOMES)
def test_libraries_are_met_where_they_belong(library: str) -> None:
    users = {each.by for each in all_imports() if each.of.partition(".")[0] == library and not each.typing_only}
    assert not {user for user in users if not at_home(user, library)}
    # A home that nobody lives in any more is to be taken down.
    assert {home for home in HOMES[library] if not any(f"{user}.".startswith(f"{home}.") for user in users)} == set()


HELP = """
import sys
from contextlib import redirect_stdout
from io import StringIO
from mmae.cli import main
for words in {commands!r}:
    with redirect_stdout(StringIO()):
        try:
            main([*words, "--help"])
        except SystemExit as ended:
            assert ended.code == 0, words
    heavy = [name for name in {heavy!r} if name in sys.modules]
    assert not heavy, (words, heavy)
    assert words or "mmae.config" not in sys.modules
"""


def test_help_needs_nothing_heavy() -> None:
    commands = [(), *((name,) for name in COMMANDS), *(("bench", name) for name in BENCHES)]
    program = HELP.format(commands=commands, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
