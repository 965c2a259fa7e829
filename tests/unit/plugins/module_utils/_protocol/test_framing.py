# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the wire does, from the framing of messages up to the meaning of a reply."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.framing import (
    DELIMITER,
    Decoder,
    Malformed,
    Message,
    Resync,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import (
    Refused,
    Returned,
    is_reply,
    read_reply,
    request,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import (
    Limits,
    WholeFloat,
    decode,
    encode,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KIB = 1024

DEFAULT = Limits()
# A slow machine is no reason to fail.
PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])


# How an event reads in these tests: a message is its bytes, 0xFF the count of what it dropped, the rest a sentence.
def describe(event: framing.Event) -> bytes | int | str:
    if isinstance(event, Message):
        return event.raw
    return event.dropped if isinstance(event, Resync) else event.error.message


def seen(*pieces: bytes, limits: Limits = DEFAULT) -> list[bytes | int | str]:
    decoder = Decoder(limits)
    events: list[bytes | int | str] = []
    for piece in pieces:
        decoder.feed(piece)
        events += map(describe, decoder)
    return events


def drips(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def stray(byte: int) -> str:
    return f"the peer sent a stray byte 0x{byte:02X} where JSON does not allow it"


# ---------------------------------------------------------------------------------------------------------- generators

# What has a meaning in JSON, and one character of each length in UTF-8.
texts = st.text("a1 \"'\\/{}[],:\0\n\x7fé€😀", max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
# No newline: nothing in the framing may rest on it.
white_space = st.text(" \t\r", max_size=2)


def tokens(value: Any, ascii_only: bool) -> Iterable[str]:
    if isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield from "," * (index > 0)
            yield from tokens(item, ascii_only)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield from "," * (index > 0)
            yield json.dumps(key, ensure_ascii=ascii_only)
            yield ":"
            yield from tokens(item, ascii_only)
        yield "}"
    else:
        yield json.dumps(value, ensure_ascii=ascii_only)


@st.composite
def spelt_values(draw: st.DrawFn) -> tuple[Any, bytes, bytes]:
    """A value, its bytes with white space anywhere inside, and what must follow them at the least."""
    value = draw(json_values)
    text = ""
    for token in tokens(value, draw(st.booleans())):
        text += token + draw(white_space)
    needs_delimiter = not isinstance(value, (str, list, dict))
    return value, text.strip(" \t\r").encode(), b" " if needs_delimiter else b""


PIECES_OF_JSON = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b"\\u12"),
    *(b'"a"', b"'b'", b'"\\n"', b"'\\''", b'"\xc3\xa9"', b'"\xc3"', b'{"execute":"guest-ping"}'),
    *(b"0", b"12", b"-", b"-1", b"1.5", b"1.", b"2e5", b"2e", b"2e+", b"true", b"null", b"nonsense"),
    *(b" ", b"\t", b"\r", b"\n", b"\xff", b"\xfe", b"\x80", b"\x00", b"G", b"%"),
]
garbage = st.lists(st.sampled_from(PIECES_OF_JSON) | st.binary(max_size=4), max_size=40).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    data = draw(whole)
    points = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *points, len(data)]
    return data, [data[start : edges[number]] for number, start in enumerate(edges[:-1], 1)]


# ------------------------------------------------------------------------------------------------------------- framing

EXCHANGES = {
    "request": b'{"execute": "guest-sync", "arguments": {"id": -7}}',
    "request without arguments": b'{"execute":"guest-ping"}',
    "return": b'{"return": {"version": "10.0.13", "supported_commands": [{"name": "guest-ping", "enabled": true}]}}',
    "empty return": b'{"return": {}}',
    "scalar return": b'{"return": 1754500000123456000}',
    "error": b'{"error": {"class": "GenericError", "desc": "Parameter \'id\' is missing \\"\\u00e9\\" \\\\"}}',
    "list": b"[[], {}, [1.5e-3, null]]",
    "string": b'"\\"}{\\\\"',
    "single-quoted string": b"'\"}{\\''",
}


@pytest.mark.parametrize("raw", EXCHANGES.values(), ids=list(EXCHANGES))
def test_a_value_is_complete_with_its_last_byte(raw: bytes) -> None:
    assert seen(raw) == [raw]
    assert seen(raw[:-1]) == []


