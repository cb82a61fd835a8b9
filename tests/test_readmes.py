"""READMEs are true: every relative link, command, flag, recipe key, module, script and file that they name exists."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmae.cli import COMMANDS, main
from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.packaged_files import find, packaged_names
from mmae.config.recipe_file import load_config
from mmae.config.schema import resume_policy
from mmae.evaluate.in_loop.loop_tasks import TASKS
from tests.support.paths import ROOT

READMES = sorted(
    path
    for pattern in ("*.md", ".github/*.md", "*/README.md", "*/*/README.md", "*/*/*/README.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
each_readme = pytest.mark.parametrize("readme", READMES, ids=[str(path.relative_to(ROOT)) for path in READMES])

FILE = re.compile(
    r"(?<![\w./-])((?:mmae|data_tools|launchers|ds_configs|tests)/[\w./*-]+\.(?:py|sh|sbatch|yaml|json|md|example))"
)
KEY = re.compile(r"(?<![\w./-])([a-z]+)\.([a-z_]+)\b(?![./(-])")
SUFFIXES = {"json", "jsonl", "md", "onnx", "pth", "py", "safetensors", "yaml"}
"""What makes a file's name of what looks like a recipe key."""

SCORES = {"val.loss", *(f"eval.{task}" for task in TASKS)}
"""Names of scores, which look like recipe keys, too."""

LADDER = ("paper", "vit_b", "vit_l", "vit_h", "vit_g")


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _code(readme: Path) -> list[str]:
    """Lines of code blocks, with continued lines joined and comments removed, and inline code."""
    text = readme.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return lines + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


@cache
def _flags(command: str, bench: str) -> frozenset[str]:
    parser = argparse.ArgumentParser()
    module = importlib.import_module(COMMANDS[command][0])
    if hasattr(module, "COMMANDS"):
        module = importlib.import_module(module.COMMANDS[bench][0])
    module.add_arguments(parser)
    return frozenset(option for action in parser._actions for option in action.option_strings)


def test_there_are_readmes_where_their_readers_are() -> None:
    rooms = {str(path.parent.relative_to(ROOT)) for path in READMES if path.name == "README.md"}
    assert rooms >= {".", "data_tools", "launchers", "ds_configs", "mmae", "mmae/engine", "mmae/bench"}


@each_readme
def test_relative_links_lead_somewhere(readme: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", readme.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (readme.parent / path).resolve() if path else readme
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in _anchors(file.read_text(encoding="utf-8")), f"{target}: no such heading"


@each_readme
def test_commands_and_their_flags_exist(readme: Path) -> None:
    for line in _code(readme):
        for command, words in re.findall(r"(?:^|[$;&'\"(=] ?)mmae ([a-z][a-z-]*)((?: [^;&|#]*)?)", line):
            assert command in COMMANDS, f"mmae {command} is no command: {line}"
            for flag in re.findall(r"(?<=\s)(--[a-z][\w-]*)", words):
                assert flag in {"--help", *_flags(command, words.split()[0])}, f"mmae {command} has no {flag}: {line}"


@each_readme
def test_recipe_keys_exist(readme: Path) -> None:
    keys = {*resume_policy(), *resume_policy(FinetuneConfig), *SCORES}
    sections = {key.partition(".")[0] for key in keys}
    for line in _code(readme):
        for section, name in KEY.findall(line):
            key = f"{section}.{name}"
            if section in sections and name not in SUFFIXES:
                assert key in keys, f"{key} is no recipe key and no score: {line}"


@each_readme
def test_named_files_exist(readme: Path) -> None:
    for line in _code(readme):
        for name in FILE.findall(line):
            assert list(ROOT.glob(name.replace("NAME", "*"))), f"{name} does not exist: {line}"


@each_readme
def test_named_modules_exist(readme: Path) -> None:
    for line in _code(readme):
        for module in re.findall(r"python -m ((?:mmae|data_tools|tests)(?:\.\w+)*)", line):
            assert find_spec(module), f"{module} does not exist: {line}"
        for module, names in re.findall(r"from (mmae(?:\.\w+)+) import ([\w, ]+)", line):
            for name in names.split(","):
                assert hasattr(importlib.import_module(module), name.strip()), f"{module} has no {name}: {line}"


@each_readme
def test_named_recipes_and_deepspeed_jsons_exist(readme: Path) -> None:
    for option, package, suffix in (("config", "mmae.recipes", ".yaml"), ("deepspeed_config", "ds_configs", ".json")):
        names = packaged_names(package, suffix)
        for line in _code(readme):
            for name in re.findall(rf"(?<=\s)--{option} ([a-z]\w*)(?=\s|$)", line):
                assert name in names, f"--{option} {name} does not exist: {line}"


@pytest.mark.parametrize("recipe", LADDER)
def test_a_recipe_its_head_the_readme_and_the_plan_agree(recipe: str, tmp_path: Path) -> None:
    """On the GPUs that the head names, the plan recommends what the recipe does, and predicts what both texts say."""
    head = find(recipe, "mmae.recipes", ".yaml", "recipe").read_text(encoding="utf-8").split("\nrun:")[0]
    said = re.search(r"`mmae (plan .*?)` predicts a peak of ([\d.]+) GB", head)
    assert said is not None
    assert main([*said[1].split(), "--json", str(tmp_path / "plan.json")]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["recommended"]
    train, peak = load_config(recipe, []).train, f"{plan['peak_gb']:.1f}"
    assert (plan["micro_batch"], plan["mode"]) == (train.micro_batch, train.activation_checkpointing)
    assert f"--config {recipe} --deepspeed_config {plan['file']} " in head
    assert said[2] == peak
    (row,) = re.findall(rf"^\| `{recipe}` \|(.*)\|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    _, gpus, batch, told_peak, hours = (cell.strip() for cell in row.split("|"))
    assert f"# hardware  {gpus}" in head
    assert (batch, told_peak) == (f"{train.micro_batch}, {train.activation_checkpointing}", f"{peak} GB")
    assert float(hours.removesuffix(" h")) == round(plan["gpu_hours"] / 8)
    # What the README says of all five in one sentence.
    assert "not trained to the end yet" in head


def test_the_hook_and_the_tests_use_one_version_of_ruff() -> None:
    hook = re.findall(r"rev: v([\d.]+)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert hook == re.findall(r'"ruff==([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))


def test_the_root_readme_stays_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220
    assert len(text.split()) <= 1500
