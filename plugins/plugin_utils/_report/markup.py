# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mark-up told apart from text by its type: a plain string does not get into a page without :func:`text`."""

from __future__ import annotations

import html
from typing import Iterable, NewType, Union

Html = NewType("Html", str)
Attribute = Union[str, int, float, None]

NOTHING = Html("")


def escape(value: str) -> str:
    """For text and for a quoted attribute."""
    # No brace can begin a Jinja expression, should the page be taken for a template later.
    return html.escape(value).replace("{", "&#123;")


def text(value: str) -> Html:
    return Html(escape(value))


def join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def element(tag: str, *children: Html, **attributes: Attribute) -> Html:
    """``class_`` is the attribute class, ``data_n`` is data-n, and one that is None is left out."""
    content = "".join(children)
    return Html(f"<{tag}{_attributes(attributes)}>{content}</{tag}>")


def empty(tag: str, **attributes: Attribute) -> Html:
    """An element that has no content, as ``<rect/>``."""
    return Html(f"<{tag}{_attributes(attributes)}/>")


def _attributes(attributes: dict[str, Attribute]) -> str:
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