@pytest.mark.parametrize("raw", EXCHANGES.values(), ids=list(EXCHANGES))
def test_a_value_may_come_byte_by_byte(raw: bytes) -> None:
    assert seen(*drips(raw)) == [raw]


@pytest.mark.parametrize("raw", EXCHANGES.values(), ids=list(EXCHANGES))
def test_a_value_may_be_cut_anywhere(raw: bytes) -> None:
    stream = b" " + raw + raw + b"\r\n" + raw
    for point in range(len(stream) + 1):
        assert seen(stream[:point], stream[point:]) == [raw, raw, raw], point


@pytest.mark.parametrize("raw", [b"0", b"-0", b"12", b"-12", b"1.5", b"1e5", b"1E-5", b"0.25e+5", b"true", b"null"])
def test_numbers_and_words_end_with_the_byte_behind_them(raw: bytes) -> None:
    assert seen(raw) == []
    assert seen(raw, b"\n") == [raw]
    assert seen(raw + b" ") == [raw]
    assert seen(raw + b"{}") == [raw, b"{}"]


def test_numbers_and_words_may_lie_back_to_back() -> None:
    assert seen(b'1-2true"a"0null-1,') == [b"1", b"-2", b"true", b'"a"', b"0", b"null", b"-1", b","]


def test_white_space_between_values_is_nothing() -> None:
    assert seen(b" \t\r\n") == []
    assert seen(b"\n\n {} \r\n\t[] \n") == [b"{}", b"[]"]


