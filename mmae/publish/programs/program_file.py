"""`mmae export --format torch-export`: the encoder as an `ExportedProgram`, which torch runs without this project."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Final, cast

from mmae.errors import InputError
from mmae.publish.export_options import check_words, new_file, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mmae.publish.export_source import Source

OPTIONS: Final = options(("--modalities", "--image-size"))

SUFFIX: Final = ".pt2"
NOTES_NAME: Final = "mmae.json"
"""The table of inputs within the file."""


def check(out: Path, args: argparse.Namespace) -> None:
    """Refuse a file that exists, the name of a folder, and words that cannot be read."""
    check_words(args)
    new_file(out, args.out)
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: torch asks for a name that ends in {SUFFIX}: say {out}{SUFFIX}")


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """One `.pt2` file; the table of inputs is its extra file `mmae.json`."""
    import torch

    from mmae.disk.files import atomic_file, writing
    from mmae.disk.library_file import library_file
    from mmae.publish.programs.encoder_program import encoder_program

    program = encoder_program(source, args)
    table = json.dumps({**program.table, "outputs": program.outputs}, indent=2)
    with writing(out, "make room, or choose another place"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out, replace=False) as file, library_file(file) as output:
            torch.export.save(program.exported, cast("IO[bytes]", output), extra_files={NOTES_NAME: table})
    print(program.summary)
