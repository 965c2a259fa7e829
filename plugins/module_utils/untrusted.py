# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text from a guest, made fit to be shown: on a terminal, in a log, in a sentence of our own.

A terminal carries out what it is sent (ECMA-48), and so do people: bidirectional marks make a text read as another.
What cannot be seen is written as its escape, so that it can.
"""

from __future__ import annotations

import unicodedata

EXCERPT = 200  # characters; enough of a guest's text for a sentence


def visible(text: str, most: int = EXCERPT) -> str:
    """The text in one line of printable characters, at the most so many of the guest's own.

    Control characters, line breaks, bidirectional marks and all else without a shape of its own become ``\\x1b``,
    ``\\u202e`` and the like. What is longer is cut, and ends in an ellipsis.
    """
    if text.isprintable() and len(text) <= most:
        return text
    shown = "".join(map(_visible_character, text[:most]))
    return shown if len(text) <= most else shown + "\u2026"


def _visible_character(character: str) -> str:
    # Spaces of other widths are seen as well as the common one.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
