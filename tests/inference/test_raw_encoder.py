"""The encoder for raw arrays agrees with MMEarth's own path, whatever bands, order and dtype the arrays have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mmae
from mmae.errors import InputError
from mmae.inference.raw_encoder import Encoded, RawEncoder
from mmae.modalities import DATASET_BANDS, MODALITIES
from mmae.model.encoder import EncoderModel
from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from mmae.raw_tiles import raw_inputs
from tests.support.raw_encoder_case import CONFIG, STATS

Land = Callable[..., NDArray[np.uint16]]
NAMES = {
    dataset: [
        next((row.band_names[row.bands.index(band)] for row in MODALITIES.values()
              if row.dataset == dataset and band in row.bands), "") for band in range(bands)
    ]
    for dataset, bands in DATASET_BANDS.items()
}  # fmt: skip
"""Names of a dataset's bands in MMEarth's order; empty where no modality takes the band."""


def named(arrays: dict[str, NDArray[Any]], inputs: tuple[str, ...], order: Any = list) -> tuple[Any, Any]:
    """The bands of datasets that a model's inputs take, in an order, and their names."""
    some, bands = {}, {}
    for dataset, array in arrays.items():
        taken = {band for name in inputs if MODALITIES[name].dataset == dataset for band in MODALITIES[name].bands}
        places = order(sorted(taken))
        some[dataset], bands[dataset] = array[:, places], [NAMES[dataset][place] for place in places]
    return some, bands


def same(found: Encoded, model: EncoderModel, inputs: Any) -> None:
    with torch.no_grad():
        expected = features(model, inputs.values, inputs.token_valid)
    assert list(found.maps) == list(expected.maps)
    for name, tokens in expected.maps.items():
        torch.testing.assert_close(found.maps[name], tokens, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.global_tokens, expected.global_tokens, rtol=0, atol=1e-6)


