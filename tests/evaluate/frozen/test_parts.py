from __future__ import annotations

import pytest
import torch

from mmae.evaluate.frozen.parts import Part


def test_rows_and_targets_go_together() -> None:
    part = Part(torch.arange(6.0).view(3, 2), torch.arange(3))
    both = part.joined(part[torch.tensor([2, 0])])
    assert both.y.tolist() == [0, 1, 2, 2, 0]
    assert both.x_ND[3].tolist() == [4, 5]
    assert len(both) == 5


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows of features and 2 targets"):
        Part(torch.zeros(3, 2), torch.arange(2))
