"""`mmae config show RECIPE|RUN [section.key=value ...]`: the resolved recipe, and the origin of each value."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mmae.config.packaged_files import find
from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of
from mmae.config.recipe_file import build_config, parse_overrides, read_recipe
from mmae.config.schema import COMMAND_LINE, Config, flatten
from mmae.disk.ownership import add_trust_argument
from mmae.run.folder import without_passwords
from mmae.run.layout import CONFIG
from mmae.terminal.looks import coloured
from mmae.terminal.printable import printable

DEFAULT = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, "packaged recipe (debug, vit_l), YAML file, or a run's folder")
    parser.add_argument("--changed", action="store_true", help="leave keys with their default value out")
    parser.add_argument("--json", action="store_true", help="print one JSON object: key -> value and origin")
    add_trust_argument(parser, "a run or recipe")


def run(args: argparse.Namespace) -> int:
    name, overrides = recipe_of(args)
    of_run = Path(name) / CONFIG
    path = of_run if of_run.is_file() else find(name, "mmae.recipes", ".yaml", "recipe")
    in_file, said = read_recipe(path, args.trust), parse_overrides(overrides)
    resolved = without_passwords(build_config(in_file | said, str(path), said))
    defaults = flatten(Config())
    origins = dict.fromkeys(resolved, DEFAULT) | dict.fromkeys(in_file, str(path)) | dict.fromkeys(said, COMMAND_LINE)
    chosen = [key for key in resolved if not args.changed or resolved[key] != defaults[key]]
    if args.json:
        print(json.dumps({key: {"value": resolved[key], "origin": origins[key]} for key in chosen}, indent=2))
        return 0
    print("\n".join(_lines({key: resolved[key] for key in chosen}, origins, str(path))))
    return 0


def _lines(values: dict[str, Any], origins: dict[str, str], file: str) -> list[str]:
    """A line for each key. The file is named once, at the top; a `*` marks its values, a `!` those typed."""
    marks = {DEFAULT: " ", file: "*", COMMAND_LINE: "!"}
    lines = [printable(f"# * of {file}   ! of the {COMMAND_LINE}   others are defaults")]
    width = max(map(len, values), default=0)
    for key, value in values.items():
        mark = marks[origins[key]]
        line = printable(f"{mark} {key:<{width}}  {json.dumps(value)}")
        lines.append(line if mark == " " else coloured(line, "strong"))
    return lines