@pytest.mark.long
def test_real_tiles_as_the_path_for_whole_datasets(mini_set: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, stats = mini_set
    save_model(tmp_path / "model", MultiMAE(CONFIG), stats)
    encoder = mmae.load_encoder(tmp_path / "model")
    with h5py.File(path) as file:
        arrays = {name: file[name][::15] for name in ("sentinel2", "aster", "esa_worldcover", "sentinel1")}
        levels = [kind.decode() for kind in file["metadata"]["S2_type"][::15]]
    assert set(levels) == {"l1c", "l2a"}
    whole = raw_inputs(encoder.saved, arrays, levels)
    shuffle = np.random.default_rng(1).permutation
    for order in (list, lambda places: places[::-1], lambda places: shuffle(places).tolist()):
        some, bands = named(arrays, CONFIG.in_domains, order)
        given = encoder.inputs(some, bands=bands, level=levels)
        for name in CONFIG.in_domains:
            assert torch.equal(given.values[name], whole.values[name])
            assert torch.equal(given.token_valid[name], whole.token_valid[name])
        same(encoder(some, bands=bands, level=levels), encoder.model, whole)
    # Bands of two modalities, as tensors of another dtype, from one array whose dataset is found.
    subset = ("rgb", "ebands")
    some, bands = named({"sentinel2": arrays["sentinel2"]}, subset, lambda places: places[::-1])
    part = raw_inputs(encoder.saved, {"sentinel2": arrays["sentinel2"]}, levels)
    part = replace(part, values={name: part.values[name] for name in subset},
                   token_valid={name: part.token_valid[name] for name in subset})  # fmt: skip
    values = torch.tensor(some["sentinel2"].astype(np.float64))
    same(encoder(values, bands=bands["sentinel2"], level=levels), encoder.model, part)


def test_other_units_of_the_same_tiles(encoder: RawEncoder, land: Land) -> None:
    stored = land(tiles=9)[:, [1, 2, 3]]
    bands = ["B2", "B3", "B4"]
    expected = encoder(stored, bands=bands, level="l2a")
    reflectance = stored / 10_000
    for values, words in (
        (reflectance, {"units": "reflectance"}),
        (stored + 1000, {"offset": -1000}),
        (reflectance + 0.1, {"units": {"sentinel2": "reflectance"}, "offset": -1000.0}),
        (stored, {"level": ["L2A"] * 9}),
    ):
        found = encoder(values, bands=bands, **{"level": "l2a", **words})  # type: ignore[arg-type]
        torch.testing.assert_close(found.vector, expected.vector, rtol=1e-4, atol=1e-4)


def test_a_vector_is_the_mean_of_tokens_with_data(encoder: RawEncoder, land: Land) -> None:
    stored = land(tiles=4)[:, [3, 2, 1]]
    stored[1, :, :8, :16] = 0
    stored[2] = 0
    out = encoder({"sentinel2": stored, "aster": np.ones((4, 1, 16, 24), np.float32)},
                  bands={"sentinel2": ["B4", "B3", "B2"], "aster": ["elevation"]}, level="l2a")  # fmt: skip
    assert {name: tuple(tokens.shape) for name, tokens in out.maps.items()} == dict.fromkeys(
        ("rgb", "depth"), (4, 2, 3, encoder.dim)
    )
    assert out.valid["rgb"].flatten(1).sum(1).tolist() == [6, 4, 0, 6]
    kept = torch.cat([out.maps["rgb"][1][out.valid["rgb"][1]], out.maps["depth"][1].flatten(0, 1)])
    torch.testing.assert_close(out.vector[1], kept.mean(0))
    torch.testing.assert_close(out.vector[2], out.maps["depth"][2].flatten(0, 1).mean(0))
    alone = encoder(stored, bands=["B4", "B3", "B2"], level="l2a")
    assert alone.vector.isnan().any(1).tolist() == [False, False, True, False]
    pooled = encoder(stored, bands=["B4", "B3", "B2"], level="l2a", pooling="global")
    torch.testing.assert_close(pooled.vector[0], pooled.global_tokens[0].mean(0))
    assert pooled.vector.isnan().any(1).tolist() == [False, False, True, False]
    assert not out.vector.requires_grad


def test_the_output_of_a_chosen_block(encoder: RawEncoder, land: Land) -> None:
    stored, bands = land()[:, [3, 2, 1]], ["B4", "B3", "B2"]
    seen: list[torch.Tensor] = []
    hook = encoder.model.encoder.blocks[0].register_forward_hook(lambda *called: seen.append(called[2]))
    last = encoder(stored, bands=bands, level="l2a")
    hook.remove()
    first = encoder(stored, bands=bands, level="l2a", block=0)
    torch.testing.assert_close(first.maps["rgb"].flatten(1, 2), seen[0][:, :6])
    torch.testing.assert_close(first.global_tokens, seen[0][:, 6:])
    assert torch.equal(encoder(stored, bands=bands, level="l2a", block=-2).vector, first.vector)
    assert torch.equal(encoder(stored, bands=bands, level="l2a", block=1).vector, last.vector)
    assert not torch.equal(first.vector, last.vector)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"level": None}, "level is missing: the statistics of rgb are those of a Sentinel-2 level"),
        ({"level": "l3"}, "level 'l3' is not known"),
        ({"level": ["l1c", "l2a"]}, "2 levels are given for 3 tiles"),
        ({"bands": ["B4", "B3"]}, "complete no modality"),
        ({"bands": ["B4", "B3", "B2", "B9"]}, "no band 'B9'"),
        ({"bands": ["B4", "B3", "B2", "B8"]}, r"shape \(3, 3, 16, 24\) has 3 bands, and bands name 4"),
        ({"bands": {"sentinel2": ["B4", "B3", "B2"]}}, "bands is a mapping, and arrays is one array"),
        ({"units": "percent"}, "units 'percent' are not known"),
        ({"pooling": "max"}, "pooling='max' is not known"),
        ({"level": None}, r"say level='l1c' \(top of atmosphere\) or level='l2a'"),
        ({"level": 2}, "level=2 is not known: say 'l1c' or 'l2a', or give a list"),
        ({"level": {"l1c", "l2a"}}, "is not known: say 'l1c' or 'l2a', or give a list"),
        ({"block": 1.5}, "block=1.5: give a whole number"),
        ({"block": "1"}, "block='1': give a whole number"),
        ({"block": 2}, "block=2: this encoder has 2 blocks, 0 to 1"),
    ],
)
def test_words_that_cannot_be(words: dict[str, Any], message: str, encoder: RawEncoder, land: Land) -> None:
    with pytest.raises(InputError, match=message):
        encoder(land()[:, [3, 2, 1]], **{"bands": ["B4", "B3", "B2"], "level": "l2a", **words})


