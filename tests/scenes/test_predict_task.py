"""`mmae predict` and others with fine-tuned models, through the real commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mmae
from mmae.cli import main
from mmae.errors import InputError
from mmae.model.tuned.task import Task
from tests.support.finetuned_models import COVER, HEIGHT, LABELS, SCENE, SOIL, finetuned, pretrained
from tests.support.scenes import needs_rasterio, pixels, read_geotiff, write_geotiff

rasterio = needs_rasterio()
BANDS = ("B2", "B3", "B4", "B8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("source") / "model")


def tuned(folder: Path, source: Path, task: Task) -> Path:
    """A model of RGB and one near-infrared band, as four-band images have them."""
    kind = "patch_linear" if task.dense else "linear"
    finetuned(folder / "tuned", source, task, kind, in_domains=["rgb", "ebands"], bands={"ebands": ["B8"]})
    return folder / "tuned"


def predict(model: Path, scene: Path, out: Path, *words: str) -> int:
    return main(["predict", str(model), str(scene), str(out), "--level", "l2a", *words])


@pytest.mark.parametrize("task", [COVER, HEIGHT, SCENE, LABELS, SOIL])
def test_one_window_is_what_the_model_says(task: Task, source: Path, tmp_path: Path) -> None:
    model, dn = tuned(tmp_path, source, task), pixels(32, 32, 4)
    dn[:, 8:16, :8] = 0
    scene = write_geotiff(tmp_path / "a.tif", dn, BANDS)
    assert predict(model, scene, tmp_path / "out") == 0
    encoder = mmae.load_encoder(model)
    expected = encoder.predict(dn[None], bands=list(BANDS), level="l2a")[0].numpy()
    if not task.dense:
        expected = np.broadcast_to(expected[:, None, None], (task.outputs, 4, 4))
    found = read_geotiff(tmp_path / "out" / f"{task.name}.tif")
    side = 8 if task.dense else 1
    data = np.ones(expected.shape[1:], bool)
    data[side : 2 * side, :side] = False
    if task.kind in {"segmentation", "classification"}:
        codes = np.array(task.codes)[expected.argmax(0)]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found[0][data], codes[data])
        assert set(found[0][~data].tolist()) == {255 if 0 in task.codes else 0}
    else:
        np.testing.assert_allclose(found[:, data], expected[:, data], rtol=1e-5, atol=1e-5)
        assert np.isnan(found[:, ~data]).all()


@pytest.mark.parametrize("task", [COVER, HEIGHT])
def test_a_scene_becomes_a_raster_on_its_ground(task: Task, source: Path, tmp_path: Path) -> None:
    model, dn = tuned(tmp_path, source, task), pixels(96, 64, 4, seed=3)
    scene = write_geotiff(tmp_path / "a.tif", dn, BANDS)
    assert predict(model, scene, tmp_path / "out", "--overlap", "0", "--outputs", task.name) == 0
    encoder = mmae.load_encoder(model)
    with rasterio.open(tmp_path / "out" / f"{task.name}.tif") as file, rasterio.open(scene) as given:
        assert file.crs == given.crs
        assert file.transform == given.transform
        assert file.tags()["mmae_model"] == "tuned"
        assert (file.descriptions[0] == "class") == (task is COVER)
        assert ("water" in file.tags()["units"]) == (task is COVER)
        found = file.read()
    for row, column in ((0, 0), (32, 32), (0, 32)):
        window = dn[None, :, row : row + 32, column : column + 32]
        expected = encoder.predict(window, bands=list(BANDS), level="l2a")[0].numpy()
        part = found[:, row : row + 32, column : column + 32]
        if task is COVER:
            np.testing.assert_array_equal(part[0], np.array(task.codes)[expected.argmax(0)])
        else:
            np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-4)


def test_vectors_come_from_fine_tuned_models_too(source: Path, tmp_path: Path) -> None:
    model = tuned(tmp_path, source, COVER)
    dn = pixels(32, 32, 4)
    scene = write_geotiff(tmp_path / "a.tif", dn, BANDS)
    assert main(["embed", str(model), str(scene), str(tmp_path / "v.tif"), "--level", "l2a"]) == 0
    found = mmae.load_encoder(model)(dn[None], bands=list(BANDS), level="l2a")
    mean = torch.stack(tuple(found.maps.values())).mean(0)[0].permute(2, 0, 1)
    np.testing.assert_allclose(read_geotiff(tmp_path / "v.tif"), mean.numpy(), rtol=1e-4, atol=1e-5)


def test_bands_of_the_model_are_those_it_was_tuned_with(source: Path, tmp_path: Path) -> None:
    encoder = mmae.load_encoder(tuned(tmp_path, source, COVER))
    assert encoder.plan(["B8"]).names == ("ebands",)
    with pytest.raises(InputError, match="this model has no band 'B8A'"):
        encoder.plan(["B8A", "B8"])
    dn = pixels(32, 32, 1)[None]
    values = encoder.inputs(dn, bands=["B8"], level="l2a").values["ebands"]
    torch.testing.assert_close(values, torch.from_numpy((dn.astype(np.float32) - 1500) / 800))


@pytest.mark.parametrize(("words", "message"), [
    (("--outputs", "rgb"), "--outputs rgb: this model is fine-tuned for cover alone: leave it out"),
    (("--window", "64"), "unrecognized arguments"),
])  # fmt: skip
def test_outputs_of_others_are_refused(words: tuple[str, str], message: str, source: Path, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    model = tuned(tmp_path, source, COVER)
    scene = write_geotiff(tmp_path / "a.tif", pixels(32, 32, 4), BANDS)
    try:
        code = predict(model, scene, tmp_path / "out", *words)
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pretrained_model_needs_outputs(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(32, 32, 4), BANDS)
    assert predict(source, scene, tmp_path / "out", "--bands", "B2,B3,B4,-") == 2
    assert "--outputs is missing: name the decoders of this pretrained model" in capsys.readouterr().err
    with pytest.raises(InputError, match="this model is pretrained and has no task to predict"):
        mmae.load_encoder(source).predict(pixels(32, 32, 3)[None], bands=["B2", "B3", "B4"], level="l2a")


def test_a_band_that_mmearth_lacks_is_used_where_there_are_statistics_of_it(source: Path, tmp_path: Path) -> None:
    from mmae.finetune.model.build_finetuned import build_finetuned
    from mmae.finetune.model.save_finetuned import save_finetuned

    built = build_finetuned(str(source), SCENE, in_domains=["rgb"], bands={"rgb": ["B4", "pan"]})
    stats = {"sentinel2_l2a": {"mean": [1500.0] * 13 + [2000.0], "std": [800.0] * 13 + [500.0]}}
    save_finetuned(tmp_path / "with", built.model, stats, built.origin)
    save_finetuned(tmp_path / "without", built.model, built.band_stats, built.origin)
    dn = pixels(32, 32, 2)[None]
    found = mmae.load_encoder(tmp_path / "with").inputs(dn, bands=["B4", "pan"], level="l2a").values["rgb"]
    torch.testing.assert_close(found[:, 1], torch.from_numpy((dn[:, 1].astype(np.float32) - 2000) / 500))
    with pytest.raises(InputError, match="modality 'rgb' needs 14"):
        mmae.load_encoder(tmp_path / "without").inputs(dn, bands=["B4", "pan"], level="l2a")
