"""timm and transformers load the exported folder strictly, and compute what `mmae.features` computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from tests.support.exported_models import BAND_STATS, IMAGES, export, image, many_inputs, near, near_the_largest, saved

SIZES = ((56, 56), (64, 64), (112, 112), (224, 224), (64, 120))
DEEP = ("small", "base", "large", "huge")


@pytest.fixture(scope="module")
def model() -> MultiMAE:
    return many_inputs()


@pytest.fixture(scope="module")
def source(model: MultiMAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(model, tmp_path_factory.mktemp("source") / "model")


def ours(model: MultiMAE, name: str, values: Tensor) -> Tensor:
    """Global tokens and then the map's, (B, G + n, D), in timm's order."""
    with torch.inference_mode():
        found = features(model, {name: values})
    return torch.cat([found.global_tokens, found.maps[name].flatten(1, 2)], dim=1)


def theirs(folder: Path, values: Tensor) -> Tensor:
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        found: Tensor = loaded.forward_features(values)
    return found


def timm_export(source: Path, out: Path, *words: object) -> Path:
    level = () if any(name in words for name in IMAGES[4:]) else ("--level", "l2a")
    assert export(source, out, "--format", "timm", *level, *words) == 0
    return out


@pytest.mark.long
@pytest.mark.parametrize("name", IMAGES)
def test_timm_computes_the_features_of_each_modality(name: str, model: MultiMAE, source: Path, tmp_path: Path) -> None:
    folder, values = timm_export(source, tmp_path / "timm", "--modality", name), image(name, 2)
    near(theirs(folder, values), ours(model, name, values))


@pytest.mark.long
@pytest.mark.parametrize("hw", SIZES)
def test_timm_computes_the_features_of_each_image_size(
    hw: tuple[int, int], model: MultiMAE, source: Path, tmp_path: Path
) -> None:
    words = ("--modality", "rgb", "--image-size", str(hw[0]) if hw[0] == hw[1] else f"{hw[0]}x{hw[1]}")
    folder, values = timm_export(source, tmp_path / "timm", *words), image("rgb", 2, hw)
    near(theirs(folder, values), ours(model, "rgb", values))


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("positions", ["fixed", "learned"])
def test_global_tokens_and_learned_positions_come_along(number: int, positions: str, tmp_path: Path) -> None:
    model = many_inputs(num_global_tokens=number, positions=positions)
    source, values = saved(model, tmp_path / "model"), image("ired", 2, (64, 120))
    folder = timm_export(source, tmp_path / "timm", "--modality", "ired", "--image-size", "64x120")
    near(theirs(folder, values), ours(model, "ired", values))
    pooled = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(values)
    found = features(model, {"ired": values})
    near(pooled, found.global_tokens[:, 0] if number else found.maps["ired"].mean((1, 2)))


@pytest.mark.long
@pytest.mark.parametrize("size", ["tiny", *(pytest.param(size, marks=pytest.mark.slow) for size in DEEP)])
def test_timm_computes_the_features_of_each_size(size: str, tmp_path: Path) -> None:
    model = many_inputs(size)
    source = saved(model, tmp_path / "model")
    for name in ("rgb",) if size == "tiny" else IMAGES:
        folder, values = timm_export(source, tmp_path / name, "--modality", name), image(name, 1)
        (near if size == "tiny" else near_the_largest)(theirs(folder, values), ours(model, name, values))
        # The largest takes gigabytes.
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "base", "large"])
def test_in_double_precision_nothing_differs(size: str, tmp_path: Path) -> None:
    """What differs in float32 is rounding."""
    model = many_inputs(size)
    folder = timm_export(saved(model, tmp_path / "model"), tmp_path / "timm", "--modality", "rgb")
    values = image("rgb", 1).double()
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().double()
    with torch.inference_mode():
        found = loaded.forward_features(values)
    torch.testing.assert_close(found, ours(model.double(), "rgb", values), rtol=1e-11, atol=1e-11)


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_transformers_loads_the_same_folder(number: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = many_inputs(num_global_tokens=number)
    source, values = saved(model, tmp_path / "model"), image("ebands", 2)
    folder = timm_export(source, tmp_path / "timm", "--modality", "ebands")
    loaded, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    with torch.inference_mode():
        found = loaded.eval()(pixel_values=values).last_hidden_state
    near(found, ours(model, "ebands", values))


@pytest.mark.long
def test_features_only_and_a_head(model: MultiMAE, source: Path, tmp_path: Path) -> None:
    folder, values = timm_export(source, tmp_path / "timm", "--modality", "rgb"), image("rgb", 2)
    maps = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True, out_indices=(0, 1)).eval()
    with torch.inference_mode():
        found = maps(values)
        expected = features(model, {"rgb": values}).maps["rgb"].permute(0, 3, 1, 2)
    assert [tuple(each.shape) for each in found] == [(2, 64, 7, 7)] * 2
    near(found[-1], expected)
    head = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=10)
    assert head(values).shape == (2, 10)


@pytest.mark.long
@pytest.mark.parametrize("change", ["removed", "added"])
def test_timm_reads_the_weights_strictly(change: str, source: Path, tmp_path: Path) -> None:
    folder = timm_export(source, tmp_path / "timm", "--modality", "rgb")
    state = load_file(folder / "model.safetensors")
    if change == "removed":
        del state["blocks.1.norm1.bias"]
    else:
        state["norm.weight"] = torch.zeros(64)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"blocks\.1\.norm1\.bias|norm\.weight"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


@pytest.mark.long
def test_the_configuration_holds_the_statistics_in_stored_units(source: Path, tmp_path: Path) -> None:
    folder = timm_export(source, tmp_path / "timm", "--modality", "ebands")
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    found = timm.data.resolve_data_config({}, model=loaded)
    # Bands 7 and 8 of Sentinel-2, as MMEarth stores them.
    assert [tuple(found[key]) for key in ("mean", "std", "input_size")] == [(2007, 2008), (8.5, 9.5), (2, 56, 56)]
    other = tmp_path / "other"
    assert export(source, other, "--format", "timm", "--modality", "ebands", "--level", "l1c") == 0
    config = json.loads((other / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == [1007.0, 1008.0]
    assert config["pretrained_cfg"]["fixed_input_size"] is True
    assert config["mmae"]["bands"] == ["B8A", "B8"]


def summed(model: MultiMAE, values: dict[str, Tensor]) -> Tensor:
    """Tokens that are sums over modalities, encoded: the modalities' own adapters, with the position counted once."""
    adapters = {name: model.tokenizer.adapters[name] for name in values}
    tokens_BnD = torch.stack([adapters[name](value) for name, value in values.items()]).sum(0)
    first = next(iter(adapters.values()))
    tokens_BnD = tokens_BnD - (len(values) - 1) * first.positions(torch.float32)  # type: ignore[operator]
    with torch.inference_mode():
        encoded = model.encoder.encode(tokens_BnD)
    return torch.cat([encoded[:, -1:], encoded[:, :-1]], dim=1)


