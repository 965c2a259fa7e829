from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import (
    MINUS,
    SECOND_NS,
    UNKNOWN,
    counted,
    duration,
    printable,
    signed,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Offset
from hypothesis import given
from hypothesis import strategies as st

HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS


@given(st.text(), st.integers(1, 100))
def test_what_is_shown_prints_and_is_short(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert 0 < len(shown) <= limit
    shown.encode()  # no half of a surrogate pair
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
        # An escape is whole or missing.
        *(
            ("ab\x1bcd", limit, shown)
            for limit, shown in ((3, "ab…"), (8, "ab…"), (9, "ab\\u001b…"), (10, "ab\\u001bcd"))
        ),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_deceives_is_shown_as_an_escape_and_what_is_long_is_cut(text: str, limit: int, shown: str) -> None:
    assert printable(text, limit) == shown


@pytest.mark.parametrize("value", [None, "", 5, True, 1.5, float("nan"), b"bytes", ["list"], {"a": 1}, object()])
def test_what_is_no_text_is_unknown(value: object) -> None:
    assert printable(value, 10) == UNKNOWN


class Deceiver(str):
    """A text that would say something else of itself."""

    __slots__ = ()

    def __getitem__(self, _index: object) -> str:
        return "\x1b"

    def isprintable(self) -> bool:
        return True


def test_a_text_of_another_type_becomes_a_plain_one() -> None:
    assert not isinstance(printable(Deceiver("web1"), 10), Deceiver)
    assert printable(Deceiver("web1\x1b"), 10) == "web1\\u001b"


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
def test_a_duration_has_units_that_one_can_picture(ns: int, shown: str) -> None:
    assert duration(ns) == shown


def test_an_offset_has_a_sign_and_numbers_agree_with_their_noun() -> None:
    assert [signed(ns) for ns in (-1_500, 0, 1_500)] == [f"{MINUS}1.50 µs", "0 ns", "+1.50 µs"]
    assert [Offset(0, ns).uncertain for ns in (7, None)] == ["±7 ns", f"±{UNKNOWN}"]
    assert [counted(number, "guest") for number in (0, 1, 10_000)] == ["0 guests", "1 guest", "10,000 guests"]
