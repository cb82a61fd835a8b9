"""The pages in a real browser: no request, no error, no barrier, with and without script, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmae.cli import main
from mmae.scale.ladder_page import write_page
from mmae.scaling_law.fit_checks import held_out
from mmae.scaling_law.law_file import fits_of
from tests.support.reported_run import history, write_run
from tests.support.synthetic_ladder import written_ladder
from tests.support.tiny_sets import write_set

pytestmark = [pytest.mark.slow, pytest.mark.process]

CHROMIUM = shutil.which("chromium")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
PLACES = {row: (float(row), 2.0 * row) for row in range(1, 9)}
VIEWS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 800}},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module", params=["report", "several", "data", "ladder"])
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    if request.param == "ladder":
        found = written_ladder(folder / "ladder", sizes=3, budgets=3)
        checks = {output: held_out(found.points(output)) for output in found.outputs()}
        return write_page(folder / "ladder", found, fits_of(folder / "ladder", found), checks)
    write_set(folder / "shards", {"train": [1, 2, 3, 4], "val": [5, 6, 7, 8]}, places=PLACES)
    scores = {"kind": "eval", "time": 1100.0, "step": 100, "scores": {"accuracy": 0.7}, "failed": {}}
    words = []
    for name in ("one", "two")[: 2 if request.param == "several" else 1]:
        run = write_run(folder / name, [*history(), scores], pictures=3, data__shards=str(folder / "shards"))
        words.append(str(run))
    command = ["data-report", str(folder / "shards")] if request.param == "data" else ["report", *words]
    assert main([*command, "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


def opened(browser: Any, file: Path, **view: Any) -> tuple[Any, list[str], list[str]]:
    """The page, the addresses that it asks for, and what it complains about."""
    page = browser.new_context(**view).new_page()
    asked, complaints = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    return page, asked, complaints


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_asks_for_nothing_complains_of_nothing_and_has_no_barrier(
    browser: Any, page_file: Path, view: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, asked, complaints = opened(browser, page_file, **VIEWS[view])
    assert [address for address in asked if not address.startswith("data:")] == [page_file.as_uri()]
    assert complaints == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= VIEWS[view]["viewport"]["width"], "the page is wider than the screen"
    found = axe.Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_every_drawing_has_a_title_and_axes_with_names(browser: Any, page_file: Path) -> None:
    page, *_ = opened(browser, page_file)
    drawings = page.locator("svg[role=img]")
    assert drawings.count() > 2
    for number in range(drawings.count()):
        assert drawings.nth(number).locator("> title").text_content()
        assert drawings.nth(number).locator("text").count() >= 2 or drawings.nth(number).locator("rect").count()


def test_every_control_is_reached_by_the_keyboard(browser: Any, page_file: Path) -> None:
    page, *_ = opened(browser, page_file)
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        active = page.evaluate(
            "(e => e === document.body ? '' : [e.tagName, e.id, e.type, e.textContent.slice(0, 40),"
            " [...document.querySelectorAll('*')].indexOf(e)].join('|'))(document.activeElement)"
        )
        if not active or active in reached:
            break
        reached.add(active)
    tags = {each.partition("|")[0] for each in reached}
    assert {"A", "SUMMARY"} <= tags
    summaries = page.locator("summary:visible").count()
    assert sum(each.startswith("SUMMARY") for each in reached) == summaries


def test_the_slider_shows_one_picture_and_without_script_all_are_there(browser: Any, page_file: Path) -> None:
    page, *_ = opened(browser, page_file)
    without, *_ = opened(browser, page_file, java_script_enabled=False)
    films = page.locator(".film").count()
    if not films:
        pytest.skip("no pictures on this page")
    assert without.locator(".film figure:visible").count() == 3 * films
    assert page.locator(".film figure:visible").count() == films
    slider = page.locator("input[type=range]").first
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator(".film figure:visible figcaption").first.text_content() == "Step 10"
    page.keyboard.press("ArrowRight")
    assert page.locator(".film figure:visible figcaption").first.text_content() == "Step 20"
    assert slider.get_attribute("aria-valuetext") == "Step 20"


def test_text_of_drawings_is_at_least_11_pixels_high_on_a_phone(browser: Any, page_file: Path) -> None:
    page, *_ = opened(browser, page_file, viewport={"width": 380, "height": 800})
    heights = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().width).map(t =>"
        " parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width"
        " / t.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert min(heights) >= 11


def test_paper_has_no_controls_two_charts_a_row_and_dark_lines(browser: Any, page_file: Path) -> None:
    page, *_ = opened(browser, page_file, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    for control in ("nav", "input", ".choice", ".film-step", "summary"):
        assert page.locator(f"{control}:visible").count() == 0, control
    # A ladder's charts stand one below the other, each with its tables.
    columns = page.evaluate(
        "[...document.querySelectorAll('.figures')].map(e => getComputedStyle(e).gridTemplateColumns.split(' ').length)"
    )
    assert set(columns) <= {2}
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    line = "getComputedStyle(document.documentElement).getPropertyValue('--c0').trim()"
    assert page.evaluate(line) == "#1f5fa8"
    films = page.locator(".film").count()
    assert page.locator(".film figure:visible").count() == 3 * films


def test_the_scale_changes_without_script(browser: Any, page_file: Path) -> None:
    page, *_ = opened(browser, page_file, java_script_enabled=False)
    if not page.locator("#scale-log").count():
        pytest.skip("no losses on this page")
    linear, log = page.locator(".of-linear:visible").count(), page.locator(".of-log:visible").count()
    assert linear > 0 == log
    page.locator("label[for=scale-log]").click()
    assert page.locator(".of-log:visible").count() == linear
    assert page.locator(".of-linear:visible").count() == 0
