"""The `mmae` command and its table of subcommands. The module of a subcommand is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mmae.errors import InputError
from mmae.terminal.edge import Parser, guarded, parse
from mmae.terminal.missing_package import missing_package
from mmae.version import __version__

COMPLETION: Final = "mmae.terminal.completion"
COMMANDS: Final = {
    "synth": ("data_tools.synth.command", "write a small data set in MMEarth's layout"),
    "repack": ("data_tools.repack.command", "repack MMEarth's HDF5 into WebDataset shards"),
    "stats": ("data_tools.stats.command", "band statistics over the valid pixels of a split"),
    "verify": ("data_tools.verify.command", "check every shard, and every tile against its source"),
    "plan": ("mmae.plan.command", "memory, time and disk of a run before its start, and its command"),
    "doctor": ("mmae.doctor.command", "check this machine, or all hosts of a hostfile, before a run"),
    "train": ("mmae.train", "train, or resume a training (ranks are started by deepspeed, torchrun or accelerate)"),
    "branch": ("mmae.scale.branch", "cool down from a checkpoint of a run, in a run of its own"),
    "ladder": ("mmae.scale.ladder", "train small sizes on few tiles, and fit what the next size will reach"),
    "finetune": ("mmae.finetune.command", "train a downstream model: classes, labels, maps or numbers from tiles"),
    "export": ("mmae.export", "turn a run's ZeRO checkpoint into a model folder (safetensors) or a published file"),
    "import-published": (
        "mmae.publish.import_published",
        "turn a checkpoint of the published code into a model folder",
    ),
    "embed": ("mmae.scenes.embed", "vectors of a scene (GeoTIFF) or of a shard set (Parquet)"),
    "predict": ("mmae.scenes.predict", "land cover, relative elevation and reflectance of a scene, by the decoders"),
    "reconstruct": ("mmae.evaluate.reconstruct", "draw what a run's model reconstructs"),
    "report": ("mmae.report.command", "one page about runs: losses, scores, pictures, speed, what differs"),
    "data-report": ("mmae.report.shards.command", "one page about a shard set: map, classes, values, no data, tiles"),
    "status": ("mmae.run.status", "state of a run: step, losses, speed, time left, checkpoint, warnings"),
    "runs": (
        "mmae.report.listing.list_runs",
        "runs in a folder: state, best validation, size; what may be removed",
    ),
    "config": ("mmae.run.config_commands", "show a recipe or a run's settings, resolved, with their origins"),
    "completion": (COMPLETION, "print a script that completes commands and options in bash, zsh or fish"),
    "bench": ("mmae.bench.command", "measure what limits this machine, and compare with other implementations"),
    "probe": ("mmae.evaluate.probe.command", "scores of a frozen encoder beside baselines, by labels of the shards"),
    "benchmark": ("mmae.evaluate.benchmark.command", "scores of a frozen encoder on GEO-Bench and MMEarth-Bench"),
    "baseline": ("mmae.evaluate.baseline", "a run's validation losses beside those of constant predictions"),
}

Commands = Mapping[str, tuple[str, str]]
"""Name -> the module that holds `add_arguments` and `run`, or its own `COMMANDS`; and a line of help."""


def main(argv: list[str] | None = None) -> int:
    """Run `mmae COMMAND ...`; the exit status is 2 for bad input, with one line that says what to do."""
    words = sys.argv[1:] if argv is None else argv
    about = "Multi-modal masked autoencoders on MMEarth, at scale."
    return guarded(lambda: _run("mmae", about, COMMANDS, words))


def _run(program: str, about: str, commands: Commands, words: Sequence[str]) -> int:
    if not words or words[0] not in commands:
        raise _without_command(program, about, commands, words)
    module, about = commands[words[0]]
    program = f"{program} {words[0]}"
    if module == COMPLETION:
        return _complete(words[1:])
    try:
        return _run_command(program, about, module, words[1:])
    except ModuleNotFoundError as error:
        line = missing_package(error, program)
        if line is None:
            raise
        raise InputError(line) from error


def _run_command(program: str, about: str, module: str, words: Sequence[str]) -> int:
    # Only the chosen command's module is imported: `mmae --help` stays quick.
    chosen = importlib.import_module(module)
    if hasattr(chosen, "COMMANDS"):
        return _run(program, about, chosen.COMMANDS, words)
    parser = Parser(prog=program, description=about)
    chosen.add_arguments(parser)
    status: int = chosen.run(parse(parser, words))
    return status


def _complete(words: Sequence[str]) -> int:
    """Print the completion script for a shell."""
    from mmae.terminal.completion import SHELLS, add_arguments

    parser = Parser(prog="mmae completion", description=COMMANDS["completion"][1])
    add_arguments(parser)
    print(SHELLS[parse(parser, words).shell](_words_after()), end="")
    return 0


def _words_after() -> dict[tuple[str, ...], list[str]]:
    """The words that may follow the program, each command, and each command of a command."""
    found: dict[tuple[str, ...], list[str]] = {(): [*COMMANDS, "--help", "--version"]}
    for name, (module, _) in COMMANDS.items():
        chosen = importlib.import_module(module)
        inner = getattr(chosen, "COMMANDS", None)
        found[name,] = _options(chosen) if inner is None else [*inner, "--help"]
        for word, (inner_module, _) in (inner or {}).items():
            found[name, word] = _options(importlib.import_module(inner_module))
    return found


def _options(module: Any) -> list[str]:
    """The options of a command that its help shows, and the words that its arguments are chosen from."""
    parser = Parser()
    module.add_arguments(parser)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    words = [str(word) for action in shown if not action.option_strings for word in action.choices or ()]
    return sorted(option for action in shown for option in action.option_strings if option.startswith("--")) + words


def _without_command(program: str, about: str, commands: Commands, words: Sequence[str]) -> InputError:
    """Answer `--help` and `--version`, or raise for bad arguments. It returns only for a lone `--`."""
    parser = Parser(prog=program, description=about)
    parser.add_argument("--version", action="version", version=f"mmae {__version__}")
    listing = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for name, (_, help_line) in commands.items():
        listing.add_parser(name, help=help_line)
    parser.parse_args(words)
    return InputError(f"command line: write the command first: {program} COMMAND ...")


if __name__ == "__main__":
    raise SystemExit(main())
