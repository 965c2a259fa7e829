# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text from a guest, made fit to be shown and kept: on a terminal, in a log, in a sentence, in a file of variables.

A terminal carries out what it is sent (ECMA-48), and so do people: bidirectional marks make a text read as another.
Ansible does not template what a module returns, but whatever it reads from a file: facts that were written to one would
be carried out there. What cannot be seen, and what would begin a template, is written as its escape.
"""

from __future__ import annotations

import re
import unicodedata

EXCERPT = 200  # characters; enough of a guest's text for a sentence

# What opens a Jinja expression, statement or comment. A brace at the end would open one together with what a playbook
# joins to it.
_OPENING = re.compile(r"\{(?=[{%#]|\Z)")

# Behind this, a text says itself what opens an expression in it (ansible.template, JINJA2_OVERRIDE).
_HEADER = "#jinja2:"


def visible(text: str, most: int = EXCERPT) -> str:
    """The text in one line of printable characters, at the most so many of the guest's own.

    Control characters, line breaks, bidirectional marks and all else without a shape of its own become ``\\x1b``,
    ``\\u202e`` and the like, and so do braces that would begin a template. What is longer is cut, and ends in an
    ellipsis.
    """
    shown = text[:most]
    if not shown.isprintable():
        shown = "".join(map(_visible_character, shown))
    shown = inert(shown)
    return shown if len(text) <= most else shown + "\u2026"


def inert(text: str) -> str:
    """The text with escapes such as ``\\x7b`` in place of what would begin a template."""
    if "{" in text:
        text = _OPENING.sub(r"\\x7b", text)
    # A piece of the header is the whole of it together with what a playbook joins to it.
    if text and _HEADER.startswith(text[: len(_HEADER)]):
        text = r"\x23" + text[1:]
    return text


def _visible_character(character: str) -> str:
    # Spaces of other widths are seen as well as the common one.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
