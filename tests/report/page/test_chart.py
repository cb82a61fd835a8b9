"""Charts of lines."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest

from mmae.report.page.chart import Chart, Event, Line, chart_figure


def drawn(chart: Chart) -> Element:
    """The figure as a reader of XML sees it."""
    return fromstring(tostring(chart_figure(chart)))


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def line_path(figure: Element, number: int = 0) -> str:
    return [each.get("d", "") for each in figure.iter("path") if "line" in each.get("class", "")][number]


def test_a_larger_number_is_higher_and_a_later_step_further_right() -> None:
    found = places(line_path(drawn(Chart("t", "step", "loss", [Line("a", [0, 5, 10], [3, 1, 2])]))))
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    (_, first), (_, second), (_, third) = found
    assert first < third < second


def test_long_numbers_leave_room_for_the_name_of_their_axis() -> None:
    figure = drawn(Chart("t", "step", "rate", [Line("a", [0, 1], [0.0, 0.00123])]))
    numbers = [
        each for each in figure.iter("text") if each.get("text-anchor") == "end" and "0.000" in (each.text or "")
    ]
    assert numbers
    for each in numbers:
        assert float(each.get("x", 0)) - 7 * len(each.text or "") >= 18  # the name is 12 wide, around x=12


def test_counts_have_whole_numbers_at_their_axis() -> None:
    figure = drawn(Chart("t", "step", "skipped", [Line("a", [0, 1], [0, 0])], from_zero=True, whole=True))
    assert [each.text for each in figure.iter("text") if each.get("text-anchor") == "end"][:2] == ["0", "1"]


def test_axes_have_names_and_the_figure_a_title_and_numbers() -> None:
    figure = drawn(
        Chart("speed", "step", "tiles a second", [Line("a", [1, 2], [3.0, 4.0]), Line("b", [1, 2], [5.0, 6.0])])
    )
    texts = [each.text for each in figure.iter("text")]
    assert {"step", "tiles a second"} <= set(texts)
    assert next(each.text for each in figure.iter("title")) == "speed"
    assert "a: from 3 to 4, lowest 3, highest 4." in next(each.text or "" for each in figure.iter("desc"))
    assert [each.text for each in figure.iter("td")] == ["3", "5", "4", "6"]
    assert [(each.tail or "") + "".join(each.itertext()) for each in figure.iter("li")] == [" a", " b"]


def test_what_is_no_number_is_a_gap_and_a_lone_number_is_seen() -> None:
    figure = drawn(Chart("t", "x", "y", [Line("a", [1, 2, 3, 4, 5], [1.0, 2.0, None, math.nan, 3.0])]))
    assert line_path(figure).count("M") == 2
    assert "m-3 0h6" in line_path(figure)
    assert "No number" in "".join(drawn(Chart("t", "x", "y", [Line("a", [1], [None])])).itertext())


@pytest.mark.parametrize("ys", [[5.0], [0.0, 0.0], [1e300, -1e300], [-1.0, -1.0]])
@pytest.mark.parametrize("log", [False, True])
def test_any_numbers_have_a_place_on_the_page(ys: list[float], log: bool) -> None:
    figure = drawn(Chart("t", "x", "y", [Line("a", list(range(len(ys))), ys)], log=log, from_zero=True))
    assert all(0 <= x <= 420 and 0 <= y <= 240 for x, y in places(line_path(figure)))


def test_a_logarithmic_axis_gives_equal_factors_equal_room() -> None:
    found = places(line_path(drawn(Chart("t", "x", "y", [Line("a", [0, 1, 2], [1.0, 10.0, 100.0])], log=True))))
    assert found[0][1] - found[1][1] == pytest.approx(found[1][1] - found[2][1], abs=0.2)


def test_events_are_lines_with_a_word_for_each() -> None:
    events = [Event(5, "save", "saved"), Event(99, "fault", "beyond the axis"), Event(7, "fault", "lost <rank>")]
    figure = drawn(Chart("t", "x", "y", [Line("a", [0, 10], [1.0, 2.0])], events))
    titles = [each.text for each in figure.iter("title")]
    assert titles == ["t", "save at 5: saved", "fault at 7: lost <rank>"]
    assert "".join(figure.find(".//ul").itertext()).split() == ["a", "save", "fault"]  # type: ignore[union-attr]
