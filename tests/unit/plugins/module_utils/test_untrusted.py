# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils.untrusted import EXCERPT, visible
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web1.example.org",
        "{ a }",
        "a}}",
        "# a",
        "#1",
        "j#",
        "Ger\u00e4t",
        "\u30c7\u30a3\u30b9\u30af",
        r"C:\Windows",
        "a b",
    ],
)
def test_what_can_be_seen_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\u3000"])
def test_a_space_of_another_width_is_seen_too(space: str) -> None:
    assert visible(f"a{space}b") == f"a{space}b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\0", r"\x00"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;aWQ=\x07", r"\x1b]52;c;aWQ=\x07"),
        ("\x7f", r"\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("\u2066\u200f", r"\u2066\u200f"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_written_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ lookup('pipe', 'id') }}", r"\x7b{ lookup('pipe', 'id') }}"),
        ("a{% if b %}", r"a\x7b% if b %}"),
        ("{# a #}", r"\x7b# a #}"),
        ("{{{", r"\x7b\x7b\x7b"),
        ("a{", r"a\x7b"),
        ("#jinja2:variable_start_string:'[['", r"\x23jinja2:variable_start_string:'[['"),
        ("#jin", r"\x23jin"),
        ("#", r"\x23"),
    ],
)
def test_what_would_begin_a_template_is_too(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text("{%#}jinja2: a", max_size=30), st.text("{%#}jinja2: a", max_size=30))
def test_no_texts_one_behind_the_other_make_a_template(first: str, second: str) -> None:
    both = visible(first) + visible(second)
    assert not any(opening in both for opening in ("{{", "{%", "{#"))
    assert not both.startswith("#jinja2:")


def test_what_is_longer_is_cut_and_says_so() -> None:
    assert visible("x" * EXCERPT) == "x" * EXCERPT
    assert visible("x" * (EXCERPT + 1)) == "x" * EXCERPT + "\u2026"
    assert visible("\n" * 10_000_000, 3) == r"\n\n\n" + "\u2026"


@given(st.text(st.characters(), max_size=300))
def test_nothing_in_it_moves_a_cursor_or_turns_the_text_around(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
