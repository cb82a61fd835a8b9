"""Elements of a page. Every text and attribute is escaped when the page is written: names in it are hostile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from mmae.terminal.printable import printable

_NUMBER: Final = re.compile(r"-?[\d.,]+(?:e[+-]?\d+)?[kMG%]?")
Child = Element | str | None
"""An element, a text, or nothing."""


def el(name: str, /, *children: Child, **attributes: object) -> Element:
    """An element with its children and attributes.

    Args:
        attributes: `class_` is `class`, other underscores become hyphens; None leaves an attribute out, True writes it
            without a value.
    """
    made = Element(name, dict(_attributes(attributes)))
    for child in children:
        if child is not None:
            _append(made, child)
    return made


def _append(parent: Element, child: Element | str) -> None:
    if isinstance(child, Element):
        parent.append(child)
        return
    text = "\n".join(printable(line) for line in child.split("\n"))
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _attributes(said: dict[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in said.items():
        if value is not None and value is not False:
            yield name.rstrip("_").replace("_", "-"), printable("" if value is True else value)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str | None = None) -> Element:
    """A table that may be scrolled sideways by itself, also with the keyboard; the first column heads its rows."""
    head = el("tr", *(el("th", heading, scope="col") for heading in headings))
    lines = [el("tr", el("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows]
    made = el("table", el("caption", caption) if caption else None, el("thead", head), el("tbody", *lines))
    label = caption or ", ".join(headings)
    return el("div", made, class_="scroll", tabindex="0", role="region", aria_label=label)


def _cell(text: str) -> Element:
    # A number is not broken into two lines.
    return el("td", text, class_="n" if _NUMBER.fullmatch(text) else None)


def facts(pairs: Sequence[tuple[str, str]]) -> Element:
    """Names and values as a list."""
    made = el("dl")
    for name, value in pairs:
        group = SubElement(made, "div")
        group.extend([el("dt", name), el("dd", value)])
    return made


def html_text(element: Element) -> str:
    """An element as HTML."""
    return tostring(element, encoding="unicode", method="html")
