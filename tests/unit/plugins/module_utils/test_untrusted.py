from __future__ import annotations

import ast
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import EXCERPT, visible
from hypothesis import assume, given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "text",
    [
        *("", "web1.example.org", "a b", "a { b } c", "${HOME}", "a}}", "}", "50 %", "C#", "j#", "a % b # c"),
        *("jinja2.example", "ninja2 a", "j", "a2:b3:c4:d5:e6:f7", "2: a", "::1", "[1, 2]", "[[ a ]]"),
        *("[sudo] password for 'web1': ", "'a' and \"b\"", "it's 50", "no 'a' in {b}", "it's {a}"),
        *(r"C:\Windows", r"\\?\Volume{bd81a42b-0000}\\", r"error: 'C:\a'", r"failed to open file 'C:\a' (mode: 'r')"),
        *("Ger\u00e4t", "\u30c7\u30a3\u30b9\u30af", "a\u00a0b", "a\u2003b", "a\u3000b"),
    ],
)
def test_visible_text_that_is_not_part_of_a_template_is_unchanged(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # Invisible characters.
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
        # Text that would begin a template.
        ("{{ lookup('pipe', 'id') }}", r"\x7b{ lookup('pipe', 'id') }}"),
        ("a{% if b %}", r"a\x7b% if b %}"),
        ("{# a #}", r"\x7b# a #}"),
        ("{{{", r"\x7b\x7b\x7b"),
        ("a{", r"a\x7b"),
        ("a{  ", r"a\x7b  "),
        ("#jinja2:variable_start_string:'[['", r"\x23jinja2:variable_start_string:'[['"),
        ("#jin", r"\x23jin"),
        ("#", r"\x23"),
        # Text that would complete the beginning of one.
        ("{ lookup('pipe', 'id') }}", r"\x7b lookup('pipe', 'id') }}"),
        ("{4d36e967-e325}", r"\x7b4d36e967-e325}"),
        ("% if a %}", r"\x25 if a %}"),
        ("%", r"\x25"),
        ("#1 SMP Debian", r"\x231 SMP Debian"),
        ("#- #}{ a }}", r"\x23- #}{ a }}"),
        ("  { a", r"  \x7b a"),
        ("\u3000% a", "\u3000\\x25 a"),
        ("jinja2:variable_start_string:'[['", r"\x6ainja2:variable_start_string:'[['"),
        ("nja2:a:1", r"\x6eja2:a:1"),
        ("jinja2", r"\x6ainja2"),
        # Text that may be part of a literal that makes one.
        (r"['\x7b\x7b a }}']", r"\x5b'\x7b\x7b a }}']"),
        ("['{' '{ a }}']", r"\x5b'{' '{ a }}']"),
        ("['{{ a }}']", r"\x5b'\x7b{ a }}']"),
        ("['% a']", r"\x5b'% a']"),
        (r"'\x7b{ a'", r"\x27\x7b{ a'"),
        (r'"a": "\173"', r'\x22a": "\173"'),
        ("1, '{' '{'", r"\x31, '{' '{'"),
        ("None, '#'", r"\x4eone, '#'"),
        (r"rb'\x7b'", r"\x72b'\x7b'"),
        (r"-1, '\x7b'", r"\x2d1, '\x7b'"),
        ("(1, '{' '%')", r"\x281, '{' '%')"),
        ("\uff54rue, '{' '%'", r"\uff54rue, '{' '%'"),
        ("set(), '{' '%'", r"\x73et(), '{' '%'"),
        (r"\ '{' '%'", r"\x5c '{' '%'"),
    ],
)
def test_the_first_character_of_dangerous_text_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


TEXTS = st.text("{%#}jinja2: a", max_size=30)


def is_template(text: str) -> bool:
    """Return whether any version of Ansible reads the text as a template."""
    return any(opening in text for opening in ("{{", "{%", "{#")) or text.startswith("#jinja2:")


@given(st.sampled_from(["", "{", "#", "a {", "a{ {"]), TEXTS, TEXTS, st.sampled_from(["", "{", "%", "# a"]))
def test_two_adjacent_texts_never_make_a_template(before: str, first: str, second: str, after: str) -> None:
    assume((first + second).strip())  # without texts, the playbook's own characters may make a template
    for both in (visible(first) + visible(second), visible(first).strip() + visible(second).strip()):
        assert not is_template(before + both + after)


PIECES = st.lists(
    st.sampled_from([*"[](){}'\",:% 1rb", r"\x7b", r"\173", r"\u0025", "None", "true", "set()", "{'", "'{", "#"]),
    max_size=16,
).map("".join)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [part for item in value.items() for part in item]
    return [text for item in value for text in strings(item)] if isinstance(value, (list, tuple, set)) else []


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@given(st.sampled_from([("", ""), ("[", "]"), ("{", "}"), ("[0, ", "]"), ("{0: ", "}"), ("(", ",)")]), PIECES)
def test_a_literal_that_contains_a_text_never_makes_a_template(around: tuple[str, str], text: str) -> None:
    """Ansible turns texts that are literals into data."""
    try:
        value = ast.literal_eval(visible(text).join(around))
    except (SyntaxError, ValueError, TypeError, MemoryError):
        return
    for kept in strings(value):
        # It is not part of a template, either: a playbook may join parts.
        assert not is_template(kept)
        assert not kept.startswith(("{", "%", "#"))


def test_longer_text_is_truncated_with_an_ellipsis() -> None:
    assert visible("x" * EXCERPT) == "x" * EXCERPT
    assert visible("x" * (EXCERPT + 1)) == "x" * EXCERPT + "\u2026"
    assert visible("\n" * 10_000_000, 3) == r"\n\n\n" + "\u2026"


@given(st.text(st.characters(), max_size=300))
def test_the_result_is_one_line_without_control_characters(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