def test_arrays_that_cannot_be(encoder: RawEncoder, land: Land) -> None:
    rgb, bands = land("l2a", 9)[:, [3, 2, 1]], ["B4", "B3", "B2"]
    codes = np.full((9, 1, 16, 24), 10, np.uint8)
    wrong: list[tuple[Any, Any, str]] = [
        (rgb[0], bands, r"shape \(3, 16, 24\), \(B, C, H, W\) was expected"),
        ([1, 2], bands, r"shape \(\), \(B, C, H, W\)"),
        (rgb[..., :20], bands, "16x20 pixels do not divide into patches of 8x8"),
        ({"sentinel2": rgb, "aster": codes[:4]}, {"sentinel2": bands, "aster": ["elevation"]}, "'aster' holds 4 tiles"),
        ({"sentinel2": rgb, "aster": codes[..., :16]}, {"sentinel2": bands, "aster": ["elevation"]}, "differ in size"),
        ({"sentinel2": rgb, "aster": codes}, bands, "arrays hold sentinel2, aster: give a mapping"),
        ({"sentinel2": rgb}, {"sentinel2": bands, "aster": ["elevation"]}, "'aster' is not in arrays"),
        ({"sentinel2": rgb, "aster": codes}, {"sentinel2": bands}, "'aster' is not in bands"),
        ({"esa_worldcover": codes / 2}, ["class"], "esa_worldcover has dtype torch.float32, and class codes are"),
        ({"esa_worldcover": codes // 3}, ["class"], r"no class \(3\).*translate them to these"),
        (rgb / 10_000, bands, "scale: .*say units='reflectance', which multiplies them by 10000; .*check_units=False"),
        (rgb / 100, bands, "scale: .*multiply them by about 100;"),
        (rgb + 1000, bands, "offset: .*baseline 04.00 .*say offset=-1000, which is added"),
    ]
    for arrays, names, message in wrong:
        with pytest.raises(InputError, match=message) as raised:
            encoder(arrays, bands=names, level="l2a")
        assert "\n" not in str(raised.value)
    radar = np.full((9, 8, 16, 24), 0.06)
    orbits = [f"{orbit} {pol}" for orbit in ("asc", "desc") for pol in ("VV", "VH", "HH", "HV")]
    with pytest.raises(InputError, match=r"decibels .*say units='linear'"):
        encoder({"sentinel1": radar}, bands=orbits)
    assert encoder({"sentinel1": radar}, bands=orbits, units="linear").vector.isfinite().all()
    assert encoder(rgb / 10_000, bands=bands, level="l2a", check_units=False).vector.isfinite().all()


def test_names_without_an_order_are_refused(encoder: RawEncoder, land: Land) -> None:
    rgb = land()[:, [3, 2, 1]]
    wrong: list[Any] = [{"B4", "B3", "B2"}, (name for name in ("B4", "B3", "B2")), 3, "B4", []]
    for names in wrong:
        for arrays, bands in ((rgb, names), ({"sentinel2": rgb}, {"sentinel2": names})):
            with pytest.raises(InputError, match="give a list of names in the order of the array's bands"):
                encoder(arrays, bands=bands, level="l2a")
    expected = encoder(rgb, bands=["B4", "B3", "B2"], level="l2a").vector
    right: list[Any] = [np.array(["B4", "B3", "B2"]), ("B4", "B3", "B2")]
    for names in right:
        assert torch.equal(encoder(rgb, bands=names, level="l2a").vector, expected)


def test_flipped_arrays_and_pictures(encoder: RawEncoder, land: Land) -> None:
    rgb, bands = land()[:, [3, 2, 1]], ["B4", "B3", "B2"]
    expected = encoder(rgb, bands=bands, level="l2a").vector
    assert torch.equal(encoder(rgb[:, ::-1], bands=bands[::-1], level="l2a").vector, expected)
    picture = (rgb // 16).astype(np.uint8)
    with pytest.raises(InputError, match="dtype uint8, as pictures have"):
        encoder(picture, bands=bands, level="l2a")
    assert encoder(picture, bands=bands, level="l2a", check_units=False).vector.isfinite().all()


def test_one_tile_in_other_units_is_found(encoder: RawEncoder, land: Land) -> None:
    with pytest.raises(InputError, match="units='reflectance'"):
        encoder(land(tiles=1)[:, [3, 2, 1]] / 10_000, bands=["B4", "B3", "B2"], level="l2a")
    # Without B10 nothing is said about the level.
    assert encoder(land("l1c", 9)[:, [3, 2, 1]], bands=["B4", "B3", "B2"], level="l1c").vector.isfinite().all()


def test_infrared_bands_alone_may_all_be_bright(encoder: RawEncoder) -> None:
    """Dry grass: only the visible bands tell an offset."""
    meadow = np.random.default_rng(0).integers(1000, 2600, (9, 3, 16, 24), np.uint16)
    assert encoder(meadow, bands=["B5", "B6", "B7"], level="l2a").vector.isfinite().all()
    with pytest.raises(InputError, match="offset"):
        encoder(meadow, bands=["B2", "B3", "B4"], level="l2a")


def test_a_level_without_statistics(tmp_path: Path, land: Land) -> None:
    save_model(tmp_path / "model", MultiMAE(CONFIG), {"sentinel2_l1c": STATS["sentinel2_l1c"]})
    encoder = mmae.load_encoder(str(tmp_path / "model"))
    with pytest.raises(
        InputError, match=r"3 of 3 tiles are Sentinel-2 l2a, .*no entry 'sentinel2_l2a', which rgb need"
    ):
        encoder(land()[:, [3, 2, 1]], bands=["B4", "B3", "B2"], level="l2a")


def test_what_the_encoder_says_of_itself(encoder: RawEncoder) -> None:
    assert (encoder.dim, encoder.patch_size) == (64, 8)
    assert encoder.plan(["B2", "B3", "B4", "B8"]).unused == {"sentinel2": ("B8",)}
    assert encoder.plan({"aster": ["elevation"]}).names == ("depth",)
    assert not encoder.model.training


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    save_model(tmp_path / "model", MultiMAE(CONFIG), STATS)
    for device in ("nonsense", "cuda:99", None):
        with pytest.raises(InputError, match=r"^device=.* cannot be used here \(.*\): say device='cpu'$"):
            mmae.load_encoder(tmp_path / "model", device=device)  # type: ignore[arg-type]


def test_statistics_that_cannot_be_of_the_values(tmp_path: Path, land: Land) -> None:
    rgb, bands = land()[:, [3, 2, 1]], ["B4", "B3", "B2"]
    own = STATS["sentinel2_l2a"]
    for number, (table, message) in enumerate((
        ({"std": [1e-300] * 13}, "rgb: normalised values are beyond every float32"),
        ({"mean": [10**400] * 13}, "sentinel2_l2a.mean is not a list of numbers"),
        ({"mean": [0.0] * 13, "std": [0.0] * 13}, "no entry 'sentinel2_l2a', which rgb needs: give tiles of"),
        ({"std": [0.0] * 13}, "leave the bands of this modality out, or take a model"),
    )):  # fmt: skip
        save_model(tmp_path / f"{number}", MultiMAE(CONFIG), STATS | {"sentinel2_l2a": own | table})
        with pytest.raises(InputError, match=message):
            mmae.load_encoder(tmp_path / f"{number}")(rgb, bands=bands, level="l2a", check_units=False)
    save_model(tmp_path / "none", MultiMAE(CONFIG), {})
    encoder = mmae.load_encoder(tmp_path / "none")
    with pytest.raises(InputError, match=r"3 tiles are Sentinel-2 l2a, and .* no entry 'sentinel2_l2a'"):
        encoder(rgb, bands=bands, level="l2a")
    with pytest.raises(InputError, match=r"^the band statistics .* no entry 'aster', which depth needs: leave"):
        encoder(rgb[:, :1], bands=["elevation"])


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="None is no path: name a folder"):
        mmae.load_encoder(None)  # type: ignore[arg-type]
    for name in (tmp_path / "none", "none", "./a/b", "a/b/c"):
        with pytest.raises(InputError, match="does not exist: name a folder"):
            mmae.load_encoder(name)
    with pytest.raises(InputError, match=r"revision 'v1': .* is a folder here"):
        mmae.load_encoder(tmp_path, revision="v1")
