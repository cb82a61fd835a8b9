"""`mmae export --format terratorch`: a folder with a backbone for TerraTorch and the configuration that uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from mmae.publish.export_options import check_folder, listed, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mmae.publish.export_source import Source
    from mmae.publish.plugins.plugin_folder import PluginInputs

check: Final = check_folder
OPTIONS: Final = options(("--modalities", "--level"))

PACKAGE: Final = "mmae_terratorch"
_HEAD: Final = """\
# TerraTorch: an encoder with a UperNet head. From the folder of this file:
#     terratorch fit --config config.yaml
# Change what stands in CAPITALS. A file's bands are in the order of `means`, in {units}{level}; `means` and `stds`
# are those of the encoder's training, so the data module normalises as training did. {notes}
"""


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """The package `mmae_terratorch`, which is the `custom_modules_path`, and `config.yaml`."""
    from mmae.model.saved.weights_file import new_folder
    from mmae.publish.plugins.plugin_folder import plugin_inputs, write_package

    inputs = plugin_inputs(source, listed("--modalities", args.modalities), args.level)
    with new_folder(out) as partial:
        write_package(partial / PACKAGE, {"terratorch_backbone": "__init__"}, source, inputs)
        (partial / "config.yaml").write_text(_config(source, inputs), encoding="utf-8")
    print(f"bands {', '.join(inputs.bands.names)}: terratorch fit --config {out / 'config.yaml'}")


def _config(source: Source, inputs: PluginInputs) -> str:
    level = f", level {inputs.statistics.level.upper()}" if inputs.statistics.level else ""
    units = ", ".join(dict.fromkeys(modality.units for modality in inputs.modalities))
    words = [f"{each.name} must be standardised by tile after that." for each in inputs.modalities if each.standardise]
    body = yaml.safe_dump(_values(source, inputs), sort_keys=False, width=110)
    return _HEAD.format(units=units, level=level, notes=" ".join(words)).replace(" \n", "\n") + body


def _values(source: Source, inputs: PluginInputs) -> dict[str, Any]:
    depth = source.model.variant.depth
    # Four outputs, evenly over the depth, as heads for pictures of several resolutions take them.
    indices = [max(1, depth * quarter // 4) - 1 for quarter in (1, 2, 3, 4)]
    return {
        "custom_modules_path": PACKAGE,
        "seed_everything": 0,
        "trainer": {"max_epochs": 50, "default_root_dir": "runs"},
        "data": {
            "class_path": "GenericNonGeoSegmentationDataModule",
            "init_args": {
                "batch_size": 8,
                "num_workers": 4,
                "num_classes": 2,
                "train_data_root": "TRAIN/IMAGES",
                "train_label_data_root": "TRAIN/LABELS",
                "val_data_root": "VAL/IMAGES",
                "val_label_data_root": "VAL/LABELS",
                "test_data_root": "TEST/IMAGES",
                "test_label_data_root": "TEST/LABELS",
                "img_grep": "*.tif",
                "label_grep": "*.tif",
                "means": list(inputs.statistics.mean),
                "stds": list(inputs.statistics.std),
                "no_label_replace": -1,
            },
        },
        "model": {
            "class_path": "terratorch.tasks.SemanticSegmentationTask",
            "init_args": {
                "model_factory": "EncoderDecoderFactory",
                "model_args": {
                    "backbone": "mmae_encoder",
                    "backbone_pretrained": True,
                    "necks": [
                        {"name": "SelectIndices", "indices": indices},
                        {"name": "LearnedInterpolateToPyramidal"},
                    ],
                    "decoder": "UperNetDecoder",
                    "decoder_channels": 256,
                    "num_classes": 2,
                },
                "loss": "ce",
                "ignore_index": -1,
                "lr": 1e-4,
                "freeze_backbone": False,
            },
        },
    }
