"""TerraTorch, torchgeo-bench and TorchGeo themselves load what was exported, on made-up data."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from tests.support.exported_models import IMAGES, export, image, many_inputs, saved
from tests.support.other_tools import tools_python

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools_python(tmp_path_factory.mktemp("tools") / "environment")


@pytest.fixture(scope="module")
def model() -> MultiMAE:
    return many_inputs()


@pytest.fixture(scope="module")
def source(model: MultiMAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(model, tmp_path_factory.mktemp("source") / "model")


def run(*words: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


BACKBONE = """
import sys, torch
from safetensors.torch import load_file
from terratorch.cli_tools import import_custom_modules
from terratorch.registry import BACKBONE_REGISTRY
import_custom_modules("mmae_terratorch")
# TerraTorch computes float32 products in bfloat16 unless it is told not to.
torch.set_float32_matmul_precision("highest")
backbone = BACKBONE_REGISTRY.build("mmae_encoder", pretrained=True).eval()
values = load_file(sys.argv[1])
expected = values.pop("expected")
with torch.inference_mode():
    found = backbone(values)
    image = torch.cat([values[name] for name in backbone.encoder.bands], dim=1)
    assert torch.equal(backbone(image)[-1], found[-1])
assert [each.shape for each in found] == [expected.shape] * len(backbone.out_channels), backbone.out_channels
torch.testing.assert_close(found[-1], expected, rtol=1e-5, atol=1e-5)
print("largest difference", float((found[-1] - expected).abs().max()))
"""


def test_terratorch_builds_the_backbone(python: Path, model: MultiMAE, source: Path, tmp_path: Path) -> None:
    assert export(source, tmp_path / "out", "--format", "terratorch", "--level", "l2a") == 0
    values = {name: image(name, 2, (64, 64)) for name in IMAGES}
    with torch.inference_mode():
        maps = features(model, values).maps
    expected = torch.stack([*maps.values()]).mean(0).permute(0, 3, 1, 2).contiguous()
    save_file({**values, "expected": expected}, tmp_path / "values.safetensors")
    print(run(python, "-c", BACKBONE, tmp_path / "values.safetensors", cwd=tmp_path / "out"))


TILES = """
import sys, numpy, rasterio
from pathlib import Path
from rasterio.transform import from_origin
draw = numpy.random.default_rng(0)
for kind, bands, low, high in (("images", int(sys.argv[1]), 1900, 2100), ("labels", 1, 0, 2)):
    Path(kind).mkdir()
    for number in range(4):
        shape = {"width": 64, "height": 64, "count": bands, "dtype": "int16"}
        place = {"crs": "EPSG:32632", "transform": from_origin(0, 0, 10, 10)}
        with rasterio.open(f"{kind}/{number}.tif", "w", driver="GTiff", **shape, **place) as file:
            file.write(draw.integers(low, high, (bands, 64, 64)).astype("int16"))
