"""The package `geobench` itself reads the made-up tasks: same images, same labels, same splits."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mmae.evaluate.benchmark.geobench.geobench_task import open_geobench
from tests.support.geobench_suite import MADE, write_task
from tests.support.other_tools import python_with

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(1800)]

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import geobench
import numpy as np
found = {}
for suite in ("classification_v1.0", "segmentation_v1.0"):
    for task in geobench.task_iterator(benchmark_name=suite):
        names = [band.name for band in task.bands_info if band.name != "Neon"]
        read = {"names": names, "partitions": sorted(task.get_dataset(band_names=names).list_partitions())}
        for split in ("train", "valid", "test"):
            dataset = task.get_dataset(split=split, partition_name="0.50x_train", band_names=names)
            samples = [dataset[number] for number in range(len(dataset))]
            images = [sample.pack_to_4d(band_names=names)[0][-1] for sample in samples]
            masks = [hasattr(sample.label, "band_info") for sample in samples]
            labels = [sample.label.data if mask else sample.label for sample, mask in zip(samples, masks)]
            np.savez(f"{sys.argv[1]}/{task.dataset_name}-{split}.npz", images=np.stack(images), labels=np.stack(labels))
            read[split] = [sample.sample_name for sample in samples]
        found[task.dataset_name] = read
print(json.dumps(found))
"""


def test_images_labels_and_splits_are_those_of_the_geobench_package(tmp_path: Path) -> None:
    python = python_with(tmp_path / "environment", ("geobench",), "MMAE_GEOBENCH_PYTHON")
    for name in MADE:
        # One of the two ways in which labels are stored is taken for each task.
        write_task(tmp_path / "suite", name, (6, 3, 3), tables=name in {"m-eurosat", "m-bigearthnet", "m-pv4ger"})
    output = tmp_path / "read"
    output.mkdir()
    done = subprocess.run(
        [python, "-c", PROGRAM, output], env={**os.environ, "GEO_BENCH_DIR": str(tmp_path / "suite")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == MADE.keys()
    for name, theirs in found.items():
        assert theirs["partitions"] == ["0.50x_train", "1.00x_train", "default"]
        task = open_geobench(tmp_path / "suite", name, "0.50x_train")
        for split in ("train", "valid", "test"):
            assert list(task.splits[split]) == theirs[split]
            tiles = task.read(task.splits[split])
            with np.load(output / f"{name}-{split}.npz") as read:
                assert np.array_equal(tiles.labels, read["labels"])
                for dataset, bands in task.stored.items():
                    places = [theirs["names"].index(stored) for stored in bands.values()]
                    images = np.moveaxis(read["images"][..., places], -1, 1).astype(np.float32)
                    if dataset == "sentinel1":
                        images = 10 * np.log10(images)
                    elif name == "m-so2sat":
                        images = images * np.float32(10_000)
                    np.testing.assert_allclose(tiles.arrays[dataset], images, rtol=1e-6)
