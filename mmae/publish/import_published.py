"""`mmae import-published FILE OUT`: a checkpoint of the published implementation as a model folder."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.disk.ownership import add_trust_argument
from mmae.disk.regular_file import read_regular_text
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from mmae.model.published.file import PublishedFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a checkpoint that the published code saved")
    parser.add_argument("out", metavar="OUT", help="folder to write: model.safetensors and config.json")
    add_trust_argument(parser, "a file")
    parser.add_argument(
        "--band-stats", metavar="JSON", help="the data set's *_band_stats.json, to store with the model"
    )
    parser.add_argument("--heads", type=int, help="the encoder's heads, if its size is not in the table of sizes")
    parser.add_argument(
        "--decoder-heads", type=int, help="the decoders' heads, if the file does not have them (default: 8)"
    )
    parser.add_argument(
        "--ignore-option",
        metavar="NAME",
        action="append",
        default=[],
        help="ignore an unknown option of the file that changes no prediction and no loss; may be given several times",
    )


def run(args: argparse.Namespace) -> int:
    from mmae.disk.files import check_new_folder
    from mmae.errors import InputError

    # These checks come before the imports, which take seconds.
    if not Path(args.file).is_file():
        raise InputError(f"{args.file} is not a file: give a published checkpoint (a torch save)")
    check_new_folder(Path(args.out))
    band_stats = read_band_stats(args.band_stats) if args.band_stats else {}
    from mmae.model.published.file import read_published
    from mmae.model.saved.saved_model import save_model

    published = read_published(args.file, args.trust)
    model, notes = build(published, args.heads, args.decoder_heads, args.ignore_option)
    save_model(args.out, model, band_stats, _extra(published, model.config.outputs))
    for note in notes if band_stats else (*notes, "the file has no band statistics: give them with --band-stats"):
        print(printable(f"note: {note}"))
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters, float32")
    return 0


def build(
    published: PublishedFile,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    ignored: Collection[str] = (),
) -> Any:
    """The model (`MultiMAE`) of a published checkpoint, and notes about what was assumed.

    Args:
        num_heads: the encoder's heads, for a size and options that do not show them.
        decoder_num_heads: the decoders' heads, for options that do not have them.
        ignored: unknown options of which the user says that they change no number.

    Raises:
        InputError: names, shapes or options do not belong to a model that this project has.
    """
    import torch

    from mmae.model.mmae import MultiMAE
    from mmae.model.published.config import infer_model
    from mmae.model.published.weights import from_published

    found = infer_model(published, num_heads, decoder_num_heads, ignored)
    state = from_published(published.weights, found.config, found.variant, str(published.path))
    with torch.device("meta"):
        model = MultiMAE(found.config, found.variant)
    model.load_state_dict(state, assign=True)
    return model.eval(), found.notes


def read_band_stats(path: str) -> dict[str, Any]:
    """MMEarth's band statistics from their JSON file. Numbers that are not finite become None.

    Raises:
        InputError: the file cannot be read, or is not a JSON mapping of mappings.
    """
    from mmae.disk.json_text import parse_json, standard_json
    from mmae.errors import InputError

    try:
        stats = standard_json(parse_json(read_regular_text(Path(path))))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(stats, dict) or not all(isinstance(entry, dict) for entry in stats.values()):
        raise InputError(f"{path}: band statistics must map each dataset to its mean, std, ...")
    return stats


def _extra(published: PublishedFile, outputs: tuple[str, ...]) -> Mapping[str, Any]:
    from mmae.errors import InputError

    extra: dict[str, Any] = {"published": published.path.name}
    if published.epoch is not None:
        extra["epoch"] = published.epoch
    if published.log_vars is not None:
        if len(published.log_vars) > len(outputs):
            raise InputError(
                f"{published.path}: loss_balancer.log_vars holds {counted(len(published.log_vars), 'number')} "
                f"for {counted(len(outputs), 'output')}"
            )
        # The published code counts one loss too few, so the last output, norm_rgb, has no log variance.
        extra["log_vars"] = dict(zip(outputs, published.log_vars, strict=False))
    return extra
