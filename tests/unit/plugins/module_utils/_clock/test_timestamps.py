from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.timestamps import (
    LATEST_NS,
    SECOND_NS,
    format_instant,
    parse_instant,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from hypothesis import given
from hypothesis import strategies as st

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
# 2026-11-23T04:05:06Z
BASE_NS = 1_795_406_706 * SECOND_NS


@given(st.integers(0, LATEST_NS))
def test_text_and_back_loses_nothing(epoch_ns: int) -> None:
    assert parse_instant(format_instant(epoch_ns)) == epoch_ns


@given(st.integers(0, LATEST_NS))
def test_seconds_since_1970_keep_their_nanoseconds(epoch_ns: int) -> None:
    assert parse_instant(f"{epoch_ns // SECOND_NS}.{epoch_ns % SECOND_NS:09d}") == epoch_ns


@given(st.integers(SECOND_NS // 1000 * 86400, LATEST_NS // 1000 - 10**12), st.integers(-86399, 86399))
def test_any_zone_is_the_same_instant(microseconds: int, zone_seconds: int) -> None:
    zone = timezone(timedelta(seconds=zone_seconds))
    instant = EPOCH + timedelta(microseconds=microseconds)
    assert parse_instant(instant.astimezone(zone).isoformat()) == microseconds * 1_000


@pytest.mark.parametrize(
    ("text", "epoch_ns"),
    [
        ("2026-11-23T04:05:06Z", BASE_NS),
        ("2026-11-23T04:05:06z", BASE_NS),
        ("2026-11-23 04:05:06Z", BASE_NS),
        ("  2026-11-23T04:05:06Z\n", BASE_NS),
        ("2026-11-23T05:05:06+01:00", BASE_NS),
        ("2026-11-22T22:35:06-05:30", BASE_NS),
        ("2026-11-23T04:05:06.5Z", BASE_NS + 500_000_000),
        ("2026-11-23T04:05:06,5Z", BASE_NS + 500_000_000),
        ("2026-11-23T04:05:06.789+00:00", BASE_NS + 789_000_000),
        ("2026-11-23T04:05:06.123456789Z", BASE_NS + 123_456_789),
        ("2026-11-23T04:05:06.1234567899Z", BASE_NS + 123_456_789),
        ("2026-11-23T04:05Z", BASE_NS - 6 * SECOND_NS),
        ("1795406706", BASE_NS),
        ("1795406706.000000001", BASE_NS + 1),
        ("1795406706.0000000019", BASE_NS + 1),
        ("1.795406706e9", BASE_NS),
        ("0", 0),
        ("1e-9999999", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("9223372036.854775807", LATEST_NS),
    ],
)
def test_what_is_an_instant(text: str, epoch_ns: int) -> None:
    assert parse_instant(text) == epoch_ns


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not an instant"),
        ("tomorrow", "is not an instant"),
        ("2026-13-01T00:00:00Z", "is not an instant"),
        ("2026-11-23T04:05:06+25:00", "is not an instant"),
        ("2026-11-23T04:05:06", "has no zone"),
        ("2026-11-23", "has no zone"),
        ("2026-11-23T04:05:06.5", "has no zone"),
        ("1e999999", "outside of the years"),
        ("1e9999999", "outside of the years"),
        ("-1e9999999", "outside of the years"),
        ("1e99999999999999999999999", "is not an instant"),
        ("nan", "outside of the years"),
        ("sNaN", "outside of the years"),
        ("inf", "outside of the years"),
        ("-Infinity", "outside of the years"),
        ("-1", "outside of the years"),
        ("-0.000000001", "outside of the years"),
        ("1969-12-31T23:59:59Z", "outside of the years"),
        ("0001-01-01T00:00:00+23:59", "outside of the years"),
        ("2262-04-11T23:47:17Z", "outside of the years"),
        ("9999-12-31T23:59:59Z", "outside of the years"),
        ("9223372036.854775808", "outside of the years"),
        ("9223372036854775807", "outside of the years"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(InvalidOptionError, match=why) as caught:
        parse_instant(text)
    assert caught.value.message.startswith("time ")
    assert "2026-11-23T04:05:06.789+01:00" in caught.value.hint


@pytest.mark.parametrize("text", ["2026-11-23T04:05:06+01:00:00.500000", "20261123T040506.5Z"])
def test_a_fraction_elsewhere_is_taken_right_or_refused(text: str) -> None:
    # Which of both depends on the version of Python.
    right = {"2026-11-23T04:05:06+01:00:00.500000": BASE_NS - 3_600 * SECOND_NS - 500_000_000}
    try:
        epoch_ns = parse_instant(text)
    except InvalidOptionError:
        return
    assert epoch_ns == right.get(text, BASE_NS + 500_000_000)


@pytest.mark.parametrize(
    ("epoch_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (BASE_NS + 7, "2026-11-23T04:05:06.000000007Z"),
        (LATEST_NS, "2262-04-11T23:47:16.854775807Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (10**30, "1000000000000000000000.000000000"),
    ],
)
def test_an_instant_as_text(epoch_ns: int, text: str) -> None:
    assert format_instant(epoch_ns) == text
