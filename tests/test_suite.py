"""What the tests themselves keep to: they stand alone, answer soon, and say which of them start processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
FOR_ALL = ("tests.support", "tests.soak")
"""What any test may import of the tests: helpers, and the program that one of them runs for a short while."""

HEAVY = ("torch", "deepspeed", "h5py", "timm", "wandb", "requests", "pandas")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield str(node.module)


def test_no_test_imports_another() -> None:
    """What two of them need is a fixture of a conftest, or stands in `tests.support`."""
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in TESTS.rglob("*.py")
        for module in imported(path)
        if module.partition(".")[0] == "tests" and not module.startswith(FOR_ALL)
    }
    assert wrong == set()


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.process
def test_what_all_tests_share_is_light() -> None:
    """A test of a table does not wait for torch."""
    found = python(f"import sys, tests.conftest; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert (found.stdout, found.stderr) == ("[]\n", "")


@pytest.mark.process
@pytest.mark.parametrize(
    "start",
    [
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
        "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()",
        "import multiprocessing as m; m.get_context('forkserver').Process(target=print).start()",
    ],
)
def test_a_unit_test_cannot_start_a_process(start: str) -> None:
    found = python(f"from tests.support.unit_tier import refuse_processes; refuse_processes(); {start}")
    assert found.returncode == 1
    assert "StartsAProcessError" in found.stderr.splitlines()[-1]


@pytest.mark.process
def test_a_library_may_look_around_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "looks_around.py").write_text("import subprocess; subprocess.run(['true'], check=True)")
    allowed = f"import sys; sys.path.append({str(tmp_path)!r}); import looks_around"
    found = python(f"from tests.support.unit_tier import refuse_processes; refuse_processes(); {allowed}")
    assert found.returncode == 0, found.stderr
