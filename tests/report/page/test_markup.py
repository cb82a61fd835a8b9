"""Markup that escapes by itself."""

from __future__ import annotations

from html.parser import HTMLParser

from mmae.report.page.markup import el, facts, html_text, table

HOSTILE = "<img src=x onerror=alert(1)>\"'&\x1b[31m\u202e\x00"


class Reader(HTMLParser):
    """Names the elements that a browser would make."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_texts_and_attributes_are_escaped() -> None:
    text = html_text(el("p", HOSTILE, el("b", HOSTILE), HOSTILE, title=HOSTILE))
    reader = Reader()
    reader.feed(text)
    assert reader.tags == ["p", "b"]
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") == 3
    assert "&quot;" in text
    assert not {"\x1b", "\u202e", "\x00"} & set(text)


def test_names_of_attributes_are_those_of_html() -> None:
    assert html_text(el("a", class_="x", aria_label="y", hidden=True, id=None)) == (
        '<a class="x" aria-label="y" hidden=""></a>'
    )


def test_a_table_heads_its_rows_and_can_be_reached() -> None:
    text = html_text(table(["a", "b"], [["1", "2"]], "about"))
    assert '<th scope="row">1</th><td class="n">2</td>' in text
    assert 'tabindex="0"' in text
    assert "<caption>about</caption>" in text
    assert "<dt>a</dt><dd>b</dd>" in html_text(facts([("a", "b")]))
