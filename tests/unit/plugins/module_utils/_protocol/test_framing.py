"""Framing: the ends of messages, and the handling of bytes that are not messages."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.framing import (
    DELIMITER,
    Decoder,
    Delimiter,
    Malformed,
    Message,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from tests.support.json_strategies import PATIENT, cut, garbage, spelled_values, white_space
from tests.support.process_figures import peak_memory

KIB = 1024

DEFAULT = Limits()


# Events in these tests: a message is its bytes, 0xFF the number of bytes that it dropped, an error its message.
def describe(event: framing.Event) -> bytes | int | str:
    if isinstance(event, Message):
        return event.raw
    return event.dropped if isinstance(event, Delimiter) else event.error.message


def seen(*pieces: bytes, limits: Limits = DEFAULT) -> list[bytes | int | str]:
    decoder = Decoder(limits)
    events: list[bytes | int | str] = []
    for piece in pieces:
        decoder.feed(piece)
        events += map(describe, decoder)
    return events


def drips(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def seen_either_way(data: bytes, limits: Limits = DEFAULT) -> list[bytes | int | str]:
    """Return the events of the data in one piece, after checking that they are the same byte by byte."""
    events = seen(data, limits=limits)
    assert events == seen(*drips(data), limits=limits)
    return events


def stray(byte: int) -> str:
    return f"the peer sent a stray byte 0x{byte:02X} where JSON does not allow it"


EXCHANGES = {
    "request": b'{"execute": "guest-sync", "arguments": {"id": -7}}',
    "return": b'{"return": {"version": "10.0.13", "supported_commands": [{"name": "guest-ping", "enabled": true}]}}',
    "error": b'{"error": {"class": "GenericError", "desc": "Parameter \'id\' is missing \\"\\u00e9\\" \\\\"}}',
    "list": b"[[], {}, [1.5e-3, null]]",
    "string": b'"\\"}{\\\\"',
    "single-quoted string": b"'\"}{\\''",
}


@pytest.mark.parametrize("raw", EXCHANGES.values(), ids=list(EXCHANGES))
def test_a_value_is_complete_with_its_last_byte_however_it_was_cut(raw: bytes) -> None:
    assert seen_either_way(raw) == [raw]
    assert seen(raw[:-1]) == []
    stream = b" " + raw + raw + b"\r\n" + raw
    for point in range(len(stream) + 1):
        assert seen(stream[:point], stream[point:]) == [raw, raw, raw], point


@pytest.mark.parametrize("raw", [b"0", b"-0", b"12", b"-12", b"1.5", b"1e5", b"1E-5", b"0.25e+5", b"true", b"null"])
def test_numbers_and_words_end_at_the_byte_after_them(raw: bytes) -> None:
    assert seen(raw) == []
    assert seen(raw, b"\n") == [raw]
    assert seen(raw + b" ") == [raw]
    assert seen(raw + b"{}") == [raw, b"{}"]


def test_values_need_no_separator_and_white_space_between_them_is_ignored() -> None:
    assert seen(b'1-2true"a"0null-1,') == [b"1", b"-2", b"true", b'"a"', b"0", b"null", b"-1", b","]
    assert seen(b" \t\r\n") == []
    assert seen(b"\n\n {} \r\n\t[] \n") == [b"{}", b"[]"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", True), (b" \n", True), (b"{", False), (b'"', False), (b"1", False), (b"\xff", False), (b"\xff\n{}\n", True)],
)
def test_a_decoder_is_idle_if_nothing_is_left_in_it(data: bytes, expected: bool) -> None:
    decoder = Decoder()
    decoder.feed(data)
    list(decoder)
    assert decoder.is_idle is expected
    decoder.feed(b"[]{}" if expected else data)
    assert not decoder.is_idle, "it still has events"


def test_a_message_is_decoded_with_the_limits_of_its_decoder() -> None:
    decoder = Decoder(Limits(values=1))
    decoder.feed(b"[1,2]")
    (message,) = decoder
    assert isinstance(message, Message)
    with pytest.raises(RemoteProtocolError, match="more than 1 values"):
        message.decode()


@PATIENT
@given(cut(garbage), st.just(DEFAULT) | st.builds(Limits, st.integers(1, 12), st.integers(0, 3)))
def test_events_do_not_depend_on_how_the_bytes_were_cut(data: tuple[bytes, list[bytes]], limits: Limits) -> None:
    whole, pieces = data
    assert seen(*pieces, limits=limits) == seen_either_way(whole, limits)


@PATIENT
@given(st.data(), st.lists(spelled_values(), max_size=5))
def test_values_back_to_back_are_returned_unchanged(
    data: st.DataObject, spelled: list[tuple[Any, bytes, bytes]]
) -> None:
    stream = b"".join(raw + delimiter + data.draw(white_space).encode() for _value, raw, delimiter in spelled)
    whole, pieces = data.draw(cut(st.just(stream)))
    assert seen(*pieces) == seen(whole) == [raw for _value, raw, _delimiter in spelled]
    # As text, since 1 == 1.0 == True.
    assert [repr(decode(raw)) for _value, raw, _delimiter in spelled] == [repr(value) for value, *_rest in spelled]


# ------------------------------------------------------------------------------------------------- errors and recovery

# The bytes that bring the lexer into each of its states, and the events until then.
LEXER_STATES: dict[str, tuple[bytes, list[bytes | int | str]]] = {
    "start": (b'[ "a", 1 ', []),
    "double_quoted": (b'{"ab', []),
    "double_quoted_escape": (b'"ab\\', []),
    "single_quoted": (b"'ab", []),
    "single_quoted_escape": (b"['ab\\", []),
    "sign": (b"-", []),
    "zero": (b"[0", []),
    "digits": (b"[12", []),
    "mantissa": (b"[1.", []),
    "mantissa_digits": (b"[1.5", []),
    "exponent": (b"1e", []),
    "exponent_sign": (b"1e+", []),
    "exponent_digits": (b"[1e+5", []),
    "keyword": (b"[tru", []),
    "recovery": (b"[\x00abc", [stray(0)]),
    "overflow": (b"[[[[abc", ["the peer sent a message that is nested deeper than 3 levels"]),
}
THREE_LEVELS = Limits(nesting=3)


@pytest.mark.parametrize(("before", "reported"), LEXER_STATES.values(), ids=list(LEXER_STATES))
def test_in_any_state_0xff_drops_the_unfinished_value_and_0xfe_is_an_error(
    before: bytes, reported: list[bytes | int | str]
) -> None:
    dropped = 0 if reported else len(before)
    assert seen_either_way(before + DELIMITER + b"{}", THREE_LEVELS) == [*reported, dropped, b"{}"]
    assert seen_either_way(before + b"\xfe{}", THREE_LEVELS) == [*reported, stray(0xFE), b"{}"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # 0xFF ends a bare number or word as any other byte does, and drops no complete value.
        *((raw + DELIMITER, [raw, 0]) for raw in (b"0", b"12", b"1.5", b"1e+5", b"true")),
        (b"{} \t\xff\n\xff\xff{}", [b"{}", 0, 0, 0, b"{}"]),
        (b'{"return": {}}\xff{"return": 1}\n', [b'{"return": {}}', 0, b'{"return": 1}']),
        (b"[1\x00{}", [stray(0), b"{}"]),
        # A number or a word ends at any byte that cannot belong to it, even if that byte is an error.
        (b"12\x00{}", [b"12", stray(0), b"{}"]),
        (b"true\x01{}", [b"true", stray(1), b"{}"]),
        (b"[12\x80{}", [stray(0x80), b"{}"]),
        (b"GARBAGE {}", [stray(ord("G")), b"{}"]),
        (b"garbage here\n", [b"garbage", b"here"]),
        (b"%d\n{}", [stray(ord("%")), b"{}"]),
        (b"\\\n{}", [stray(ord("\\")), b"{}"]),
        (b"01\n2\n", [stray(ord("1")), b"2"]),
        (b'"a\nb"\n{}', [stray(ord("\n")), b"{}"]),
        (b'"a\\\nb"\x00{}', [stray(ord("\n")), stray(0), b"{}"]),
        (b"'a\tb'\n{}", [stray(ord("\t")), b"{}"]),
        (b"NaN {}", [stray(ord("N")), b"{}"]),
        (b"-Infinity\n1\n", [stray(ord("I")), b"1"]),
        (b"\xc3\xa9 {}", [stray(0xC3), b"{}"]),
    ],
)
def test_stray_bytes_are_errors_and_the_next_value_is_read(data: bytes, expected: list[bytes | int | str]) -> None:
    assert seen_either_way(data) == expected


@pytest.mark.parametrize("byte", [b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\x00", b"\x1f", b"\xfe", b"\xff"])
@pytest.mark.parametrize("error", [b"\x00", b"G", b"\xff"])
def test_recovery_ends_at_a_byte_that_may_begin_a_value(byte: bytes, error: bytes) -> None:
    # That byte is read again, so the events after the first one are those of a fresh start.
    assert seen(error + b'skip "this" 1' + byte + b"}")[1:] == seen(byte + b"}")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *((raw, [raw]) for raw in (b"{]", b"[}", b"}", b"]", b"[{]}", b'{"a":}', b"[1 2]", b"[nul]")),
        (b":,", [b":", b","]),
        (b"{}}{}", [b"{}", b"}", b"{}"]),
        (b"[{]]{}", [b"[{]]", b"{}"]),
    ],
)
def test_brackets_are_counted_but_not_matched(data: bytes, expected: list[bytes]) -> None:
    assert seen_either_way(data) == expected
    for raw in set(expected) - {b"{}"}:
        with pytest.raises(RemoteProtocolError, match=r"^the peer sent a message that is not JSON: "):
            decode(raw)


@PATIENT
@given(cut(st.binary() | garbage), st.integers(0, 20), st.integers(0, 3), st.integers(0, 3))
def test_any_bytes_raise_only_protocol_errors(
    data: tuple[bytes, list[bytes]], size: int, nesting: int, limit: int
) -> None:
    for limits in (DEFAULT, Limits(size, nesting, limit)):
        decoder = Decoder(limits)
        for piece in data[1]:
            decoder.feed(piece)
            for event in decoder:
                assert isinstance(event, (Message, Delimiter, Malformed))
                if isinstance(event, Message):
                    assert 0 < len(event.raw) <= limits.size
                    with contextlib.suppress(RemoteProtocolError):
                        event.decode()


# -------------------------------------------------------------------------------------------------------------- limits

TOO_LONG = "the peer sent a message that is longer than 8 bytes"
EIGHT_BYTES = Limits(size=8)


@pytest.mark.parametrize(
    "raw",
    [
        *(b'"abcdef"', b"'abcdef'", b"[1,2, 3]", b'["\\"\\n"]', b'{"a":12}', b"12345678", b"nonsense", b"1.2e+100"),
    ],
)
def test_the_size_does_not_include_the_white_space_around_a_value(raw: bytes) -> None:
    stream = b" " * 20 + raw + b"\n" + b" " * 20 + b"{}"
    assert seen_either_way(stream, EIGHT_BYTES) == [raw, b"{}"]
    assert seen_either_way(stream, Limits(size=7)) == [TOO_LONG.replace("8", "7"), b"{}"]


def test_bytes_are_read_only_when_an_event_is_asked_for() -> None:
    decoder = Decoder()
    decoder.feed(b"{}" * 500_000)
    began_at = time.process_time()
    assert [decoder.next_event(), decoder.next_event()] == [Message(b"{}")] * 2
    assert time.process_time() - began_at < 0.1  # all of them would take seconds


@pytest.mark.parametrize("data", [b'{"return": {}}', b' {"return": [1, {"a": [2]}]}\r\n', b"7", b'"x"', b"{]"])
def test_one_whole_message_is_accepted(data: bytes) -> None:
    assert framing.whole_message(data).raw == data.strip()


@pytest.mark.parametrize(
    "data", [b"", b" ", b"{", b"{}{}", b"{} x", b'"x', b"\xff{}", b"{}\xff", b"\x00", b"X", b"[" * 20]
)
def test_anything_but_one_whole_message_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        framing.whole_message(data, Limits(size=100, nesting=16))


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b'{"return": [{"a": 1}, {"b": [2, "}"]}]} {} "\n[]', [TOO_LONG, b"[]"]),
        *((b"[1,2,3,4,5,6]" + end + b"[]", [TOO_LONG, b"[]"]) for end in (b"\n", b"\r", b"\r\n")),
        (b'"123456789\xff[]', [TOO_LONG, 0, b"[]"]),
    ],
)
def test_a_line_that_is_too_long_is_one_error_and_ends_with_the_line(stream: bytes, expected: list[Any]) -> None:
    assert seen(stream, limits=EIGHT_BYTES) == expected


@pytest.mark.parametrize(
    ("fits", "too_deep"),
    [
        (b"[[[]]]", b"[[[[]]]]"),
        (b'{"a":{"a":{}}}', b'{"a":{"a":{"a":{}}}}'),
        (b'[{"a":[]}]', b'[{"a":[{}]}]'),
        (b'{"a":[{}]}', b'{"a":[{"a":[]}]}'),
        (b"[[],[[]],[[]]]", b"[[],[[]],[[[]]]]"),
    ],
)
def test_a_value_that_is_nested_too_deeply_is_an_error(fits: bytes, too_deep: bytes) -> None:
    expected = [fits, "the peer sent a message that is nested deeper than 3 levels", b"{}"]
    stream = fits + too_deep + b" {}\n{}"
    assert seen_either_way(stream, THREE_LEVELS) == expected


def test_the_default_nesting_can_be_decoded_and_encoded() -> None:
    raw = b"[" * 512 + b"]" * 512
    assert seen(raw) == [raw]
    assert encode(decode(raw)) == raw + b"\n"
    assert seen(b"[" + raw + b"]\n{}") == ["the peer sent a message that is nested deeper than 512 levels", b"{}"]


@pytest.mark.parametrize(
    ("first", "then"),
    [(b'"', b"a"), (b"['", b"\\'"), (b"[", b"1,"), (b"", b"7"), (b"", b"x"), (b"", b" "), (b"G", b"g"), (b"{", b"\n")],
)
def test_memory_is_bounded_by_the_limit(first: bytes, then: bytes) -> None:
    chunk = then * (64 * KIB // len(then))
    decoder = Decoder(Limits(size=256 * KIB))

    def work() -> None:
        decoder.feed(first)
        for _level in range(32):
            decoder.feed(chunk)
            list(decoder)

    # 2 MiB were fed. A growing buffer exists twice for a moment; the rest is for events and white space.
    assert peak_memory(work) < 2 * (256 * KIB + len(chunk)) + 128 * KIB


@pytest.mark.parametrize(
    "data", [b"{" + b" " * 500_000, b'{"' + b"a" * 500_000, b"{" + b'"a",' * 100_000, b"{1" * 100_000]
)
def test_time_is_linear_in_the_length_of_an_unfinished_value(data: bytes) -> None:
    assert seen(data, limits=Limits(nesting=len(data))) == []  # otherwise pytest's timeout ends it