def test_events_are_given_once_and_in_order() -> None:
    decoder = Decoder()
    decoder.feed(b"{}[]")
    decoder.feed(b"\xff{")
    assert [describe(event) for event in decoder] == [b"{}", b"[]", 0]
    assert list(decoder) == []
    decoder.feed(b"}")
    assert list(decoder) == [Message(b"{}")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", True), (b" \n", True), (b"{", False), (b'"', False), (b"1", False), (b"\xff", False), (b"\xff\n{}\n", True)],
)
def test_a_decoder_is_idle_where_nothing_is_left_in_it(data: bytes, expected: bool) -> None:
    decoder = Decoder()
    decoder.feed(data)
    list(decoder)
    assert decoder.is_idle is expected
    decoder.feed(b"[]{}" if expected else data)
    assert not decoder.is_idle, "events wait in it"


def test_a_message_knows_the_limits_it_was_received_under() -> None:
    decoder = Decoder(Limits(values=1))
    decoder.feed(b"[1,2]")
    (message,) = decoder
    assert isinstance(message, Message)
    with pytest.raises(RemoteProtocolError, match="more than 1 values"):
        message.decode()


@PATIENT
@given(cut(garbage))
def test_how_the_bytes_were_cut_does_not_matter(data: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = data
    assert seen(*pieces) == seen(whole) == seen(*drips(whole))


@PATIENT
@given(cut(garbage), st.integers(1, 12), st.integers(0, 3))
def test_nor_does_it_where_limits_are_broken(data: tuple[bytes, list[bytes]], size: int, nesting: int) -> None:
    whole, pieces = data
    limits = Limits(size, nesting)
    assert seen(*pieces, limits=limits) == seen(whole, limits=limits) == seen(*drips(whole), limits=limits)


def test_a_limit_is_broken_by_the_same_byte_however_the_message_came() -> None:
    data, limits = b"[1,2,3,4,5\n6,7,8]\n{}", Limits(size=6)
    expected = ["the peer sent a message that is longer than 6 bytes", b"6", b",", b"7", b",", b"8", b"]", b"{}"]
    assert seen(data, limits=limits) == expected
    assert seen(*drips(data), limits=limits) == expected


@PATIENT
@given(garbage, st.integers(1, 40))
def test_many_tokens_at_once_are_the_same_as_one_after_the_other(data: bytes, size: int) -> None:
    fast = seen(b"[" + data, limits=Limits(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "_TOKENS", framing._STATES["start"].run)
        assert seen(b"[" + data, limits=Limits(size)) == fast


@PATIENT
@given(st.data(), st.lists(spelt_values(), max_size=5))
def test_values_back_to_back_come_out_as_they_went_in(
    data: st.DataObject, spelt: list[tuple[Any, bytes, bytes]]
) -> None:
    stream = b"".join(raw + delimiter + data.draw(white_space).encode() for _value, raw, delimiter in spelt)
    whole, pieces = data.draw(cut(st.just(stream)))
    assert seen(*pieces) == seen(whole) == [raw for _value, raw, _delimiter in spelt]
    # As text, since 1 == 1.0 == True.
    assert [repr(decode(raw)) for _value, raw, _delimiter in spelt] == [repr(value) for value, *_rest in spelt]


# ------------------------------------------------------------------------------------------------- errors and recovery

# What brings the lexer into each of its states, and what it has reported until there.
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
IN_ANY_STATE = pytest.mark.parametrize(("before", "reported"), LEXER_STATES.values(), ids=list(LEXER_STATES))
THREE_LEVELS = Limits(nesting=3)


def test_no_state_of_the_lexer_is_forgotten_here() -> None:
    assert set(LEXER_STATES) == set(framing._STATES)


@IN_ANY_STATE
def test_0xff_drops_what_came_before(before: bytes, reported: list[bytes | int | str]) -> None:
    dropped = 0 if reported else len(before)
    expected = [*reported, dropped, b"{}"]
    assert seen(before + DELIMITER + b"{}", limits=THREE_LEVELS) == expected
    assert seen(*drips(before + DELIMITER + b"{}"), limits=THREE_LEVELS) == expected


@IN_ANY_STATE
def test_0xfe_is_an_error(before: bytes, reported: list[bytes | int | str]) -> None:
    assert seen(before + b"\xfe{}", limits=THREE_LEVELS) == [*reported, stray(0xFE), b"{}"]


@pytest.mark.parametrize("raw", [b"0", b"12", b"1.5", b"1e+5", b"true"])
def test_0xff_ends_a_bare_number_or_word_as_any_other_byte_does(raw: bytes) -> None:
    assert seen(raw + DELIMITER) == [raw, 0]


def test_0xff_between_values_drops_nothing() -> None:
    assert seen(b"{} \t\xff\n\xff\xff{}") == [b"{}", 0, 0, 0, b"{}"]


def test_0xff_drops_no_finished_message() -> None:
    assert seen(b'{"return": {}}\xff{"return": 1}\n') == [b'{"return": {}}', 0, b'{"return": 1}']


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[1\x00{}", [stray(0), b"{}"]),
        # A number or a word ends with whatever cannot belong to it, which may be an error by itself.
        (b"12\x00{}", [b"12", stray(0), b"{}"]),
        (b"true\x01{}", [b"true", stray(1), b"{}"]),
        (b"12\x80{}", [b"12", stray(0x80), b"{}"]),
        (b"[12\x80{}", [stray(0x80), b"{}"]),
        (b"GARBAGE {}", [stray(ord("G")), b"{}"]),
        (b"garbage here\n", [b"garbage", b"here"]),
        (b"%d\n{}", [stray(ord("%")), b"{}"]),
        (b"\\\n{}", [stray(ord("\\")), b"{}"]),
        (b"01\n2\n", [stray(ord("1")), b"2"]),
        (b"-a\n", [stray(ord("a"))]),
        (b"1.\n{}", [stray(ord("\n")), b"{}"]),
        (b"1ex\n", [stray(ord("x"))]),
        (b"1e+x\n", [stray(ord("x"))]),
        (b'"a\nb"\n{}', [stray(ord("\n")), b"{}"]),
        (b'"a\\\nb"\x00{}', [stray(ord("\n")), stray(0), b"{}"]),
        (b"'a\tb'\n{}", [stray(ord("\t")), b"{}"]),
        (b"NaN {}", [stray(ord("N")), b"{}"]),
        (b"-Infinity\n1\n", [stray(ord("I")), b"1"]),
        (b"\xc3\xa9 {}", [stray(0xC3), b"{}"]),
    ],
)
def test_strays_and_the_way_back(data: bytes, expected: list[bytes | int | str]) -> None:
    assert seen(data) == expected
    assert seen(*drips(data)) == expected


@pytest.mark.parametrize("byte", [b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\x00", b"\x1f", b"\xfe", b"\xff"])
@pytest.mark.parametrize("error", [b"\x00", b"G", b"\xff"])
def test_recovery_ends_with(byte: bytes, error: bytes) -> None:
    # That byte is looked at again, so the events behind the first are those of a fresh start.
    assert seen(error + b'skip "this" 1' + byte + b"}")[1:] == seen(byte + b"}")


@pytest.mark.parametrize("error", [b"\x00", b"G", b"\xff"])
def test_recovery_skips_the_rest(error: bytes) -> None:
    assert len(seen(error + bytes(range(0x20, 0x2C)) + b"\tabc\\\"'%\x80\xfd 12 true")) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{]", [b"{]"]),
        (b"[}", [b"[}"]),
        (b"}", [b"}"]),
        (b"]", [b"]"]),
        (b":,", [b":", b","]),
        (b"{}}{}", [b"{}", b"}", b"{}"]),
        (b"[{]}", [b"[{]}"]),
        (b"[{]]{}", [b"[{]]", b"{}"]),
        (b'{"a":}', [b'{"a":}']),
        (b"[1 2]", [b"[1 2]"]),
        (b"[nul]", [b"[nul]"]),
    ],
)
def test_brackets_are_counted_and_not_matched(data: bytes, expected: list[bytes]) -> None:
    assert seen(data) == expected
    assert seen(*drips(data)) == expected
    for raw in set(expected) - {b"{}"}:
        with pytest.raises(RemoteProtocolError, match=r"^the peer sent a message that is not JSON: "):
            decode(raw)


@PATIENT
@given(cut(st.binary() | garbage), st.integers(0, 20), st.integers(0, 3), st.integers(0, 3))
def test_no_bytes_raise_anything_but_a_protocol_error(
    data: tuple[bytes, list[bytes]], size: int, nesting: int, limit: int
) -> None:
    for limits in (DEFAULT, Limits(size, nesting, limit)):
        decoder = Decoder(limits)
        for piece in data[1]:
            decoder.feed(piece)
            for event in decoder:
                assert isinstance(event, (Message, Resync, Malformed))
                if isinstance(event, Message):
                    assert 0 < len(event.raw) <= limits.size
                    with contextlib.suppress(RemoteProtocolError):
                        event.decode()


@PATIENT
@given(garbage)
def test_after_any_garbage_0xff_makes_the_next_request_heard(data: bytes) -> None:
    assert seen(data + b'\xff{"execute":"guest-ping"}')[-1] == b'{"execute":"guest-ping"}'


# -------------------------------------------------------------------------------------------------------------- limits

TOO_LONG = "the peer sent a message that is longer than 8 bytes"
EIGHT_BYTES = Limits(size=8)
EIGHT_BYTES_LONG = [
    b'"abcdef"',
    b"'abcdef'",
    b"[1,2, 3]",
    b'["\\"\\n"]',
    b'{"a":12}',
    b"12345678",
    b"nonsense",
    b"1.2e+100",
]


@pytest.mark.parametrize("raw", EIGHT_BYTES_LONG)
@pytest.mark.parametrize("pieces", [lambda data: [data], drips], ids=["whole", "drips"])
def test_size(raw: bytes, pieces: Callable[[bytes], list[bytes]]) -> None:
    stream = raw + b"\n{}"
    assert seen(*pieces(stream), limits=EIGHT_BYTES) == [raw, b"{}"]
    assert seen(*pieces(stream), limits=Limits(size=7)) == [TOO_LONG.replace("8", "7"), b"{}"]


@pytest.mark.parametrize("pieces", [lambda data: [data], drips], ids=["whole", "drips"])
def test_white_space_around_a_value_is_not_part_of_its_size(pieces: Callable[[bytes], list[bytes]]) -> None:
    assert seen(*pieces(b" " * 20 + b"12345678" + b" " * 20), limits=EIGHT_BYTES) == [b"12345678"]


def test_what_nobody_asks_for_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    advance = framing.Decoder._advance
    monkeypatch.setattr(framing.Decoder, "_advance", lambda decoder: (steps.append(1), advance(decoder))[1])
    decoder = framing.Decoder()
    decoder.feed(b"{}" * 100_000)
    assert [decoder.next_event(), decoder.next_event()] == [Message(b"{}")] * 2
    assert len(steps) < 10


def test_a_message_taken_whole_comes_before_what_is_fed_behind_it() -> None:
    decoder = framing.Decoder()
    decoder.feed(b'{"a": 1}\n')
    decoder.feed(b'{"b": 2}\n')
    assert not decoder.is_idle
    assert [event.raw for event in decoder] == [b'{"a": 1}', b'{"b": 2}']  # type: ignore[union-attr]
    assert decoder.is_idle


@pytest.mark.parametrize("data", [b'{"return": {}}', b' {"return": [1, {"a": [2]}]}\r\n', b"7", b'"x"', b"{]"])
def test_one_whole_message(data: bytes) -> None:
    assert framing.whole_message(data).raw == data.strip()


@pytest.mark.parametrize(
    "data", [b"", b" ", b"{", b"{}{}", b"{} x", b'"x', b"\xff{}", b"{}\xff", b"\x00", b"X", b"[" * 20]
)
def test_what_is_not_one_whole_message(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        framing.whole_message(data, Limits(size=100, nesting=16))


def test_all_of_a_line_that_is_too_long_is_one_error() -> None:
    assert seen(b'{"return": [{"a": 1}, {"b": [2, "}"]}]} {} "\n[]', limits=EIGHT_BYTES) == [TOO_LONG, b"[]"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_the_line_behind_one_that_is_too_long_is_read(end: bytes) -> None:
    assert seen(b"[1,2,3,4,5,6]" + end + b"[]", limits=EIGHT_BYTES) == [TOO_LONG, b"[]"]


def test_0xff_ends_a_line_that_is_too_long() -> None:
    assert seen(b'"123456789\xff[]', limits=EIGHT_BYTES) == [TOO_LONG, 0, b"[]"]


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
def test_nesting(fits: bytes, too_deep: bytes) -> None:
    expected = [fits, "the peer sent a message that is nested deeper than 3 levels", b"{}"]
    stream = fits + too_deep + b" {}\n{}"
    assert seen(stream, limits=THREE_LEVELS) == expected
    assert seen(*drips(stream), limits=THREE_LEVELS) == expected


def test_the_default_nesting_can_be_decoded_and_encoded() -> None:
    raw = b"[" * 512 + b"]" * 512
    assert seen(raw) == [raw]
    assert encode(decode(raw)) == raw + b"\n"
    assert seen(b"[" + raw + b"]\n{}") == ["the peer sent a message that is nested deeper than 512 levels", b"{}"]


@pytest.mark.parametrize("raw", [b"[1,2]", b'[{"a":1}]', b"[[[]]]", b'{"a":1,"b":2,"c":3}'])
def test_number_of_values(raw: bytes) -> None:
    assert decode(raw, Limits(values=3)) == json.loads(raw)
    with pytest.raises(RemoteProtocolError, match=r"^the peer sent a message of more than 1 values$"):
        decode(raw, Limits(values=1))


def test_number_of_values_at_the_limit() -> None:
    assert decode(b"[1,2,3]", Limits(values=3)) == [1, 2, 3]
    with pytest.raises(RemoteProtocolError, match="more than 3 values"):
        decode(b"[1,2,3,4]", Limits(values=3))


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'[",,,{[["]', [",,,{[["]),
        (b"[',,,{[[']", [",,,{[["]),
        (b'["\\",,,","\\\\"]', ['",,,', "\\"]),
        (b"['\\',,,','\\\\']", ["',,,", "\\"]),
        (b"['\",,,']", ['",,,']),
        (b'["\',,,"]', ["',,,"]),
        (b'["\\\\\\",,,"]', ['\\",,,']),
    ],
)
def test_what_stands_in_strings_are_no_values(raw: bytes, value: list[str]) -> None:
    assert decode(raw, Limits(values=2)) == value


def peak_memory(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("first", "then"),
    [(b'"', b"a"), (b"['", b"\\'"), (b"[", b"1,"), (b"", b"7"), (b"", b"x"), (b"", b" "), (b"G", b"g"), (b"{", b"\n")],
)
def test_memory_is_bounded_by_the_limit_and_not_by_the_peer(first: bytes, then: bytes) -> None:
    chunk = then * (64 * KIB // len(then))
    decoder = Decoder(Limits(size=256 * KIB))

    def work() -> None:
        decoder.feed(first)
        for _level in range(32):
            decoder.feed(chunk)
            list(decoder)

    # 2 MiB were fed. A buffer that grows is for a moment there twice; the rest is for events and white space.
    assert peak_memory(work) < 2 * (256 * KIB + len(chunk)) + 128 * KIB


@pytest.mark.slow
@pytest.mark.parametrize(
    "raw",
    [
        b"['" + b"a" * (256 * KIB) + b"']",
        b"['" + b"\\'" * (128 * KIB) + b"']",
        b"['" + b'"' * (256 * KIB) + b"']",
        b'["' + b"," * (256 * KIB) + b'"]',
        b'["' + b'\\",' * (85 * KIB) + b'"]',
    ],
    ids=["single-quoted", "escaped apostrophes", "quotation marks", "commas", "escaped quotation marks"],
)
def test_memory_for_decoding_is_a_small_multiple_of_the_messages_size(raw: bytes) -> None:
    assert peak_memory(lambda: decode(raw)) < 16 * len(raw)


def test_work_grows_as_the_bytes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    advance = Decoder._advance

    def counted(decoder: Decoder) -> None:
        nonlocal steps
        steps += 1
        before = (len(decoder._buffer), decoder._position)
        advance(decoder)
        # Nothing is scanned a second time: the position never falls back, unless the bytes before it are gone.
        assert decoder._position >= before[1] or len(decoder._buffer) < before[0]

    monkeypatch.setattr(Decoder, "_advance", counted)
    raw = json.dumps({"return": [{"name": "guest-ping", "text": 'a "b" \\ c', "n": [1, -2.5, None]}] * 500}).encode()
    seen(*drips(raw))
    # Two steps at most for a byte: one that ends a token, and one that looks at it again.
    assert steps <= 2 * len(raw)
    steps = 0
    seen(raw[: len(raw) // 2], raw[len(raw) // 2 :])
    assert steps <= len(raw) // 2


# -------------------------------------------------------------------------------------------------------------- decode


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"''", ""),
        (b"'a'", "a"),
        (b"{'execute': 'guest-ping'}", {"execute": "guest-ping"}),
        (b"'say \"hi\"'", 'say "hi"'),
        (b"'say \\\"hi\\\"'", 'say "hi"'),
        (b"'it\\'s'", "it's"),
        (b'"it\\\'s"', "it's"),
        (b'"it\'s"', "it's"),
        (b"['\\\\', '\\n\\u00e9', \"'\"]", ["\\", "\né", "'"]),
        (b"['\\\\\\'']", ["\\'"]),
        (b'"\\/\\b\\f\\n\\r\\t\\u0000"', "/\b\f\n\r\t\x00"),
        (b'"\xc3\xa9 \\u00E9 \\ud83d\\ude00"', "é é 😀"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\ufffe"', "\ufffe"),
        (b"[1e3, 0.5, -0]", [1000.0, 0.5, 0]),
        (b"1e999", float("inf")),
    ],
)
def test_strings_and_numbers(raw: bytes, value: Any) -> None:
    assert decode(raw) == value


@PATIENT
@given(texts)
def test_either_kind_of_quotes_gives_the_same(text: str) -> None:
    body = json.dumps(text)[1:-1]
    single = body.replace('\\"', '"').replace("'", "\\'")
    assert decode(f"'{single}'".encode()) == text


@pytest.mark.parametrize("integer", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1], ids=str)
def test_integers_are_exact(integer: int) -> None:
    value = decode(str(integer).encode())
    assert value == integer
    assert isinstance(value, int)


@pytest.mark.parametrize("digits", ["1" + "0" * 20, "-1" + "0" * 19, "9" * 30])
def test_integers_of_more_digits_than_64_bits_need_are_doubles(digits: str) -> None:
    value = decode(digits.encode())
    assert value == float(digits)
    assert isinstance(value, float)


@pytest.mark.parametrize("raw", [b"1.7959817427148229E+18", b"-1795981742714822912.0", b"5.00000000000000000001"])
def test_a_whole_number_that_is_a_double_is_one_and_knows_how_it_was_written(raw: bytes) -> None:
    value = decode(raw)
    assert isinstance(value, WholeFloat)
    assert (value, value.text) == (float(raw), raw.decode())
    assert encode(value) == encode(float(raw))


@pytest.mark.parametrize("raw", [b"1.5", b"1e-3", b"1e400", b"1795981742.0", b"1795981742714.125"])
def test_other_doubles_are_plain_ones(raw: bytes) -> None:
    assert decode(raw).__class__ is float


def test_a_double_of_a_million_digits_costs_no_more_than_its_bytes() -> None:
    assert decode(b"1" + b"0" * 100 + b"." + b"0" * 1_000_000) == 1e100
    assert decode(b"1." + b"3" * 1_000_000) == pytest.approx(4 / 3)


def test_a_number_of_a_million_digits_is_a_double() -> None:
    # int() would take seconds for it, or refuse it.
    assert decode(b"9" * 1_000_000) == float("inf")
    assert decode(b"[-" + b"9" * 1_000_000 + b"]") == [float("-inf")]


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b" ", b"NaN", b"Infinity", b"[-Infinity]", b"nonsense", b"TRUE", b"01", b"1.", b".5", b"+1", b"1 2"),
        *(b"[1,]", b"[,1]", b'{"a":1,}', b"{1:2}", b'{"a"}', b"{'a' 1}", b"'", b'"', b"'a\"", b"\\'", b"['\\q']"),
        *(b'"\\x41"', b'"\\u12g4"', b'"\\u12"', b'"a\nb"', b"'\x00'", b"\xef\xbb\xbf{}"),
        *(b'"\xff"', b'"\xc3"', b'"\x80"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"'),
        *(b'"\\ud800"', b'"\\udc00"', b'"\\ude00\\ud83d"', b'"\\ud83dx"', b'{"\\ud800": 1}', b"[{'a': '\\uDBFF'}]"),
        *(b'{"a":1,"a":1}', b"{\"a\":1,'a':2}", b'{"a":1,"\\u0061":2}', b'[{"b":{"a":1,"c":0,"a":2}}]'),
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_not_json(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^the peer sent a message that is not JSON: "):
        decode(raw)


def test_a_duplicate_key_is_called_one() -> None:
    with pytest.raises(RemoteProtocolError, match="duplicate key"):
        decode(b'{"a":1,"a":1}')


# -------------------------------------------------------------------------------------------------------------- encode


@PATIENT
@given(json_values)
def test_what_is_encoded_is_one_line_of_ascii_and_one_message(value: Any) -> None:
    line = encode(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert seen(line) == [line[:-1]]
    assert repr(decode(line[:-1])) == repr(value)


def test_encode_escapes_all_but_printable_ascii() -> None:
    assert encode({"return": "é\x7f😀\xff"}) == b'{"return": "\\u00e9\\u007f\\ud83d\\ude00\\u00ff"}\n'


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _level in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "message",
    [
        *(float("nan"), float("inf"), {"a": [float("-inf")]}, {1, 2}, b"bytes", {"a": b"bytes"}, {b"a": 1}, object()),
        *("\ud800", {"a": ["\udcff"]}, {"\udcff": 1}, circular(), nested(100_000)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_cannot_be_sent_is_the_callers_fault(message: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^this message cannot be sent: ."):
        encode(message)


# ------------------------------------------------------------------------------------------------ requests and replies


def test_a_request() -> None:
    assert request("guest-ping") == {"execute": "guest-ping"}
    assert request("guest-ping", {}) == {"execute": "guest-ping"}
    assert request("guest-sync", {"id": 0}) == {"execute": "guest-sync", "arguments": {"id": 0}}


def test_a_request_keeps_its_arguments_when_the_callers_change() -> None:
    arguments = {"id": 1}
    message = request("guest-sync", arguments)
    arguments["id"] = 2
    assert message["arguments"] == {"id": 1}


@pytest.mark.parametrize("value", [{}, [], 0, 1.5, "text", False, None, {"error": 1}])
def test_a_return(value: Any) -> None:
    assert read_reply({"return": value}) == Returned(value)
    assert read_reply({"return": value, "id": 5, "future": None}) == Returned(value)
    assert read_reply({"return": value, "error": None}) == Returned(value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"class": "CommandNotFound", "desc": "no"}, "CommandNotFound"),
        ({"class": "GenericError", "desc": "no", "data": {}}, "GenericError"),
        ({"desc": "no"}, "GenericError"),
        ({"class": 5, "desc": "no"}, "GenericError"),
        ({"class": None, "desc": "no"}, "GenericError"),
    ],
)
def test_a_refusal(error: dict[str, Any], kind: str) -> None:
    assert read_reply({"error": error}) == Refused(kind, "no")
    assert read_reply({"error": error, "id": None}) == Refused(kind, "no")
    assert read_reply({"error": error, "return": None}) == Refused(kind, "no")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, "return", [], ["return"], [{"return": 1}], {}, {"id": 1}, {"event": "RESUME"}),
        *({"error": None}, {"error": "no"}, {"error": {}}, {"error": {"class": "GenericError"}}),
        *({"error": {"desc": None}}, {"error": {"desc": ["no"]}}),
        *({"return": 1, "error": False}, {"return": {}, "error": {"class": "GenericError", "desc": "no"}}),
        *({"return": None, "error": "no"}, {"return": None, "error": {"desc": None}}),
    ],
    ids=repr,
)
def test_what_is_no_reply(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^the peer sent a JSON value that is not an agent's reply$"):
        read_reply(value)


@PATIENT
@given(json_values)
def test_any_json_value_is_a_reply_or_a_protocol_error(value: Any) -> None:
    for candidate in (value, {"return": value}, {"error": value}, {"error": {"class": value, "desc": value}}):
        try:
            reply = read_reply(candidate)
        except RemoteProtocolError:
            continue
        assert isinstance(reply, (Returned, Refused))


@PATIENT
@given(json_values)
def test_what_can_be_read_as_a_reply_is_one(value: Any) -> None:
    said = {"class": value, "desc": value}
    nulls = ({"return": value, "error": None}, {"return": None, "error": said})
    for candidate in (value, {"return": value}, {"error": value}, {"error": said}, *nulls):
        try:
            read_reply(candidate)
        except RemoteProtocolError:
            assert not is_reply(encode(candidate))
        else:
            assert is_reply(encode(candidate))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"\n", b"garbage", b'{"return": 1} trailing', b'{"return": 1}{}', b'{"return": 1', b'{"return": NaN}'),
        *(b'{"return": "\xff"}', b'{"return": [1,]}', b'\xff{"return": 1}', b'{"return": ' + b"[" * 100_000 + b"}"),
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_no_json_is_no_reply(raw: bytes) -> None:
    assert not is_reply(raw)


