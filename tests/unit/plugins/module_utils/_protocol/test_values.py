"""JSON values as QEMU reads and writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.framing import Decoder, Message
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import WholeFloat, decode, encode
from hypothesis import given

from tests.support.json_strategies import PATIENT, json_values, texts
from tests.support.process_figures import peak_memory

KIB = 1024


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"''", ""),
        (b"'a'", "a"),
        (b"{'execute': 'guest-ping'}", {"execute": "guest-ping"}),
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
def test_strings_and_numbers_are_decoded(raw: bytes, value: Any) -> None:
    assert decode(raw) == value


@PATIENT
@given(texts)
def test_single_quotes_decode_to_the_same_text(text: str) -> None:
    body = json.dumps(text)[1:-1]
    single = body.replace('\\"', '"').replace("'", "\\'")
    assert decode(f"'{single}'".encode()) == text


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        *((str(integer).encode(), integer) for integer in (0, -1, 2**53 + 1, 2**63, -(2**63), 2**64 - 1)),
        # More digits than 64 bits need. int() would take seconds for the last one, or refuse it.
        *((b"1" + b"0" * 20, 1e20), (b"-1" + b"0" * 19, -1e19), (b"9" * 1_000_000, float("inf"))),
        *((b"1.5", 1.5), (b"1e-3", 0.001), (b"1e400", float("inf")), (b"1795981742.0", 1_795_981_742.0)),
        (b"1." + b"3" * 1_000_000, 1 + 1 / 3),
    ],
    ids=lambda each: repr(each)[:24],
)
def test_integers_of_64_bits_are_exact_and_other_numbers_are_plain_doubles(raw: bytes, value: float) -> None:
    found = decode(raw)
    assert (found, found.__class__) == (value, value.__class__)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"1.7959817427148229E+18", b"-1795981742714822912.0", b"5.00000000000000000001"),
        b"1" + b"0" * 100 + b"." + b"0" * 1_000_000,
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_a_whole_number_written_as_a_double_keeps_its_spelling(raw: bytes) -> None:
    value = decode(raw)
    assert isinstance(value, WholeFloat)
    assert (value, value.text) == (float(raw), raw.decode())
    assert encode(value) == encode(float(raw))


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
def test_bytes_that_are_not_json_are_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^the peer sent a message that is not JSON: "):
        decode(raw)


@pytest.mark.parametrize(
    ("raw", "count"), [(b"[1,2]", 2), (b'[{"a":1}]', 2), (b"[[[]]]", 3), (b'{"a":1,"b":2,"c":3}', 3), (b"[1,2,3,4]", 4)]
)
def test_the_number_of_values_is_limited(raw: bytes, count: int) -> None:
    assert decode(raw, Limits(values=count)) == json.loads(raw)
    with pytest.raises(RemoteProtocolError, match=rf"^the peer sent a message of more than {count - 1} values$"):
        decode(raw, Limits(values=count - 1))


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
def test_separators_in_strings_do_not_count_as_values(raw: bytes, value: list[str]) -> None:
    assert decode(raw, Limits(values=2)) == value


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
def test_decoding_takes_a_small_multiple_of_the_messages_size_in_memory(raw: bytes) -> None:
    assert peak_memory(lambda: decode(raw)) < 16 * len(raw)


@PATIENT
@given(json_values)
def test_an_encoded_value_is_one_line_of_ascii_and_one_message(value: Any) -> None:
    line = encode(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    decoder = Decoder()
    decoder.feed(line)
    assert list(decoder) == [Message(line[:-1])]
    assert repr(decode(line[:-1])) == repr(value)


def test_encode_escapes_all_but_printable_ascii() -> None:
    assert encode({"return": "é\x7f😀\xff"}) == b'{"return": "\\u00e9\\u007f\\ud83d\\ude00\\u00ff"}\n'


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _level in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "message",
    [
        *(float("nan"), float("inf"), {"a": [float("-inf")]}, {1, 2}, b"bytes", {"a": b"bytes"}, {b"a": 1}, object()),
        *("\ud800", {"a": ["\udcff"]}, {"\udcff": 1}, nested(100_000)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_value_that_json_cannot_carry_is_a_local_error(message: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^this message cannot be sent: ."):
        encode(message)