"""


def test_terratorch_fits_a_step_of_encoder_and_upernet(python: Path, source: Path, tmp_path: Path) -> None:
    words = ("--level", "l2a", "--modalities", "rgb,ebands")
    assert export(source, tmp_path / "out", "--format", "terratorch", *words) == 0
    run(python, "-c", TILES, "5", cwd=tmp_path)
    roots = [
        f"--data.init_args.{split}_{kind}data_root={tmp_path / place}"
        for split in ("train", "val", "test")
        for kind, place in (("", "images"), ("label_", "labels"))
    ]
    small = ("--data.init_args.batch_size=2", "--data.init_args.num_workers=0")
    trainer = ("max_steps=1", "accelerator=cpu", "logger=false", "enable_checkpointing=false")
    said = run(
        python.with_name("terratorch"), "fit", "--config", "config.yaml", *small, *roots,
        *(f"--trainer.{word}" for word in trainer), cwd=tmp_path / "out",
    )  # fmt: skip
    assert "`max_steps=1` reached" in said


EUROSAT = """
import io, json, pickle, tarfile, numpy
from pathlib import Path
from torchgeo_bench.datasets import get_bench_dataset_class
bands = get_bench_dataset_class("m-eurosat")().bands
folder = Path("data/classification_v1.0_wds/m-eurosat")
folder.mkdir(parents=True)
draw, names = numpy.random.default_rng(0), [f"s{number}" for number in range(60)]
with tarfile.open(folder / "shard_000.tar", "w") as tar:
    for number, name in enumerate(names):
        image, arrays = io.BytesIO(), {}
        for band in bands:
            arrays[band.source_name] = draw.normal(band.mean + number % 10 * band.std, band.std, (64, 64))
        numpy.savez(image, **arrays)
        meta = pickle.dumps({"label": number % 10, "bands_order": list(arrays)})
        for end, content in (("bands.npz", image.getvalue()), ("meta.pkl", meta)):
            member = tarfile.TarInfo(f"{name}.{end}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
split = {"train": names[:30], "valid": names[30:40], "test": names[40:]}
(folder / "default_partition.json").write_text(json.dumps(split))
"""


@pytest.mark.parametrize(
    ("normalization", "bands", "pooling"), [("model_native", "all", "mean"), ("bandspec_zscore", "rgb", "global")]
)
def test_torchgeo_bench_scores_a_task(
    normalization: str, bands: str, pooling: str, python: Path, source: Path, tmp_path: Path
) -> None:
    assert export(source, tmp_path / "out", "--format", "torchgeo-bench", "--level", "l1c") == 0
    run(python, "-c", EUROSAT, cwd=tmp_path)
    words = (
        "model=mmae", "dataset.names=[m-eurosat]", f"dataset.bands={bands}", f"model.pooling={pooling}",
        f"dataset.normalization={normalization}", "dataset.image_size=64", "dataset.num_workers=0", "device=cpu",
        "eval.bootstrap=5", "eval.c_range=[-2,2,3]", "output=results.csv",
    )  # fmt: skip
    tool = python.with_name("torchgeo-bench")
    run(tool, "run", "--config-dir", tmp_path / "out" / "conf", *words, cwd=tmp_path, PYTHONPATH=str(tmp_path / "out"))
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    scores = {row["method"]: float(row["metric_value"]) for row in rows if row["metric_name"] == "accuracy"}
    assert scores.keys() == {"knn5", "linear"}
    # The classes are bright and dark: chance is 0.1.
    assert scores["knn5"] > 0.5
    assert {(row["name"], row["feature_dim"], row["normalization"]) for row in rows} == {
        ("mmae-nano", "64", normalization)
    }


ENTRY = """
import sys, torch, torchgeo.models
import torchvision.transforms.v2 as T
from pathlib import Path
from safetensors.torch import load_file
from torchvision.models._api import Weights, WeightsEnum
entry = eval(Path("entry.py").read_text())
(file,) = Path.cwd().glob("*.pth")
class Ours(WeightsEnum):
    FIRST = Weights(url=file.as_uri(), transforms=entry.transforms, meta=entry.meta)
network = getattr(torchgeo.models, entry.meta["model"])(weights=Ours.FIRST, **entry.meta["model_args"]).eval()
values = load_file(sys.argv[1])
with torch.inference_mode():
    found = network.forward_features(values["rgb"])
torch.testing.assert_close(found, values["expected"], rtol=1e-5, atol=1e-5)
print("largest difference", float((found - values["expected"]).abs().max()))
"""


def test_torchgeo_builds_the_encoder_by_its_own_function(
    python: Path, model: MultiMAE, source: Path, tmp_path: Path
) -> None:
    assert export(source, tmp_path / "out", "--format", "torchgeo", "--modality", "rgb", "--level", "l2a") == 0
    values = image("rgb", 2)
    with torch.inference_mode():
        found = features(model, {"rgb": values})
    expected = torch.cat([found.global_tokens, found.maps["rgb"].flatten(1, 2)], dim=1)
    save_file({"rgb": values, "expected": expected}, tmp_path / "values.safetensors")
    cache = {"TORCH_HOME": str(tmp_path / "torch")}
    print(run(python, "-c", ENTRY, tmp_path / "values.safetensors", cwd=tmp_path / "out", **cache))