def test_the_numbers_of_a_reply_may_be_of_any_length() -> None:
    assert is_reply(b'{"return": ' + b"9" * 1_000_000 + b"}\n")


# ------------------------------------------------------------------------------------------------------- plain messages


@PATIENT
@given(json_values, json_values, st.sampled_from([b"", b" ", b"\n", b"\r\n\t"]))
def test_a_plain_message_is_read_as_any_other(name: Any, value: Any, space: bytes) -> None:
    raw = json.dumps({"execute": name, "arguments": {"a": value}}).encode()
    for data in (space + raw + space, raw.replace(b'"', b"'"), raw[:-1], raw + raw):
        assert seen(data) == seen(*drips(data))


@pytest.mark.parametrize(
    "data",
    [
        *(
            b'{"a": 01}',
            b'{"a": truefalse}',
            b'{"a": nul}',
            b'{"a": -}',
            b'{"a": 1e5}',
            b'{"a": "\\""}',
            b'{"a": "\n"}',
        ),
        *(
            b'{"a": {"b": {}}}',
            b'{"a": {}, "b": {}}',
            b'{"a": [1]}',
            b'{"a": 1]',
            b"{{}",
            b"{}}",
            b'{"a": "\xff"}',
            b"{,:}",
        ),
        b"{" + b'"a":1,' * 100 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_nearly_plain_is_no_different(data: bytes) -> None:
    assert seen(data) == seen(*drips(data))


@pytest.mark.parametrize(
    "data", [b"{" + b" " * 500_000, b'{"' + b"a" * 500_000, b"{" + b'"a",' * 100_000, b"{1" * 100_000]
)
def test_time_is_linear_where_a_message_only_begins_as_a_plain_one(data: bytes) -> None:
    assert framing._PLAIN_MESSAGE.fullmatch(data) is None  # pytest's time limit is the judge


def test_limits_hold_for_plain_messages() -> None:
    assert seen(b'{"a":{}}\n', limits=Limits(nesting=1)) == seen(*drips(b'{"a":{}}\n'), limits=Limits(nesting=1))
    assert seen(b'{"a":12}\n', limits=Limits(size=7)) == seen(*drips(b'{"a":12}\n'), limits=Limits(size=7))
    assert seen(b'\n {"a":12}\n', limits=EIGHT_BYTES) == [b'{"a":12}']
