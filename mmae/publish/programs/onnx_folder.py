"""`mmae export --format onnx`: the encoder as an ONNX model, for onnxruntime and others."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError
from mmae.publish.export_options import check_words, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mmae.publish.export_source import Source
    from mmae.publish.programs.encoder_program import EncoderProgram

OPTIONS: Final = options(("--modalities", "--image-size"))

MODEL_NAME: Final = "model.onnx"
OPSET: Final = 18

LARGEST_FILE: Final = 1 << 31
"""Bytes that a protobuf message cannot reach: larger weights go into a file beside the model."""


def check(out: Path, args: argparse.Namespace) -> None:
    """Refuse a folder that holds something, words that cannot be read, and a machine without the packages."""
    from mmae.disk.files import check_new_folder

    check_words(args)
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise InputError(f"--format onnx: the package {package} is missing: pip install 'mmae[onnx]'")
    check_new_folder(out)


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """A folder with `model.onnx`, and `model.onnx.data` where the weights do not fit into one protobuf message."""
    from mmae.model.saved.weights_file import new_folder
    from mmae.publish.programs.encoder_program import encoder_program

    program = encoder_program(source, args)
    converted = _converted(program)
    numbers = sum(tensor.numel() for tensor in program.exported.state_dict.values())
    with new_folder(out) as partial:
        converted.save(str(partial / MODEL_NAME), external_data=4 * numbers > 0.9 * LARGEST_FILE)
    print(program.summary)


def _converted(program: EncoderProgram) -> Any:
    import torch

    converted = torch.onnx.export(
        program.exported,
        (),
        input_names=program.inputs,
        output_names=program.outputs,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert converted is not None
    for key, value in {**program.table, "outputs": program.outputs}.items():
        converted.model.metadata_props[f"mmae.{key}"] = value if isinstance(value, str) else json.dumps(value)
    return converted
