# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making text from a guest safe to display and store: on a terminal, in a log, in a sentence, in a file of variables.

A terminal obeys control sequences in its input (ECMA-48), and bidirectional marks make people read a different text.
Ansible does not template the results of modules, but it templates anything that it reads from a file, such as facts
that were stored there. So invisible characters, and characters that would begin a template, are written as escapes.

A text stays inert next to any other text, from a guest or from a playbook. Up to ansible-core 2.18, joined texts are
read as a template again. There are three ways from joined texts to a template:

- Two halves of a delimiter meet. So no text begins or ends with half of an opening delimiter. Spaces at its ends do not
  count, since playbooks trim. Closing delimiters stay as they are: they mean nothing without an opening one.
- ``#jinja2:`` at the start of a text lets it choose its delimiters (``ansible.template``, JINJA2_OVERRIDE).
- A text that begins with ``[`` or ``{`` and is a Python literal becomes data (``ansible_eval_concat`` in
  ``ansible.template.native_helpers``, ansible-core 2.18): escapes in its strings are decoded, and adjacent strings are
  joined. So no text is part of a literal with anything but plain words in it.

Delimiters that a playbook chooses for itself (``[[``) are not handled here. They belong to one template, and values in
that template are not read as a template again.
"""

from __future__ import annotations

import re
import unicodedata

EXCERPT = 200  # characters; enough of a guest's text for a sentence

# The brace of an opening delimiter: before its second half, or at the end, where a second half may be appended.
_FIRST_HALF = re.compile(r"\{(?=[{%#]|\s*\Z)")

# The start of a text that completes an opening delimiter or the header, if the first half is before it. If two texts
# make up the rest of the header after its "#", one of them starts like this.
_SECOND_HALF = re.compile(r"\s*(?:[{%#]|(?:(?:j?i)?n)?ja2:|jinj(?:a2?)?\s*\Z)")

# The start of a literal, or of the text between its brackets: a string, punctuation, or a number or constant before
# punctuation; set() is also a literal. A backslash before a letter is not part of one.
_LITERAL = re.compile(
    r"""[bru]{0,2}['"] | (?:\d\w* | None | True | False | null | true | false | set)? \s* (?!\\\w) [^\w\s'"]""",
    re.VERBOSE | re.IGNORECASE,
)
_QUOTES = "'\""
_MORE_THAN_WORDS = "{%#\\"


def visible(text: str, most: int = EXCERPT) -> str:
    """Return the text as one line of printable characters, truncated to ``most`` characters of the guest's.

    Control characters, line breaks, bidirectional marks and other invisible characters become ``\\x1b``, ``\\u202e``
    and the like, and so do braces that would begin a template. A truncated text ends in an ellipsis.
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
    """Return whether the text may be part of a Python literal with strings that are not just words."""
    quotes = [place for place in map(text.find, _QUOTES) if place >= 0]
    return (
        bool(quotes)
        and max(map(text.rfind, _MORE_THAN_WORDS)) > min(quotes)
        # Python normalizes names like this: in fullwidth letters, true is also true.
        and _LITERAL.match(unicodedata.normalize("NFKC", text.lstrip())) is not None
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else character.encode("unicode_escape").decode("ascii")


def _visible_character(character: str) -> str:
    # Spaces of other widths are as visible as the common one.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
