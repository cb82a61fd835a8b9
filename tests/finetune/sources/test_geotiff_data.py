"""Folders of GeoTIFFs as labelled data: bands, units, labels, splits, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmae.errors import InputError
from mmae.finetune.labelled.sample_labels import LABEL
from mmae.finetune.sources.geotiff_data import GeotiffData, open_geotiffs
from mmae.finetune.sources.source_set import as_set
from tests.support.labelled_images import SIDE, mask_of, place_of, write_images, write_masks
from tests.support.scenes import read_geotiff, write_geotiff
from tests.support.tuning_case import tuning_config

NAMES = ("train/a", "train/b", "val/a", "val/b", "test/a")
FLAT = ("a", "b", "c", "d")


def opened(folder: Path, *more: str, kind: str = "segmentation") -> GeotiffData:
    head = "linear" if kind in {"classification", "multilabel", "regression"} else "patch_linear"
    words = ["source.kind=geotiffs", f"source.folder={folder / 'images'}", f"task.kind={kind}", "source.level=l2a"]
    given = {word.partition("=")[0] for word in more}
    kept = [word for word in words if word.partition("=")[0] not in given]
    config = tuning_config(*kept, f"model.head={head}", "data.shards=", *more)
    return open_geotiffs(config.source, config.task)


def with_masks(folder: Path, *more: str, names: tuple[str, ...] = NAMES, side: int = SIDE) -> GeotiffData:
    write_images(folder / "images", names, side=side)
    write_masks(folder / "masks", names, side=side)
    return opened(folder, f"source.masks={folder / 'masks'}", *more)


def test_images_and_masks_are_read_by_name(tmp_path: Path) -> None:
    data = with_masks(tmp_path)
    facts = data.facts
    assert facts.keys == ("test/a", "train/a", "train/b", "val/a", "val/b")
    assert {split: positions.tolist() for split, positions in facts.splits.items()} == {
        "test": [0], "train": [1, 2], "val": [3, 4],
    }  # fmt: skip
    assert (facts.names, facts.codes) == (("class 3", "class 7"), (3, 7))
    assert facts.bands == {"sentinel2": ("B2", "B3", "B4", "B5", "B6", "B7")}
    assert "bands that match nothing, not read: thermal" in facts.notes
    read = data.read(2, ["sentinel2", LABEL])
    stored = read_geotiff(tmp_path / "images" / "train" / "b.tif")
    np.testing.assert_array_equal(read["sentinel2"], stored[:6].astype(np.float32))
    np.testing.assert_array_equal(read[LABEL][0], mask_of(1, SIDE, 2))
    assert facts.grounds[2].transform == place_of(1)
    assert facts.lat_N is not None
    assert np.abs(facts.lat_N - 45.15).max() < 0.01
    assert LABEL not in data.read(2, ["sentinel2"])


def test_cut_images_are_the_image_again_and_end_in_no_data(tmp_path: Path) -> None:
    data = with_masks(tmp_path, "source.tile=12", names=("a",))
    assert data.facts.keys == ("a@0,0", "a@0,12", "a@12,0", "a@12,12")
    tiles = [data.read(position, ["sentinel2", LABEL]) for position in range(4)]
    whole = np.block([[tile["sentinel2"] for tile in tiles[:2]], [tile["sentinel2"] for tile in tiles[2:]]])
    np.testing.assert_array_equal(whole[:, :SIDE, :SIDE], read_geotiff(tmp_path / "images" / "a.tif")[:6])
    assert np.isnan(whole[:, SIDE:]).all()
    assert np.isnan(whole[:, :, SIDE:]).all()
    labels = np.block([[tiles[0][LABEL][0], tiles[1][LABEL][0]], [tiles[2][LABEL][0], tiles[3][LABEL][0]]])
    np.testing.assert_array_equal(labels[:SIDE, :SIDE], mask_of(0, SIDE, 2))
    assert (labels[SIDE:] == -1).all()
    assert data.facts.grounds[3].transform[2::3] == (500_120.0, 4_999_880.0)


def test_what_a_file_declares_as_no_data_stays_so(tmp_path: Path) -> None:
    write_images(tmp_path / "images", FLAT)
    path = tmp_path / "images" / "a.tif"
    values = read_geotiff(path)
    values[:, 0, :3] = 65535
    write_geotiff(path, values, ("B2", "B3", "B4", "B5", "B6", "B7", "thermal"), transform=place_of(0), nodata=65535)
    write_masks(tmp_path / "masks", FLAT, codes=(0, 1))
    for number, name in enumerate(FLAT):
        mask = mask_of(number, SIDE, 2).astype(np.uint8)[None]
        write_geotiff(tmp_path / "masks" / f"{name}.tif", mask, None, transform=place_of(number), nodata=255)
    data = opened(tmp_path, f"source.masks={tmp_path / 'masks'}", "source.offset=-100")
    read = data.read(0, ["sentinel2"])["sentinel2"]
    assert np.isnan(read[:, 0, :3]).all()
    np.testing.assert_array_equal(read[:, 1:], values[:6, 1:].astype(np.float32) - 100)


def test_background_that_masks_declare_as_no_data_is_a_class_if_the_recipe_names_it(tmp_path: Path) -> None:
    write_images(tmp_path / "images", FLAT)
    for number, name in enumerate(FLAT):
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = mask_of(number, SIDE, 3).astype(np.uint8)[None]
        write_geotiff(tmp_path / "masks" / f"{name}.tif", mask, None, transform=place_of(number), nodata=0)
    masks = f"source.masks={tmp_path / 'masks'}"
    unsaid = opened(tmp_path, masks)
    assert unsaid.facts.codes == (1, 2)
    assert "masks declare 0 as no data: it is no class, and is not scored" in unsaid.facts.notes
    assert (unsaid.read(0, [LABEL])[LABEL][0][:, : SIDE // 2] == -1).all()
    said = opened(tmp_path, masks, "source.classes=[0:other,1:water,2:ice]")
    assert said.facts.names == ("other", "water", "ice")
    np.testing.assert_array_equal(said.read(0, [LABEL])[LABEL][0], mask_of(0, SIDE, 3))


def test_labels_of_images_come_from_a_file_or_from_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "images", FLAT)
    table = tmp_path / "labels.csv"
    table.write_text("image,label,split\nb.tif,ice,train\na,water,train\nd,,val\nnowhere,ice,val\n")
    data = opened(tmp_path, f"task.labels={table}", kind="classification")
    assert data.facts.keys == ("a", "b", "d")
    assert data.facts.names == ("ice", "water")
    assert [int(data.read(place, [LABEL])[LABEL][0]) for place in range(3)] == [1, 0, -1]
    assert {split: places.tolist() for split, places in data.facts.splits.items()} == {"train": [0, 1], "val": [2]}
    assert f"1 of 4 images have no line in {table} and are left out" in data.facts.notes
    write_images(tmp_path / "more" / "images", ("train/water/a", "train/ice/b", "test/ice/a"))
    found = opened(tmp_path / "more", kind="classification")
    assert found.facts.names == ("ice", "water")
    assert [int(found.read(place, [LABEL])[LABEL][0]) for place in range(3)] == [0, 0, 1]
    assert sorted(found.facts.splits) == ["test", "train"]


def test_reflectance_and_pictures_are_brought_to_units(tmp_path: Path) -> None:
    write_images(tmp_path / "a" / "images", FLAT, dtype="float32")
    write_images(tmp_path / "b" / "images", FLAT, bands=("red", "green", "blue"), dtype="uint8")
    write_masks(tmp_path / "masks", FLAT)
    masks = f"source.masks={tmp_path / 'masks'}"
    values = opened(tmp_path / "a", masks, "source.units=reflectance").read(0, ["sentinel2"])["sentinel2"]
    stored = read_geotiff(tmp_path / "a" / "images" / "a.tif")
    np.testing.assert_allclose(values, 1e4 * stored[:6], rtol=1e-5)
    picture = opened(tmp_path / "b", masks, "source.units=picture", "source.level=null")
    shown = picture.read(0, ["sentinel2"])["sentinel2"]
    np.testing.assert_array_equal(shown, read_geotiff(tmp_path / "b" / "images" / "a.tif").astype(np.float32) + 1)
    assert picture.facts.pictures == {"sentinel2"}
    # A picture has no level: its statistics stand where those of L2A do.
    assert as_set(picture).index.band_stats.keys() == {"sentinel2_l2a"}


def _mask_of_another_size(folder: Path) -> None:
    write_masks(folder / "masks", NAMES[:1], side=8)


def _mask_elsewhere(folder: Path) -> None:
    mask = np.zeros((1, SIDE, SIDE), np.uint8)
    write_geotiff(folder / "masks" / "train" / "a.tif", mask, None, transform=place_of(9), nodata=None)


def _mask_of_fractions(folder: Path) -> None:
    mask = np.full((1, SIDE, SIDE), 0.5, np.float32)
    write_geotiff(folder / "masks" / "train" / "a.tif", mask, None, transform=place_of(0), nodata=None)


def _image_of_another_size(folder: Path) -> None:
    write_images(folder / "images", NAMES[:1], side=24)
    write_masks(folder / "masks", NAMES[:1], side=24)


def _bands_in_another_order(folder: Path) -> None:
    write_images(folder / "images", NAMES[:1], bands=("B3", "B2", "B4", "B5", "B6", "B7", "thermal"))


def _no_names(folder: Path) -> None:
    write_images(folder / "images", NAMES, bands=None)


def _pictures(folder: Path) -> None:
    write_images(folder / "images", NAMES, dtype="uint8")


def _a_broken_image(folder: Path) -> None:
    (folder / "images" / "train" / "a.tif").write_bytes(b"II*\0nothing")


def _no_masks(folder: Path) -> None:
    for path in (folder / "masks").rglob("*.tif"):
        path.rename(path.with_name(f"mask_{path.name}"))


FAULTS: list[tuple[Callable[[Path], None], tuple[str, ...], str]] = [
    (_mask_of_another_size, (), r"masks/train/a.tif: is 8x8 pixels, and its image 16x16"),
    (_mask_elsewhere, (), "does not lie where its image does"),
    (_mask_of_fractions, (), r"holds 0.5, which is no number of a class"),
    (_image_of_another_size, (), r"bring the images to one size, or cut them into tiles with source.tile"),
    (_bands_in_another_order, (), "write all images with the same bands in the same order"),
    (_no_names, (), r"its bands have no names: set source.bands"),
    (_pictures, (), r"its numbers have 8 bits.*source.units=picture"),
    (_a_broken_image, (), r"train/a.tif: cannot be read as a GeoTIFF"),
    (_no_masks, (), "has the name of an image"),
    (lambda folder: None, ("source.level=null",), "source.level is not set"),
    (lambda folder: None, ("source.bands=[B2,B3]",), "has 7 bands, and source.bands names 2"),
    (lambda folder: None, ("source.units=linear",), "source.units=linear fits none of its bands"),
    (lambda folder: None, ("source.classes=[one:water,2:ice]",), "is not NUMBER:NAME"),
    (lambda folder: None, ("source.ignore=[3,7]",), "the masks hold 0 class"),
]


@pytest.mark.parametrize(("fault", "words", "said"), FAULTS)
def test_files_that_do_not_fit_are_refused_with_a_line(
    fault: Callable[[Path], None], words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with_masks(tmp_path)
    fault(tmp_path)
    with pytest.raises(InputError, match=said) as refused:
        opened(tmp_path, f"source.masks={tmp_path / 'masks'}", *words)
    assert "\n" not in str(refused.value)


def test_a_number_that_is_no_class_is_refused_when_it_is_read(tmp_path: Path) -> None:
    data = with_masks(tmp_path, "source.classes=[3:water,8:ice]")
    with pytest.raises(InputError, match="pixels hold 7, which is none of the classes 3, 8"):
        data.read(0, [LABEL])
