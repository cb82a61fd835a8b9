"""The `mmae` command: a subcommand a line. What a subcommand needs is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from mmae import __version__
from mmae.errors import EXIT_BAD_INPUT, InputError

COMMANDS: Final = {
    "synth": ("data_tools.synth", "write a small data set in MMEarth's layout"),
    "repack": ("data_tools.repack", "repack MMEarth's HDF5 into WebDataset shards"),
    "stats": ("data_tools.stats", "band statistics over the valid pixels of a split"),
    "verify": ("data_tools.verify", "check every shard, and every tile against its source"),
    "plan": ("mmae.plan.command", "what a run will need, before it starts: memory, time, disk, and its command"),
    "doctor": ("mmae.doctor.command", "what stands in a run's way on this machine, or on all hosts of a hostfile"),
    "train": ("mmae.train", "train, or go on training (ranks are started by deepspeed, torchrun or accelerate)"),
    "export": ("mmae.export", "turn a run's ZeRO checkpoint into a model folder (safetensors) or a published file"),
    "import-published": ("mmae.import_published", "turn a checkpoint of the published code into a model folder"),
    "reconstruct": ("mmae.reconstruct", "draw what a run's model reconstructs"),
    "status": ("mmae.status", "how a run does: step, losses, speed, time left, checkpoint, warnings"),
    "bench": ("mmae.bench.command", "what limits this machine, beside what others reach on it"),
    "baseline": ("mmae.baseline", "a run's validation losses beside those of constant predictions"),
}


def main(argv: list[str] | None = None) -> int:
    """Run `mmae COMMAND ...`; the exit status is 2 for bad input, with one line that says what to do."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="mmae", description="Multi-modal masked autoencoders on MMEarth, at scale.")
    parser.add_argument("--version", action="version", version=f"mmae {__version__}")
    listing = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, help_line) in COMMANDS.items():
        # Only the chosen command's module is imported: `mmae --help` stays quick.
        command = listing.add_parser(name, help=help_line, description=help_line)
        if name in arguments[:1]:
            chosen = importlib.import_module(module)
            chosen.add_arguments(command)
            command.set_defaults(entry=chosen.run)
    return guarded(parser.parse_args(arguments))


def guarded(args: argparse.Namespace) -> int:
    """Run a parsed command; bad input becomes one line and status 2."""
    try:
        status: int = args.entry(args)
    except InputError as error:
        print(f"mmae: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return status


if __name__ == "__main__":
    raise SystemExit(main())
