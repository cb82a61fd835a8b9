"""The card says what the folder knows, to the hub's own reader too, and invents nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.saved.saved_config import SavedModel
from mmae.publish.hub.model_card import check_license, model_card

STATS = {
    "sentinel2_l2a": {"mean": [*range(100, 113)], "std": [50.0] * 12 + [None]},
    "aster": {"mean": [300.5, 10.0], "std": [100.0, 5.0]},
}
FACTS: dict[str, Any] = {
    "recipe": {"train.max_steps": 5000, "train.blr": 1e-4, "data.max_tiles": None, "model.paper_exact": False},
    "tiles_seen": 1_280_000,
    "precision": "bf16",
    "shards": ["abc123"],
    "versions": {"mmae": "0.1.0", "torch": "2.14.1", "git": "fe" * 20},
    "validation": {"step": 4000, "losses": {"rgb": 0.25, "semseg": None}},
    "sources": [{"name": "data_1M_v001_64.h5", "fingerprint": "f0", "tiles": {"train": 1000, "val": 10}}],
}


def saved(stats: Any = STATS, **extra: Any) -> SavedModel:
    config = ModelConfig(size="nano", in_domains=("rgb", "depth", "semseg"), out_domains=("rgb", "semseg"))
    return SavedModel(config, config.variant, stats, extra, "0.1.0")


def metadata(text: str) -> dict[str, Any]:
    data: Any = ModelCard(text).data
    return dict(data.to_dict())


def test_what_the_hub_reads() -> None:
    data = metadata(model_card(saved(training=FACTS, step=5000, license="cc-by-4.0")))
    assert data | {"tags": []} == {
        "license": "cc-by-4.0",
        "library_name": "mmae",
        "pipeline_tag": "image-feature-extraction",
        "tags": [],
        "datasets": ["MMEarth64"],
    }
    assert {"earth-observation", "multimae", "sentinel-2"} <= set(data["tags"])


def test_mmae_is_installed_from_a_checkout_and_no_address_is_invented() -> None:
    text = model_card(saved(training=FACTS))
    assert re.findall(r"pip install (?:--[\w-]+ )*([^` \n]+)", text) == ["."]
    assert "from a checkout" in " ".join(text.split())


def test_a_licence_is_not_invented() -> None:
    text = model_card(saved())
    data = metadata(text)
    assert (data["license"], data["license_name"]) == ("other", "not-stated")
    assert "datasets" not in data
    assert "has not stated a licence" in text
    for words in ("apache-2.0", "cc-by-nc-sa-4.0", "other", None):
        check_license(words)
    for words in ("", "Apache 2.0", "x\ny", "-x"):
        with pytest.raises(InputError, match="say its identifier in small letters"):
            check_license(words)


@pytest.mark.parametrize("noted", [{"a": 1}, ["mit"], 0, 3.5, True, "", "a: b\n---\nc", "mit\n", "x" * 1000])
def test_a_licence_in_a_stranger_s_folder_is_checked_as_one_that_is_said(noted: object) -> None:
    with pytest.raises(InputError, match=r"extra\.license is .* state one with --license") as caught:
        model_card(saved(license=noted))
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 250


def test_what_people_read() -> None:
    text = model_card(saved(training={**FACTS, "parent": {"run": "trunk", "step": 3}}, step=5000))
    for line in (
        "| rgb | sentinel2 | B4, B3, B2 | reflectance x 10000 | L2A | 0 |",
        "| depth | aster | elevation | m | any | not finite |",
        "| sentinel2_l2a | B4 | 103 | 50 |",
        "| aster | elevation | 300.5 | 100 |",
        "| steps | 5,000 |",
        "| tiles seen | 1,280,000 |",
        "| went on from | step 3 of the run trunk |",
        "| `train.blr` | 0.0001 |",
        "| `model.paper_exact` | false |",
        "| packed from | data_1M_v001_64.h5 (tiles: train 1,000, val 10) |",
        "| fingerprint of the shards | `abc123` |",
        f"| commit of mmae | {'fe' * 20} |",
        "| rgb | 0.25 |",
        "| semseg | unknown |",
    ):
        assert f"\n{line}\n" in text, line
    assert "at step 4,000" in text
    assert "trained on images of 56 x 56 pixels" in text
    assert "Sentinel-2 of level L1C cannot be normalised" in text
    assert "max_tiles" not in text
    assert "Not all of its tiles" not in text


def test_a_folder_that_knows_little() -> None:
    text = model_card(saved(stats={}, published="checkpoint.pth", epoch=1599))
    assert "No validation is known of." in text
    assert "How it was trained is not known here." in text
    assert "holds no band statistics" in text
    assert "| published checkpoint | checkpoint.pth |" in text
    assert "| rgb | sentinel2 | B4, B3, B2 | reflectance x 10000 | none: no statistics | 0 |" in text


def test_made_up_tiles_are_not_called_mmearth() -> None:
    other = {"sources": [{"name": "tiles.h5", "tiles": {}}]}
    text = model_card(saved(training=other))
    assert "Not all of its tiles are from files of MMEarth" in text
    assert "datasets" not in metadata(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"training": "x"},
        {"training": {"recipe": 3, "shards": 5, "sources": {"a": 1}, "versions": [], "validation": {"losses": "x"}}},
        {"training": {"sources": [3, {"name": None, "tiles": [1]}], "validation": {"losses": {"a|b\n": "x"}}}},
        {"step": "1|2\n# x"},
    ],
)
def test_notes_of_a_stranger_s_folder_stay_in_their_place(wrong: dict[str, Any]) -> None:
    text = model_card(saved(stats={"aster": {"mean": 3, "std": {}}, "sentinel2_l1c": []}, **wrong))
    assert metadata(text)["library_name"] == "mmae"
    assert "\n# x" not in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 7
