"""Whole numbers as peers write them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.numbers import Whole, expect_integer, whole
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import decode
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("raw", "value", "rounded"),  # the text, its value, and the largest difference from the original number
    [
        (b"5", 5, 0),
        (b"-9223372036854775808", -(2**63), 0),
        (b"5.0", 5, 0),
        (b"0.0", 0, 0),
        (b"-5.00", -5, 0),
        (b"1795981742.0", 1_795_981_742, 0),
        (b"1.5e1", 15, 0),
        (b"1e3", 1000, 500),
        (b"120e-1", 12, 0),
        (b"1.7959817427148229e+18", 1_795_981_742_714_822_912, 50 + 256),
        (b"1.7959817427148229E18", 1_795_981_742_714_822_912, 50 + 256),
        (b"1.79598174271482e+18", 1_795_981_742_714_820_096, 5_000 + 256),
        (b"1795981742714822912.0", 1_795_981_742_714_822_912, 256),
        (b"9007199254740993", 2**53 + 1, 0),
        (b"1795981742714822913", 1_795_981_742_714_822_913, 0),
        (b"-9.223372036854775808e18", -(2**63), 2_048),
    ],
)
def test_a_whole_number_may_be_written_as_a_double(raw: bytes, value: int, rounded: int) -> None:
    assert whole(decode(raw)) == Whole(value, rounded)
    found = expect_integer(decode(raw), "the time")
    assert (found, found.__class__) == (value, int)


@given(st.integers(1, 17), st.integers(-(2**62), 2**62))
def test_the_original_number_is_within_the_rounding(digits: int, original: int) -> None:
    written = f"{float(original):.{digits - 1}e}"
    found = whole(decode(written.encode()))
    if found is not None:  # otherwise the digits end after the decimal point
        assert abs(found.value - original) <= found.rounded


NOT_WHOLE = [
    *(b"1.5", b"0.5e0", b"15e-1", b"5.00000000000000000001", b"1795406754194651471.5"),
    *(b"1e-400", b"-1e-999", b"1e-999999", b"0.1e-400", b"1e-99999999999999999999"),
    *(b"-0.0", b"-0e5"),
    *(b"1e400", b"-1e19", b"1.8446744073709551616e19"),
    b"1" + b"0" * 15 + b"." + b"0" * 60,
]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((decode(raw), "float") for raw in NOT_WHOLE),
        *((value, "float") for value in (float("nan"), float("inf"), float("-inf"), 2.0**64, -(2.0**64))),
        *((True, "bool"), ("1", "str"), (None, "NoneType"), ([1], "list"), ({}, "dict")),
    ],
)
def test_anything_but_a_whole_number_in_range_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        expect_integer(value, "the time")
    assert caught.value.message == f"the agent returned the time as {kind}, not as an integer"
