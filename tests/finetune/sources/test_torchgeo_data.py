"""Data sets of TorchGeo by name: a module that stands for it has classes such as it has."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mmae.errors import InputError
from mmae.finetune.labelled.sample_labels import LABEL
from mmae.finetune.sources.torchgeo_data import TorchgeoData, open_torchgeo
from tests.support.tuning_case import tuning_config


class NonGeoDataset:
    """As TorchGeo's: anything with a length whose items are dictionaries."""


class EuroSAT(NonGeoDataset):
    """Images of one colour a class."""

    all_band_names = ("B04", "B03", "B02", "B8A")
    rgb_bands = ("B04", "B03", "B02")
    classes = ("forest", "river", "town")
    top = 2

    def __init__(self, root: str, split: str = "train", bands: Any = all_band_names, download: bool = False) -> None:
        assert split in {"train", "valid", "test"}
        assert not download
        if not Path(root, "data").exists():
            raise FileNotFoundError("no data\nhere")
        self.bands, self.split = tuple(bands), split

    def __len__(self) -> int:
        return {"train": 6, "valid": 3, "test": 4}[self.split]

    def __getitem__(self, number: int) -> dict[str, Any]:
        label = number % (self.top + 1)
        image = torch.full((len(self.bands), 8, 8), 500.0 * (label + 1))
        return {"image": image, "label": torch.tensor(label), "mask": torch.full((8, 8), label)}


class TopBand(EuroSAT):
    """A label that is none of its classes."""

    top = 3


class PlanetBands(EuroSAT):
    rgb_bands = ("B03", "B02", "B01")


class Unsplit(NonGeoDataset):
    def __init__(self, root: str) -> None:
        self.images = torch.rand(5, 3, 8, 8)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"image": self.images[number], "label": torch.tensor([float(number), np.nan])}


@pytest.fixture(autouse=True)
def _stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torchgeo.datasets")
    made = (NonGeoDataset, EuroSAT, TopBand, PlanetBands, Unsplit)
    module.__dict__.update({each.__name__: each for each in made}, __all__=tuple(each.__name__ for each in made))
    monkeypatch.setitem(sys.modules, "torchgeo", ModuleType("torchgeo"))
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", module)


def opened(root: Path, name: str, *more: str, kind: str = "classification") -> TorchgeoData:
    (root / "data").mkdir(exist_ok=True)
    head = "patch_linear" if kind in {"segmentation", "pixel_regression"} else "linear"
    words = ("source.kind=torchgeo", f"source.folder={root}", f"source.task={name}", f"task.kind={kind}")
    config = tuning_config(*words, f"model.head={head}", "data.shards=", *more)
    return open_torchgeo(config.source, kind)  # type: ignore[arg-type]


def test_splits_bands_and_classes_are_those_of_the_class(tmp_path: Path) -> None:
    data = opened(tmp_path, "EuroSAT")
    facts = data.facts
    assert {split: len(positions) for split, positions in facts.splits.items()} == {"train": 6, "val": 3, "test": 4}
    assert facts.bands == {"sentinel2": ("B4", "B3", "B2", "B8A")}
    assert facts.names == ("forest", "river", "town")
    assert facts.level == "l1c"
    read = data.read(int(facts.splits["val"][1]), ["sentinel2", LABEL])
    assert read["sentinel2"].shape == (4, 8, 8)
    assert (read["sentinel2"] == 1000).all()
    assert read[LABEL].tolist() == [1]
    masks = opened(tmp_path, "EuroSAT", "source.options=[bands=B04;]", kind="segmentation")
    assert masks.facts.bands == {"sentinel2": ("B4",)}
    np.testing.assert_array_equal(masks.read(2, [LABEL])[LABEL], np.full((1, 8, 8), 2))


def test_a_class_without_splits_is_all_training(tmp_path: Path) -> None:
    data = opened(tmp_path, "Unsplit", "source.units=picture", kind="regression")
    assert {split: len(positions) for split, positions in data.facts.splits.items()} == {"train": 5}
    assert data.facts.bands == {"sentinel2": ("B4", "B3", "B2")}
    np.testing.assert_array_equal(data.read(3, [LABEL])[LABEL], [3, np.nan])


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("EuroSat", (), "TorchGeo has no data set 'EuroSat' of single images; did you mean 'EuroSAT'"),
        ("NonGeoDatasets", (), "TorchGeo has no data set"),
        ("PlanetBands", ("source.level=l2a",), "numbers its bands otherwise than Sentinel-2"),
        ("TopBand", (), "source.level is not set"),
        ("Unsplit", ("source.units=picture",), "a label holds nan, which is no number of a class"),
        ("EuroSAT", ("source.options=[band=all]",), "did you mean 'bands'"),
        ("EuroSAT", ("source.options=[split=nowhere]",), "does not take .*split='nowhere'"),
        ("EuroSAT", ("source.bands=[B4,B3]",), "an image has 4 bands, and source.bands names 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_line(name: str, words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as refused:
        opened(tmp_path, name, *words).read(0, [LABEL])
    assert "\n" not in str(refused.value)


def test_a_label_out_of_range_and_missing_files_are_refused(tmp_path: Path) -> None:
    data = opened(tmp_path, "TopBand", "source.level=l2a")
    with pytest.raises(InputError, match="holds 3, which is none of the 3 classes"):
        data.read(3, [LABEL])
    assert opened(tmp_path, "TopBand", "source.level=l2a", "source.ignore=[3]").read(3, [LABEL])[LABEL].tolist() == [-1]
    (tmp_path / "data").rmdir()
    with pytest.raises(InputError, match=r"cannot be opened \(FileNotFoundError: no data\)"):
        open_torchgeo(
            tuning_config(
                "source.kind=torchgeo", f"source.folder={tmp_path}", "source.task=EuroSAT", "task.kind=classification",
                "model.head=linear", "data.shards=",
            ).source,
            "classification",
        )  # fmt: skip
