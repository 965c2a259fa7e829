# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from html.parser import HTMLParser

from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.markup import element, empty, escape, join, text
from hypothesis import given
from hypothesis import strategies as st


class Reader(HTMLParser):
    """What a browser would find."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# A parser makes one newline of every kind of them, and NUL and surrogates never get this far.
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")))


@given(texts)
def test_a_text_stays_a_text(value: str) -> None:
    reader = Reader(element("td", text(value), title=value))
    assert reader.text == value
    assert reader.tags == [("td", {"title": value})]


def test_an_attribute_cannot_be_left() -> None:
    value = "\" onclick='x' <b>"
    assert Reader(empty("rect", aria_label=value)).tags == [("rect", {"aria-label": value})]


def test_names_of_attributes() -> None:
    assert element("td", class_="n", data_n=5, title=None) == '<td class="n" data-n="5"></td>'
    assert join([text("a"), text("<")]) == "a&lt;"


@given(texts)
def test_no_expression_of_jinja_begins(value: str) -> None:
    assert "{" not in escape(f"{value}{{{{ 7 }}}}{{% x %}}{{# y #}}")
