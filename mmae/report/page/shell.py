"""The page around its sections: head, style, policy, and the few lines of script. It asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmae.report.page.markup import el, html_text
from mmae.report.page.style import STYLE
from mmae.version import __version__

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Without script all pictures are there, one beside the other.
SCRIPT: Final = """
for (const film of document.querySelectorAll('.film')) {
  const frames = [...film.querySelectorAll('figure')], slider = document.createElement('input');
  const label = document.createElement('label');
  slider.type = 'range'; slider.min = 0; slider.max = frames.length - 1; slider.value = frames.length - 1;
  const show = () => {
    frames.forEach((frame, at) => frame.hidden = at != slider.value);
    slider.setAttribute('aria-valuetext', frames[slider.value].querySelector('figcaption').textContent);
  };
  slider.addEventListener('input', show);
  label.append('Step ', slider); label.className = 'film-step';
  film.before(label); film.classList.add('one'); film.removeAttribute('tabindex'); show();
}
"""


def page_text(title: str, sections: Sequence[Element]) -> str:
    """A whole HTML file.

    Args:
        sections: each begins with a heading `h2` and has an `id`.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        _raw("style", STYLE),
    )
    links = [el("li", el("a", _heading(section), href=f"#{section.get('id')}")) for section in sections]
    body = el(
        "body",
        el("a", "Skip to the content", href="#content", class_="skip"),
        el("header", el("h1", title), el("nav", el("ul", *links), aria_label="Sections")),
        el("main", *sections, id="content"),
        el("footer", el("p", f"Written by mmae {__version__} on {moment()}. This page asks the network for nothing.")),
        _raw("script", SCRIPT),
    )
    return "<!doctype html>\n" + html_text(el("html", head, body, lang="en")) + "\n"


def moment(seconds: float | None = None) -> str:
    """A time, or now, in words that stay true on a page: with date and time zone."""
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds)).strip()


def section(name: str, heading: str, *children: Element | str | None) -> Element:
    """A section of the page."""
    return el("section", el("h2", heading), *children, id=name)


def _heading(part: Element) -> str:
    heading = part.find("h2")
    return "" if heading is None else heading.text or ""


def _raw(name: str, text: str) -> Element:
    # Our own text: the writer does not escape what is within style and script.
    made = el(name)
    made.text = text
    return made