@pytest.mark.long
def test_bands_of_several_modalities_are_one_sum(
    model: MultiMAE, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = timm_export(source, tmp_path / "timm", "--bands", "B2,B3,B4,B8")
    said = capsys.readouterr().out
    assert "A token is the sum of the patch projections of rgb, ebands" in said
    assert "B8A left out" in said
    values = torch.randn(2, 4, 56, 56, generator=torch.Generator().manual_seed(5))
    rgb, b8 = values[:, [2, 1, 0]], values[:, 3:]
    # B8A at its mean is 0.
    expected = summed(model, {"rgb": rgb, "ebands": torch.cat([torch.zeros_like(b8), b8], dim=1)})
    near(theirs(folder, values), expected)
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert config["mean"] == [2001.0, 2002.0, 2003.0, 2008.0]


@pytest.mark.long
def test_the_bands_of_one_modality_in_another_order_are_that_modality(
    model: MultiMAE, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = timm_export(source, tmp_path / "timm", "--bands", "B2,B3,B4")
    assert "sum" not in capsys.readouterr().out
    values = image("rgb", 2)
    near(theirs(folder, values), ours(model, "rgb", values.flip(1)))


@pytest.mark.long
def test_a_standardised_modality_says_so(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = timm_export(source, tmp_path / "timm", "--modality", "depth")
    assert "depth is standardised tile by tile" in capsys.readouterr().out
    assert "depth is standardised tile by tile" in (folder / "README.md").read_text()


LEVEL = ("--level", "l2a")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say one of --modality (rgb, ired, sired, ebands, depth, sentinel1, canopy_height, slope) and --bands"),
        (("--modality", "rgb", "--bands", "B4"), "say one of --modality"),
        (("--modality", "rgb"), "band statistics of l1c and l2a: choose one with --level"),
        (("--modality", "depth", *LEVEL), "--level l2a: elevation are the same at every level; leave it out"),
        (("--modality", "semseg"), "--modality semseg: it holds class ids"),
        (("--modality", "rbg"), "--modality rbg: not an image input of this model; did you mean 'rgb'?"),
        (("--modality", "dynamic_world"), "--modality dynamic_world: not an image input of this model"),
        (("--bands", "B4,B10", *LEVEL), "--bands: 'B10' is not a band of this model's inputs"),
        (("--bands", "B4,B4", *LEVEL), "--bands: B4 is named twice"),
        (("--bands", "B4,,B3", *LEVEL), "--bands 'B4,,B3': give names with commas between them"),
        (("--modality", "rgb", *LEVEL, "--image-size", "60"), "--image-size 60x60: height and width must be multiples"),
        (("--modality", "rgb", *LEVEL, "--image-size", "0"), "--image-size 0: give a side (56)"),
        (("--modality", "rgb", *LEVEL, "--image-size", "8x8x8"), "--image-size 8x8x8: give a side (56)"),
        (("--modality", "rgb", *LEVEL, "--modalities", "rgb"), "--modalities: --format timm does not take it"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: tuple[str, ...], message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(source, tmp_path / "timm", "--format", "timm", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_learned_positions_of_several_modalities_do_not_add_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(many_inputs(positions="learned"), tmp_path / "model")
    assert export(source, tmp_path / "timm", "--format", "timm", "--bands", "B4,B8", *LEVEL) == 2
    assert "they are of rgb, ebands, whose learned positions differ" in capsys.readouterr().err


def test_a_model_without_statistics_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmae.model.saved.saved_model import save_model

    save_model(tmp_path / "model", many_inputs(), {})
    assert export(tmp_path / "model", tmp_path / "timm", "--format", "timm", "--modality", "slope") == 2
    assert "the model has no band statistics 'aster': import it with --band-stats" in capsys.readouterr().err


@pytest.mark.long
def test_a_band_without_statistics_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmae.model.saved.saved_model import save_model

    stats = {**BAND_STATS, "sentinel1": {"mean": [-9.0, None] * 4, "std": [2.0, None] * 4}}
    save_model(tmp_path / "model", many_inputs(), stats)
    folder = timm_export(tmp_path / "model", tmp_path / "timm", "--modality", "sentinel1")
    assert "asc VH, asc HV, desc VH, desc HV: no statistics; the encoder always saw 0" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([-9.0, 0.0] * 4, [2.0, 1.0] * 4)
