# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text from a guest, made fit to be shown and kept: on a terminal, in a log, in a sentence, in a file of variables.

A terminal carries out what it is sent (ECMA-48), and so do people: bidirectional marks make a text read as another.
Ansible does not template what a module returns, but whatever it reads from a file: facts that were written to one would
be carried out there. What cannot be seen, and what would begin a template, is written as its escape.

A text stays inert next to any other, whether that is from a guest or a playbook's own. Up to ansible-core 2.18, what
comes of a join is a template again. There are three ways from joined texts to a template:

- Two halves of a delimiter meet. So no text ends or begins in one of an opening delimiter. Blanks at its ends do not
  count: playbooks trim. Closing delimiters stay as they are: they mean nothing where no other one was opened.
- ``#jinja2:`` at the start of a text lets it choose its delimiters (``ansible.template``, JINJA2_OVERRIDE).
- A text that begins with ``[`` or ``{`` and is a Python literal becomes data (``ansible_eval_concat`` in
  ``ansible.template.native_helpers``, ansible-core 2.18): escapes in its strings are decoded, and neighboring strings
  are joined. So no text is a part of a literal that holds more than plain words.

Delimiters that a playbook chooses for itself (``[[``) are not known here. They belong to one template, and what is
filled into that one is not read as a template again.
"""

from __future__ import annotations

import re
import unicodedata

EXCERPT = 200  # characters; enough of a guest's text for a sentence

# The first half of an opening delimiter, in front of the second one or where a text may be joined to the second one.
_FIRST_HALF = re.compile(r"\{(?=[{%#]|\s*\Z)")

# The start of a text that completes an opening delimiter, or the header, together with what is in front of it. If two
# texts make up the rest of the header after its "#", one of them is or starts like this.
_SECOND_HALF = re.compile(r"\s*(?:[{%#]|(?:(?:j?i)?n)?ja2:|jinj(?:a2?)?\s*\Z)")

# The start of a literal, or of what is between its brackets: a string, punctuation, or a number or constant in front of
# punctuation; set() is a literal, too. A backslash in front of a letter is not part of one.
_LITERAL = re.compile(
    r"""[bru]{0,2}['"] | (?:\d\w* | None | True | False | null | true | false | set)? \s* (?!\\\w) [^\w\s'"]""",
    re.VERBOSE | re.IGNORECASE,
)
_QUOTES = "'\""
_MORE_THAN_WORDS = "{%#\\"


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
    """Return the text with escapes such as ``\\x7b`` where it would begin a template, alone or next to other texts."""
    if "{" in text:
        text = _FIRST_HALF.sub(r"\\x7b", text)
    if _SECOND_HALF.match(text) or _is_in_literal(text):
        bare = text.lstrip()
        text = text[: -len(bare)] + _escape(bare[0]) + bare[1:]
    return text


def _is_in_literal(text: str) -> bool:
    """Return whether it may be part of a Python literal, with strings in it that are not just words."""
    quotes = [place for place in map(text.find, _QUOTES) if place >= 0]
    return (
        bool(quotes)
        and max(map(text.rfind, _MORE_THAN_WORDS)) > min(quotes)
        # As Python reads names: in fullwidth letters, true is true.
        and _LITERAL.match(unicodedata.normalize("NFKC", text.lstrip())) is not None
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else character.encode("unicode_escape").decode("ascii")


def _visible_character(character: str) -> str:
    # Spaces of other widths are seen as well as the common one.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
