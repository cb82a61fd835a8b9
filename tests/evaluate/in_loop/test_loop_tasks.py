"""Labels of tiles, what cannot be probed, and scores of features that are known to tell classes apart, or not to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmae.errors import InputError
from mmae.evaluate.in_loop import loop_tasks
from mmae.evaluate.in_loop.loop_tasks import TASKS, find_tasks, labelled
from mmae.evaluate.in_loop.probed_tiles import Share
from mmae.types import Batch

FITTED, ALL = 60, 100
NAN = float("nan")


def share(dataset: str, pixels: Tensor, biome: list[int] | None = None) -> Share:
    count = len(pixels)
    whole = torch.zeros(count, dtype=torch.int64)
    batch = Batch({dataset: pixels}, whole.to(torch.uint8), whole, whole, whole == 0)
    return Share([], [batch], np.array(biome or [0] * count))


def labels(task: str, dataset: str, pixels: Tensor, biome: list[int] | None = None) -> list[float]:
    return [round(label, 6) for label in TASKS[task].labels(share(dataset, pixels, biome)).tolist()]


def test_a_number_is_the_mean_of_the_pixels_with_data() -> None:
    tiles = torch.tensor([[10, 20, 30, 40], [10, 127, 127, 30], [10, 127, 127, 127]], dtype=torch.int8)
    found = labels("canopy_height", "canopy_height_eth", tiles.view(3, 1, 2, 2))
    assert found[:2] == [25, 20]
    assert np.isnan(found[2])
    aster = torch.tensor([[[[-100, 300]], [[5, 7]]]], dtype=torch.int16)
    assert labels("elevation", "aster", aster) == [100]
    assert labels("slope", "aster", aster) == [6]


def test_a_class_is_the_vote_of_the_pixels_with_data() -> None:
    # Code 0 is no data, 10 and 30 are the classes 0 and 2.
    tiles = torch.tensor([[10, 30, 30, 10], [0, 0, 30, 30], [0, 0, 0, 10]], dtype=torch.uint8)
    found = labels("land_cover", "esa_worldcover", tiles.view(3, 1, 2, 2))
    assert found[:2] == [0, 2]
    assert np.isnan(found[2])


def test_an_unknown_biome_is_no_class() -> None:
    found = labels("biome", "aster", torch.zeros(3, 2, 1, 1), [4, 255, 0])
    assert (found[0], found[2]) == (4, 0)
    assert np.isnan(found[1])


def test_unknown_tasks_and_missing_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no task 'biom'; did you mean 'biome'"):
        find_tasks(("land_cover", "biom"))
    monkeypatch.setattr(loop_tasks, "find_spec", lambda _: None)
    assert [task.name for task in find_tasks(("biome",))] == ["biome"]
    with pytest.raises(InputError, match=r"elevation needs scikit-learn, .*pip install 'mmae\[eval\]'"):
        find_tasks(("biome", "elevation"))


def two_classes() -> Tensor:
    return (torch.arange(ALL) % 2).double()


def without(label_S: Tensor, *parts: slice) -> Tensor:
    for part in parts:
        label_S[part] = NAN
    return label_S


def of_one_class(label_S: Tensor, part: slice) -> Tensor:
    label_S[part] = 1
    return label_S


@pytest.mark.parametrize(
    ("label_S", "says"),
    [
        (without(two_classes(), slice(26, FITTED)), "only 26 of the 60 tiles of training have a label.*needs 27"),
        (without(two_classes(), slice(FITTED, None)), "none of the 40 tiles of val has a label"),
        (two_classes() + (torch.arange(ALL) >= FITTED) * 7, "none of the 40 tiles of val has a label that tiles of"),
        (of_one_class(two_classes(), slice(0, FITTED)), "all 60 labelled tiles of training are of one class"),
        (of_one_class(two_classes(), slice(FITTED, None)), "all 40 labelled tiles of val are of one class"),
    ],
)
def test_labels_that_no_probe_can_be_made_of_are_refused(label_S: Tensor, says: str) -> None:
    with pytest.raises(InputError, match=f"eval.tasks: biome: {says}"):
        labelled(TASKS["biome"], label_S, FITTED)


def test_the_same_number_everywhere_is_refused() -> None:
    with pytest.raises(InputError, match="elevation: all 60 labelled tiles of training have one value"):
        labelled(TASKS["elevation"], of_one_class(two_classes(), slice(0, FITTED)), FITTED)


def test_the_fewest_labels_are_enough() -> None:
    task = labelled(TASKS["biome"], without(two_classes(), slice(27, FITTED)), FITTED)
    assert 0 <= task.score(torch.randn(ALL, 8, generator=torch.Generator().manual_seed(0))) <= 1


def test_features_that_hold_the_class_score_1_and_noise_scores_by_chance() -> None:
    label_S = two_classes() * 9
    task = labelled(TASKS["biome"], label_S, FITTED)
    noise_SD = torch.randn(ALL, 8, generator=torch.Generator().manual_seed(0))
    telling_SD = noise_SD.clone()
    telling_SD[:, 0] += 40 * two_classes()
    assert task.score(telling_SD) == 1
    assert 0.2 < task.score(noise_SD) < 0.8


def test_features_that_hold_the_number_have_an_r2_of_1() -> None:
    generator = torch.Generator().manual_seed(0)
    features_SD = torch.randn(ALL, 8, generator=generator)
    task = labelled(TASKS["elevation"], features_SD.double() @ torch.arange(8.0).double() * 100 + 500, FITTED)
    assert task.score(features_SD) == pytest.approx(1, abs=1e-3)
    assert task.score(torch.randn(ALL, 8, generator=generator)) < 0.5


def test_a_class_that_no_fitted_tile_has_is_not_scored() -> None:
    label_S = two_classes()
    label_S[FITTED : FITTED + 10] = 5
    task = labelled(TASKS["biome"], label_S, FITTED)
    assert (len(task.score_M), task.classes) == (30, 2)


def test_features_that_are_not_finite_are_an_error() -> None:
    task = labelled(TASKS["biome"], two_classes(), FITTED)
    with pytest.raises(InputError, match="not finite"):
        task.score(torch.full((ALL, 4), NAN))
