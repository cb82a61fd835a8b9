from __future__ import annotations

import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.frozen.methods import Knn, Logistic
from mmae.evaluate.frozen.metrics import METRICS
from mmae.evaluate.frozen.parts import Part, Task
from mmae.evaluate.frozen.sweep import Candidate, Choice, probe

TASK, ACCURACY = Task("classes", 3), METRICS["accuracy"]


def candidate(block: int, noise: float, seed: int = 0) -> Candidate:
    generator = torch.Generator().manual_seed(seed)
    centres_CD = 2 * torch.eye(3, 6)

    def part(rows: int) -> Part:
        y_N = torch.arange(rows) % 3
        return Part(centres_CD[y_N] + noise * torch.randn(rows, 6, generator=generator), y_N)

    return Candidate(block, "mean", part(90), part(60), part(60))


def test_the_block_that_is_best_on_validation_is_chosen_and_fitted_again_on_train_and_val() -> None:
    good = candidate(5, 0.5)
    found = probe(TASK, [candidate(2, 9.0), good], Knn(), ACCURACY, ["none"])
    assert found.choice == Choice(5, "mean", "none", 20.0)
    (again,) = Knn().predictions(TASK, good.train.joined(good.val), good.test.x_ND, [20.0])
    assert torch.equal(found.prediction, again)
    assert ACCURACY.compute(found.prediction, good.test.y) > 0.9


def test_what_test_rows_hold_changes_no_choice() -> None:
    first, second = candidate(2, 1.0), candidate(5, 1.2, seed=1)
    swapped = [Candidate(each.block, each.pooling, each.train, each.val, each.test.with_features(-each.test.x_ND))
               for each in (first, second)]  # fmt: skip
    method = Logistic((1e-3, 1.0))
    found, other = (probe(TASK, each, method, ACCURACY) for each in ([first, second], swapped))
    assert (found.choice, found.val_score) == (other.choice, other.val_score)


def test_a_tie_goes_to_the_candidate_that_comes_first() -> None:
    same = candidate(2, 0.0)
    found = probe(TASK, [same, Candidate(5, "max", same.train, same.val, same.test)], Knn((1.0, 5.0)), ACCURACY)
    assert found.choice == Choice(2, "mean", "none", 1.0)


def test_a_tie_of_strengths_goes_to_a_moderate_one() -> None:
    """The strongest penalty also tells classes apart that are equally many, and not those of train and val together."""
    same = candidate(2, 0.01)
    val = same.val[same.val.y == 0].joined(same.val[:6])
    found = probe(TASK, [Candidate(2, "mean", same.train, val, same.test)], Logistic(), ACCURACY, ["none"])
    assert (found.val_score, found.choice.setting) == (1.0, 1.0)
    assert ACCURACY.compute(found.prediction, same.test.y) == 1.0
    strongest = probe(TASK, [Candidate(2, "mean", same.train, val, same.test)], Logistic((1e-6,)), ACCURACY, ["none"])
    assert strongest.val_score == 1.0
    assert ACCURACY.compute(strongest.prediction, same.test.y) < 0.5


@pytest.mark.parametrize("where", ["train", "val", "test"])
def test_features_that_are_not_finite_are_refused(where: str) -> None:
    bad = candidate(3, 1.0)
    getattr(bad, where).x_ND[7, 2] = torch.nan
    with pytest.raises(InputError, match=rf"features of 1 of \d+ rows of {where} are not finite \(block 3, mean\)"):
        probe(TASK, [bad], Knn(), ACCURACY)
