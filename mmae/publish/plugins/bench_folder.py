"""`mmae export --format torchgeo-bench`: a folder with a model for torchgeo-bench and its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from mmae.publish.export_options import check_folder, listed, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mmae.publish.export_source import Source

check: Final = check_folder
OPTIONS: Final = options(("--modalities", "--level"))

PACKAGE: Final = "mmae_torchgeo_bench"
_HEAD: Final = """\
# torchgeo-bench, from the folder above `conf`:
#     PYTHONPATH=. torchgeo-bench run --config-dir conf dataset.names=[m-eurosat] dataset.bands=all model=mmae
# dataset.normalization says whose statistics normalise: bandspec_zscore (the data set's) or model_native (those of the
# encoder's training, on digital numbers).
"""


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """The package `mmae_torchgeo_bench`, and `conf/model/mmae.yaml`."""
    from mmae.model.saved.weights_file import new_folder
    from mmae.publish.plugins.plugin_folder import plugin_inputs, write_package

    inputs = plugin_inputs(source, listed("--modalities", args.modalities), args.level, only_sentinel2=True)
    values = {"_target_": f"{PACKAGE}.MmaeBench", "name": f"mmae-{source.model.config.size}", "pooling": "mean"}
    with new_folder(out) as partial:
        write_package(partial / PACKAGE, {"optical_bands": "optical_bands", "bench_model": "__init__"}, source, inputs)
        (partial / "conf" / "model").mkdir(parents=True)
        (partial / "conf" / "model" / "mmae.yaml").write_text(_HEAD + yaml.safe_dump(values, sort_keys=False), "utf-8")
    print(f"bands {', '.join(inputs.bands.names)}: see {out / 'conf' / 'model' / 'mmae.yaml'}")
