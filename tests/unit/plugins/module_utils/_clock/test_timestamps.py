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
def test_an_instant_survives_formatting_and_parsing(epoch_ns: int) -> None:
    assert parse_instant(format_instant(epoch_ns)) == epoch_ns
    assert parse_instant(f"{epoch_ns // SECOND_NS}.{epoch_ns % SECOND_NS:09d}") == epoch_ns


@given(st.integers(SECOND_NS // 1000 * 86400, LATEST_NS // 1000 - 10**12), st.integers(-86399, 86399))
def test_an_instant_is_the_same_in_every_zone(microseconds: int, zone_seconds: int) -> None:
    zone = timezone(timedelta(seconds=zone_seconds))
    instant = EPOCH + timedelta(microseconds=microseconds)
    assert parse_instant(instant.astimezone(zone).isoformat()) == microseconds * 1_000


@pytest.mark.parametrize(
    ("text", "epoch_ns"),
    [
        ("2026-11-23T04:05:06z", BASE_NS),
        ("2026-11-23 04:05:06Z", BASE_NS),
        ("  2026-11-23T04:05:06Z\n", BASE_NS),
        ("2026-11-23T04:05:06,5Z", BASE_NS + 500_000_000),
        ("2026-11-23T04:05:06.1234567899Z", BASE_NS + 123_456_789),
        ("2026-11-23T04:05Z", BASE_NS - 6 * SECOND_NS),
        ("1795406706", BASE_NS),
        ("1795406706.0000000019", BASE_NS + 1),
        ("1.795406706e9", BASE_NS),
        ("1e-9999999", 0),
    ],
)
def test_accepted_spellings_of_an_instant(text: str, epoch_ns: int) -> None:
    assert parse_instant(text) == epoch_ns


@pytest.mark.parametrize(
    ("why", "texts"),
    [
        ("is not a time", ("", "tomorrow", "2026-13-01T00:00:00Z", "2026-11-23T04:05:06+25:00", "1e" + "9" * 23)),
        ("has no time zone", ("2026-11-23T04:05:06", "2026-11-23", "2026-11-23T04:05:06.5")),
        ("outside of the years", ("1e9999999", "-1e9999999", "nan", "sNaN", "inf", "-1", "-0.000000001")),
        ("outside of the years", ("1969-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2262-04-11T23:47:17Z")),
        ("outside of the years", ("9999-12-31T23:59:59Z", "9223372036.854775808", "9223372036854775807")),
    ],
)
def test_any_other_text_is_rejected_with_a_reason_and_an_example(why: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        with pytest.raises(InvalidOptionError, match=why) as caught:
            parse_instant(text)
        assert caught.value.message.startswith(f"time '{text}' ")
        assert "2026-11-23T04:05:06.789+01:00" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("2026-11-23T04:05:06+01:00:00.500000", BASE_NS - 3_600 * SECOND_NS - 500_000_000),
        ("20261123T040506.5Z", BASE_NS + 500_000_000),
    ],
)
def test_unusual_fractions_are_parsed_correctly_or_rejected(text: str, expected_ns: int) -> None:
    # The result depends on the version of Python.
    try:
        epoch_ns = parse_instant(text)
    except InvalidOptionError:
        return
    assert epoch_ns == expected_ns


@pytest.mark.parametrize(
    ("epoch_ns", "text"),
    [
        (BASE_NS + 7, "2026-11-23T04:05:06.000000007Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (10**30, "1000000000000000000000.000000000"),
    ],
)
def test_instants_are_formatted_with_nanoseconds(epoch_ns: int, text: str) -> None:
    assert format_instant(epoch_ns) == text
