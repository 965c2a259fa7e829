from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import (
    MINUS,
    SECOND_NS,
    UNKNOWN,
    counted,
    duration,
    printable,
    printable_name,
    signed,
    utc,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Offset
from hypothesis import given
from hypothesis import strategies as st

HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS


@given(st.text(), st.integers(1, 100))
@pytest.mark.parametrize("shorten", [printable, printable_name])
def test_text_is_printable_and_short(shorten: Callable[[str, int], str], text: str, limit: int) -> None:
    shown = shorten(text, limit)
    assert shown.isprintable()
    assert 0 < len(shown) <= limit
    shown.encode()  # no lone surrogate
    assert not text or len(text) > limit or not text.isprintable() or shown == text


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("a\x1b[31mred", 80, "a\\u001b[31mred"),
        ("two\r\nlines\t.", 80, "two\\r\\nlines\\t."),
        ("\u202etxt.exe\u202c", 80, "\\u202etxt.exe\\u202c"),
        ("\ud800\ufeff", 80, "\\ud800\\ufeff"),
        ("\U000e0041", 80, "\\U000e0041"),
        ("grün 東京", 80, "grün 東京"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("x" * 10_000_000, 6, "xxxxx…"),
        # An escape is never cut.
        *(
            ("ab\x1bcd", limit, shown)
            for limit, shown in ((3, "ab…"), (8, "ab…"), (9, "ab\\u001b…"), (10, "ab\\u001bcd"))
        ),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_invisible_characters_are_escaped_and_long_text_is_cut(text: str, limit: int, shown: str) -> None:
    assert printable(text, limit) == shown


@pytest.mark.parametrize("value", [None, "", 5, True, 1.5, float("nan"), b"bytes", ["list"], {"a": 1}, object()])
def test_a_value_that_is_not_a_text_is_unknown(value: object) -> None:
    assert printable(value, 10) == printable_name(value, 10) == UNKNOWN


@pytest.mark.parametrize(
    ("name", "limit", "shown"),
    [
        ("web1", 4, "web1"),
        ("/run/vms/a/qga.sock", 10, "/run….sock"),
        ("abcdefgh", 7, "abc…fgh"),
        ("ab\x1bcd\x1bef", 9, "ab…ef"),
        ("ab\x1bcd", 10, "ab\\u001bcd"),
        ("x" * 10**7 + "y", 5, "xx…xy"),
        ("abc", 1, "…"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_long_name_is_cut_in_its_middle(name: str, limit: int, shown: str) -> None:
    assert printable_name(name, limit) == shown


class Deceiver(str):
    """A string that misreports its own content."""

    __slots__ = ()

    def __getitem__(self, _index: object) -> str:
        return "\x1b"

    def isprintable(self) -> bool:
        return True


@pytest.mark.parametrize("shorten", [printable, printable_name])
def test_a_string_of_another_type_becomes_a_plain_one(shorten: Callable[[str, int], str]) -> None:
    assert type(shorten(Deceiver("web1"), 10)) is str
    assert shorten(Deceiver("web1\x1b"), 10) == "web1\\u001b"


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        *((0, "0 ns"), (999, "999 ns"), (1_000, "1.00 µs"), (9_994, "9.99 µs"), (9_995, "10.0 µs")),
        *((99_950, "100 µs"), (999_499, "999 µs"), (999_500, "1.00 ms"), (48_211, "48.2 µs")),
        *((20_973_581_442, "21.0 s"), (59_949_999_999, "59.9 s"), (59_950_000_000, "1 min 00 s")),
        *((90 * SECOND_NS, "1 min 30 s"), (HOUR_NS - SECOND_NS // 2 - 1, "59 min 59 s")),
        *((HOUR_NS - SECOND_NS // 2, "1 h 00 min"), (DAY_NS - 30 * SECOND_NS, "1 d 00 h"), (26 * HOUR_NS, "1 d 02 h")),
        *((100 * DAY_NS, "100 d"), (2**63 - 1, "106,752 d")),
    ],
)
def test_a_duration_has_familiar_units(ns: int, shown: str) -> None:
    assert duration(ns) == shown


def test_an_offset_has_a_sign_and_a_noun_agrees_with_its_number() -> None:
    assert [signed(ns) for ns in (-1_500, 0, 1_500)] == [f"{MINUS}1.50 µs", "0 ns", "+1.50 µs"]
    assert [Offset(0, ns).uncertain for ns in (7, None)] == ["±7 ns", f"±{UNKNOWN}"]
    assert [counted(number, "guest") for number in (0, 1, 10_000)] == ["0 guests", "1 guest", "10,000 guests"]
    assert [Offset(ns, 1).direction for ns in (-1_500, 90 * SECOND_NS)] == ["1.50 µs behind", "1 min 30 s ahead"]


@pytest.mark.parametrize(
    ("ns", "shown"),
    [(0, "1970-01-01 00:00:00 UTC"), (10**30, UNKNOWN), (1_795_406_706_999_999_999, "2026-11-23 04:05:06 UTC")],
)
def test_a_time_is_in_utc(ns: int, shown: str) -> None:
    assert utc(ns) == shown
