"""The figures of `mmae/publish/README.md`: what each export format differs by, and how long it takes.

python -m tests.export_figures --size base

A model with random weights is exported in every format, loaded with the other library, and run on random tiles. Two
differences are printed: the largest |theirs - ours| / (1 + |ours|), and the largest |theirs - ours| over the largest
|ours|.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from tests.support.exported_models import IMAGES, export, image, many_inputs, saved

BATCH = 4


def one_image(model: MultiMAE, values: Tensor) -> Tensor:
    """As timm has them: global tokens, then the map's."""
    found = features(model, {"rgb": values})
    return torch.cat([found.global_tokens, found.maps["rgb"].flatten(1, 2)], dim=1)


def all_inputs(model: MultiMAE, values: dict[str, Tensor]) -> Tensor:
    found = features(model, values)
    return torch.cat([*(each.flatten(1, 2) for each in found.maps.values()), found.global_tokens], dim=1)


def by_timm(folder: Path, values: Tensor) -> Tensor:
    found: Tensor = _timm().create_model(f"local-dir:{folder}", pretrained=True).eval().forward_features(values)
    return found


def by_transformers(folder: Path, values: Tensor) -> Tensor:
    transformers = importlib.import_module("transformers")
    found: Tensor = transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=values).last_hidden_state
    return found


def by_torchgeos_entry(folder: Path, values: Tensor) -> Tensor:
    transforms = importlib.import_module("torchvision.transforms.v2")
    entry: Any = eval((folder / "entry.py").read_text(), {"Weights": argparse.Namespace, "T": transforms})
    network = _timm().create_model(entry.meta["model"], in_chans=entry.meta["in_chans"], **entry.meta["model_args"])
    network.load_state_dict(torch.load(next(folder.glob("*.pth")), weights_only=True))
    found: Tensor = network.eval().forward_features(values)
    return found


def by_program(file: Path, values: dict[str, Tensor]) -> Tensor:
    return _joined(torch.export.load(file).module()(*values.values()))


def by_onnxruntime(folder: Path, values: dict[str, Tensor]) -> Tensor:
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in values.items()})
    return _joined([torch.from_numpy(each) for each in found])


def by_plain_encoder(folder: Path, values: dict[str, Tensor]) -> Tensor:
    from mmae.publish.carried.plain_encoder import PlainEncoder

    last = PlainEncoder(folder / "mmae_terratorch").eval()(values)[-1]
    return torch.cat([*(each.flatten(2).transpose(1, 2) for each in last.maps.values()), last.global_tokens], dim=1)


def _timm() -> Any:
    return importlib.import_module("timm")


def _joined(outputs: Any) -> Tensor:
    return torch.cat([each.flatten(1, -2) for each in outputs], dim=1)


def rows(model: MultiMAE, folder: Path) -> Iterator[tuple[str, str, float, float, float]]:
    """Format, reader, the two differences, seconds of the export."""
    images = {name: image(name, BATCH) for name in IMAGES}
    every = {name: image(name, BATCH) for name in model.config.in_domains}
    rgb = ("--modality", "rgb", "--level", "l2a")
    cases: list[tuple[str, str, tuple[str, ...], Callable[[Path, Any], Tensor], Any]] = [
        ("timm", "timm", rgb, by_timm, images["rgb"]),
        ("timm", "transformers", rgb, by_transformers, images["rgb"]),
        ("torchgeo", "timm, by the entry", rgb, by_torchgeos_entry, images["rgb"]),
        ("torch-export", "torch", (), by_program, every),
        ("onnx", "onnxruntime", (), by_onnxruntime, every),
        ("terratorch", "its PlainEncoder", ("--level", "l2a"), by_plain_encoder, images),
    ]
    source = saved(model, folder / "model")
    for number, (style, reader, words, read, values) in enumerate(cases):
        out = folder / (f"{number}.pt2" if style == "torch-export" else str(number))
        started = time.perf_counter()
        assert export(source, out, "--format", style, *words) == 0
        seconds = time.perf_counter() - started
        with torch.inference_mode():
            ours = all_inputs(model, values) if isinstance(values, dict) else one_image(model, values)
        with torch.no_grad():
            difference = (read(out, values) - ours).abs()
        each, whole = difference / (1 + ours.abs()), difference / ours.abs().max()
        yield style, reader, each.max().item(), whole.max().item(), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="base", help="of the encoder")
    size = parser.parse_args().size
    with TemporaryDirectory() as folder:
        for style, reader, each, whole, seconds in rows(many_inputs(size), Path(folder)):
            print(f"{size} | {style} | {reader} | {each:.1e} | {whole:.1e} | {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
