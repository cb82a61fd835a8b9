"""Which way imports point, read from the source: a module may know what lies below it, and nothing above or beside."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from types import MappingProxyType

import pytest

from mmae.bench.command import COMMANDS as BENCHES
from mmae.cli import COMMANDS
from tests.support.paths import ROOT
from tests.support.room_rules import (
    BELOW,
    EXCEPTIONS,
    INSIDE,
    Import,
    all_files,
    all_imports,
    all_modules,
    allowed,
    allowed_inside,
    circles,
    imports_below,
    module_name,
    of_ours,
    room,
)

MOST_MODULES = 16
"""Modules that a package may hold beside its sub-packages."""

FEWEST_LINES = 25
"""A module with fewer lines stands with its importer if it has only one."""

HIDDEN_NAMES = frozenset({"types"})
"""Names that a module of the standard library has too: `mmae.types` holds what modules hand to one another."""

MAY_BE_SMALL = MappingProxyType(
    {
        "mmae.version": "setup.py reads it without importing the package",
        "mmae.__main__": "Python asks for this file",
        "mmae.run.config_commands": "the command line finds it by name",
    }
)
"""Small modules whose only importer they could not stand with."""

HOMES = MappingProxyType(
    {
        "h5py": {
            "data_tools.source.chunks",
            # One file, opened and checked; its tile table; where its chunks lie, so that they are read without h5py.
            "data_tools.source.dataset",
            "data_tools.source.hdf5_links",
            "data_tools.source.metadata",
            "data_tools.source.source_datasets",
            # Each worker process of a repack opens the file for itself.
            "data_tools.repack.work",
            # Verifies by plain reads, through nothing that packed.
            "data_tools.verify.source_comparison",
            "data_tools.synth.hdf5_output",
            "mmae.bench",
            # Benchmarks of others come as HDF5.
            "mmae.evaluate.benchmark.geobench.sample_file",
            "mmae.evaluate.benchmark.mmearth_bench.bench_task",
        },
        "deepspeed": {"mmae.distributed.process_group", "mmae.engine"},
        "webdataset": {"mmae.bench", "mmae.data.remote.pipe"},
        "fsspec": {"mmae.data.remote.object_store"},
        "requests": {"mmae.data.remote.http_transport"},
        "blosc2": {
            "mmae.bench",
            "mmae.data.shards.blosc",
            "mmae.data.shards.codec",
        },
        # Using a pretrained model does not need it. Tests compare with it.
        # Carried along by exports: they run where timm is.
        "timm": {"mmae.publish.carried", "mmae.model.heads", "mmae.model.saved.patch_kernels"},
        "torchao": {"mmae.engine.gpu_options.float8_linears"},
        "triton": {"mmae.bench.attention.compiled_kernels", "mmae.model.short_attention.triton_kernels"},
        "wandb": {"mmae.engine.telemetry.trackers"},
        "rasterio": {
            "mmae.evaluate.benchmark.geobench.sample_places",
            "mmae.finetune.scoring.prediction_maps",
            "mmae.finetune.sources.geotiff_files",
            "mmae.scenes.files",
        },
        "scipy": {"mmae.scaling_law.law_fit"},
        "sklearn": {"mmae.evaluate.frozen", "mmae.evaluate.probe.block_split"},
        "pydantic": {
            "mmae.config.deepspeed",
            "mmae.config.deepspeed_schema",
            "mmae.config.finetune_schema",
            "mmae.config.recipe_file",
            "mmae.config.schema",
            "mmae.model.heads.head_options",
            "mmae.model.tuned.task",
            "mmae.model.tuned.tuned_config",
            "mmae.scaling_law.ladder_file",
            "mmae.scaling_law.law_file",
        },
    }
)
"""Modules, or packages, in which a library may be imported when the program runs."""

HEAVY = (
    "torch",
    "timm",
    "deepspeed",
    "triton",
    "webdataset",
    "h5py",
    "blosc2",
    "wandb",
    "PIL",
    "requests",
    "fsspec",
    "pandas",
    "rasterio",
    "pyarrow",
    "sklearn",
    "scipy",
)


def test_the_source_was_read() -> None:
    assert len(of_ours()) > 200
    assert {room(each.by) for each in of_ours()} == BELOW.keys()


def test_imports_point_down() -> None:
    wrong = {f"{each.by} imports {each.of}" for each in of_ours()
             if not allowed(each) and (each.by, each.of) not in EXCEPTIONS}  # fmt: skip
    assert not wrong


def test_every_exception_is_needed() -> None:
    assert {(each.by, each.of) for each in of_ours() if not allowed(each)} == EXCEPTIONS.keys()


@pytest.mark.parametrize("package", INSIDE)
def test_imports_point_down_inside_a_package(package: str) -> None:
    inside = [each for each in of_ours() if each.by.startswith(f"{package}.") and each.of.startswith(f"{package}.")]
    wrong = {f"{each.by} imports {each.of}" for each in inside if not allowed_inside(package, each.by, each.of)}
    assert not wrong


def test_every_sub_package_has_its_place() -> None:
    parents = {module.rpartition(".")[0] for module in all_modules()}
    for package in INSIDE:
        beside = {name.rpartition(".")[2] for name in parents if name.rpartition(".")[0] == package}
        modules = {name.rpartition(".")[2] for name in all_modules() if name.rpartition(".")[0] == package}
        # A module on which sub-packages stand may be a place of its own.
        assert beside <= INSIDE[package].keys() <= beside | modules | {""}
    divided = {name.rpartition(".")[0] for name in parents if name.count(".") > 1}
    assert divided - INSIDE.keys() == set()


def test_no_imports_go_in_a_circle() -> None:
    """Imports within functions and for type checkers are imports too."""
    edges: dict[str, set[str]] = {}
    for each in of_ours():
        # What the package itself offers is imported when it is first asked for.
        if each.of != each.by and (each.by, each.of) not in EXCEPTIONS:
            edges.setdefault(each.by, set()).add(each.of)
    assert circles(edges) == []


def test_what_a_circle_is() -> None:
    assert circles({"a": {"b"}, "b": {"c"}}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"], ["d"]]


def test_no_package_is_too_large_to_look_through() -> None:
    packages = {module_name(path.parent / "__init__.py") for path in all_files()}
    sizes = Counter(module.rpartition(".")[0] for module in all_modules() - packages - {"mmae.__main__"})
    assert {package: size for package, size in sizes.items() if size > MOST_MODULES} == {}


def test_a_module_name_occurs_once() -> None:
    names = Counter(path.stem for path in all_files())
    assert {name for name, count in names.items() if count > 1} <= {"command", "__init__"}


def test_no_name_hides_a_module_of_the_standard_library() -> None:
    names = {name for module in all_modules() for name in module.split(".")} - {"__main__"}
    assert names & sys.stdlib_module_names == HIDDEN_NAMES


def test_a_small_module_has_several_importers() -> None:
    importers: dict[str, set[str]] = {}
    for each in of_ours():
        importers.setdefault(each.of, set()).add(each.by)
    modules = [path for path in all_files() if path.name != "__init__.py"]
    small = {module_name(path) for path in modules if len(path.read_text(encoding="utf-8").splitlines()) < FEWEST_LINES}
    lonely = {module for module in small if len(importers.get(module, ())) < 2}
    assert lonely - MAY_BE_SMALL.keys() == set()
    assert MAY_BE_SMALL.keys() <= small


def test_every_package_says_what_it_holds() -> None:
    silent = [path for path in all_files() if path.name == "__init__.py"
              and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]  # fmt: skip
    assert silent == []
    assert [path.parent for path in all_files() if not (path.parent / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("by", "of", "may"),
    [
        ("mmae.data.shards.reader", "mmae.config.schema", True),
        ("mmae.data.shards.reader", "mmae.model.mmae", False),
        ("mmae.model.mmae", "mmae.losses", False),
        ("mmae.losses", "mmae.data.transforms.labels", False),
        ("mmae.config.schema", "mmae.model.mmae", False),
        ("mmae.distributed.preflight", "mmae.run.spec", False),
        ("mmae.run.spec", "mmae.distributed.code_hash", True),
        ("mmae.run.spec", "mmae.engine.step", False),
        ("mmae.engine.step", "mmae.losses", True),
        ("mmae.engine.step", "mmae.train", False),
        ("mmae.train", "mmae.engine.step", True),
        ("mmae.train", "mmae.bench.speeds", False),
        ("mmae.train", "mmae.launch.multi_node", False),
        ("mmae.doctor.hosts.session", "mmae.launch.ssh", True),
        ("mmae.launch.hostfile", "mmae.doctor.command", False),
        ("mmae.errors", "mmae.config.schema", False),
        ("mmae.draws", "mmae.errors", True),
        ("mmae.cli", "mmae.train", False),
        ("mmae.data.shards.index", "data_tools.repack.pipeline", False),
        ("mmae.bench.packed_shards", "data_tools.repack.command", True),
        ("data_tools.repack.pipeline", "mmae.data.shards.codec", True),
        ("data_tools.repack.pipeline", "mmae.config.schema", False),
        ("data_tools.repack.pipeline", "mmae.types", False),
    ],
)
def test_the_rules_are_these(by: str, of: str, may: bool) -> None:
    assert allowed(Import(by, of, False)) is may


@pytest.mark.parametrize(
    ("package", "by", "of", "may"),
    [
        ("mmae.data", "mmae.data.remote.cache", "mmae.data.shards.index", True),
        ("mmae.data", "mmae.data.shards.index", "mmae.data.remote.cache", False),
        ("mmae.data", "mmae.data.transforms.crop", "mmae.data.loading.loader", False),
        ("mmae.engine", "mmae.engine.telemetry.step_records", "mmae.engine.step", True),
        ("mmae.engine", "mmae.engine.validate", "mmae.engine.telemetry.damage_log", False),
        ("data_tools", "data_tools.verify.repair", "data_tools.repack.work", True),
        ("data_tools", "data_tools.repack.pipeline", "data_tools.verify.check_set", False),
    ],
)
def test_the_rules_inside_are_these(package: str, by: str, of: str, may: bool) -> None:
    assert allowed_inside(package, by, of) is may


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
    assert words or "mmae.config.schema" not in sys.modules
"""


@pytest.mark.process
def test_help_needs_nothing_heavy() -> None:
    commands = [(), *((name,) for name in COMMANDS), *(("bench", name) for name in BENCHES)]
    program = HELP.format(commands=commands, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
