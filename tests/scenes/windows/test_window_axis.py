from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.scenes.windows.window_axis import WindowAxis


@st.composite
def axes(draw: st.DrawFn) -> WindowAxis:
    window = draw(st.integers(1, 9))
    return WindowAxis(draw(st.integers(window, 60)), window, draw(st.integers(0, window - 1)))


@given(axes(), st.integers(1, 3))
def test_shares_add_up_to_one_everywhere(axis: WindowAxis, cells: int) -> None:
    total = np.zeros(axis.length * cells)
    for number, start in enumerate(axis.starts):
        share = axis.weights(number, cells)
        assert share.dtype == np.float32
        assert (share > 0).all()
        total[start * cells : (start + axis.window) * cells] += share
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@given(axes())
def test_every_patch_is_in_a_window_and_neighbours_share_what_they_should(axis: WindowAxis) -> None:
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.window == axis.length
    steps = np.diff(axis.starts)
    assert (steps[:-1] == axis.window - axis.overlap).all()
    assert ((steps > 0) & (steps <= axis.window - axis.overlap)).all()


@given(axes(), st.data())
def test_the_windows_that_touch_a_part(axis: WindowAxis, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, axis.length - 1))
    end = data.draw(st.integers(begin + 1, axis.length))
    part = set(range(begin, end))
    touching = [n for n, start in enumerate(axis.starts) if part & set(range(start, start + axis.window))]
    assert list(axis.touching(begin, end)) == touching


def test_where_one_window_lies_alone_its_share_is_exactly_one() -> None:
    axis = WindowAxis(12, 5, 2)
    assert axis.starts == (0, 3, 6, 7)
    assert axis.weights(0, 1)[:3].tolist() == [1, 1, 1]
    assert WindowAxis(4, 4, 1).weights(0, 2).tolist() == [1] * 8


def test_a_share_falls_smoothly_where_two_windows_lie() -> None:
    share = WindowAxis(20, 8, 4).weights(1, 4)
    rise = share[:16]
    assert (np.diff(rise) > 0).all()
    assert np.diff(rise).max() < 0.11
    np.testing.assert_allclose(rise + rise[::-1], 1, rtol=1e-6)


@pytest.mark.parametrize("cells", [1, 2, 8])
def test_without_overlap_windows_have_equal_shares_at_the_end(cells: int) -> None:
    axis = WindowAxis(6, 4, 0)
    assert axis.starts == (0, 2)
    assert set(axis.weights(0, cells)[2 * cells :].tolist()) == {0.5}
    assert set(axis.weights(0, cells)[: 2 * cells].tolist()) == {1.0}
