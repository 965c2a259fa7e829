"""Bytes in place of a reply, or around it, for any request, which harm a careless reader.

Each is a :data:`~tests.hostile.agent.Play`. Only plays that need the honest answer execute the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any

from tests.fakes.clock import Clock
from tests.fakes.faults import Forever, HangUp, Pause, Piece
from tests.hostile.agent import FOR_EVER, Asked, Play, encoded

# Small enough for the reader to cut it anywhere, and large enough to be cheap for the sender.
_CHUNK = 4096

# A byte every 50 ms satisfies a read with a timeout of a fifth of a second.
DRIP_SECONDS = 0.05
# Fast enough for a short reply in drips to arrive in time.
_QUICK_DRIP_SECONDS = 0.001

MILLION = 1_000_000
# libvirt accepts lines of 10 MiB (QEMU_AGENT_MAX_RESPONSE) and passes on texts of 4 MiB (REMOTE_STRING_MAX).
_OVER_4_MIB = 5_000_000
_OVER_10_MIB = 11_000_000


# ------------------------------------------------------------------------------------------------------ ways of sending


def _endless(unit: bytes, head: bytes = b"") -> Play:
    """Send the head, and then the unit forever."""
    chunk = unit * max(1, _CHUNK // len(unit))

    return lambda _asked: [head, Forever(chunk)]


def _drips(data: Iterable[bytes], seconds: float) -> Iterable[Piece]:
    for each in data:
        yield each
        yield Pause(seconds)


def _endless_drips(unit: bytes, head: bytes = b"") -> Play:
    def play(_asked: Asked) -> Iterable[Piece]:
        yield head
        yield from _drips(repeat(unit), DRIP_SECONDS)

    return play


def instead(*data: bytes) -> Play:
    """Send these bytes in place of the reply, without executing the command."""
    return lambda _asked: data


def returned(text: str) -> Play:
    """Send a reply that returns this text, which may be JSON or similar to it."""
    return instead(b'{"return": ' + text.encode() + b"}\n")


def refusing(error: Any) -> Play:
    return instead(encoded({"error": error}))


def _refusing_it(description: str) -> Play:
    return lambda asked: refusing({"class": "CommandNotFound", "desc": description.format(asked.command)})(asked)


def before(data: bytes) -> Play:
    """Send these bytes and then the honest reply."""
    return lambda asked: [data, asked.answer()]


def after(data: bytes, after_s: float = 0.0) -> Play:
    """Send the honest reply and then these bytes."""
    return lambda asked: [asked.answer(), Pause(after_s), data]


def respelled(respell: Callable[[bytes], bytes]) -> Play:
    """Send the honest reply in another spelling."""
    return lambda asked: [respell(asked.answer())]


def cut_after(size: int) -> Play:
    """Send so many bytes of the honest reply and hang up."""
    return lambda asked: [asked.answer()[:size], HangUp()]


def _large(text: Callable[[], str], around: str = '{{"return": {}}}') -> Play:
    """Like :func:`returned`, but create the text only when it is sent."""

    def play(asked: Asked) -> Iterable[Piece]:
        return instead(around.format(text()).encode() + b"\n")(asked)

    return play


# ------------------------------------------------------------------------------------------------------------ the plays


def _dripping(asked: Asked) -> Iterable[Piece]:
    answer = asked.answer()
    # A long rest is sent in one piece: the first bytes are enough to make reads return early.
    yield answer[:-20]
    yield from _drips(_bytes_of(answer[-20:]), _QUICK_DRIP_SECONDS)


def _bytes_of(data: bytes) -> Iterable[bytes]:
    return (data[position : position + 1] for position in range(len(data)))


def _replayed(_clock: Clock) -> Play:
    """Answer each request with the reply to the request before it."""
    last = [encoded({"return": {}})]

    def play(asked: Asked) -> Iterable[Piece]:
        reply, last[0] = last[0], asked.answer()
        yield reply

    return play


def _frozen_in_time(_clock: Clock) -> Play:
    """Repeat the first reply to each command forever."""
    first: dict[str, bytes] = {}
    return lambda asked: [first.setdefault(asked.command, asked.answer())]


def _in_advance(asked: Asked) -> Iterable[Piece]:
    """Send the next reply together with this one, not at its request."""
    if asked.nth % 2 == 0:
        yield asked.answer() * 2


def _nested(opening: str, inner: str, closing: str, depth: int) -> Play:
    return _large(lambda: opening * depth + inner + closing * depth)


_GENERIC = {"class": "GenericError", "desc": "no"}
_REFUSAL = '{{"error": {{"class": "GenericError", "desc": "{}"}}}}'
_TINY = b'{"return": {}}\n'

SILENT: Mapping[str, Play] = {
    "silence": instead(),
    "never reading": lambda _asked: [Pause(FOR_EVER)],
}

ENDLESS: Mapping[str, Play] = {
    "an endless string": _endless(b"a", b'{"return": "'),
    "an endless string of escapes": _endless(b"\\u0061", b'{"return": "'),
    "an endless array": _endless(b"0,", b'{"return": ['),
    "an endless array of objects": _endless(b'{"a":0},', b'{"return": ['),
    "an endless object": _endless(b'"a":0,', b'{"return": {'),
    "endless digits": _endless(b"1", b'{"return": '),
    "an endless fraction": _endless(b"1", b'{"return": 0.'),
    "an endless keyword": _endless(b"t", b'{"return": '),
    "endless white space in a reply": _endless(b" ", b'{"return": '),
    "endless white space": _endless(b" "),
    "endless newlines": _endless(b"\n"),
    "endless commas": _endless(b","),
    "endless brackets": _endless(b"["),
    "endless braces in a reply": _endless(b'{"a":', b'{"return": '),
    "endless closing braces": _endless(b"}"),
    "endless quotes": _endless(b"'"),
    "endless backslashes": _endless(b"\\", b'{"return": "'),
    "endless 0xFF": _endless(b"\xff"),
    "endless 0xFF in a reply": _endless(b"\xff", b'{"return": '),
    "endless 0xFE": _endless(b"\xfe"),
    "endless bytes that are not UTF-8": _endless(b"\xc3\x28", b'{"return": "'),
    "endless NUL": _endless(b"\0"),
    "endless control characters": _endless(b"\x01\x1b\x07\x08"),
    "endless tiny replies": _endless(_TINY),
    "endless refusals": _endless(encoded({"error": _GENERIC})),
    "endless events": _endless(encoded({"event": "RESET", "timestamp": {"seconds": 0}})),
    "endless replies after 0xFF": _endless(b"\xff" + _TINY),
    "endless numbers": _endless(b"1 "),
}

DRIPPING: Mapping[str, Play] = {
    "the reply in drips": lambda asked: _drips(_bytes_of(asked.answer()), DRIP_SECONDS),
    "an endless string in drips": _endless_drips(b"a", b'{"return": "'),
    "white space in drips": _endless_drips(b" "),
    "0xFF in drips": _endless_drips(b"\xff"),
    "tiny replies in drips": _endless_drips(_TINY),
}

CLOSING: Mapping[str, Play] = {
    "hanging up": lambda _asked: [HangUp()],
    "half a reply and hanging up": lambda asked: cut_after(len(asked.answer()) // 2)(asked),
    "a reply without its last byte": cut_after(-1),
    "a reply without its brace": cut_after(-2),
    "garbage and hanging up": lambda _asked: [b"\xff{[}\x00", HangUp()],
}

# Whole messages that are not a valid reply to any command.
MALFORMED: Mapping[str, Play] = {
    "arrays nested 14 deep": _nested("[", "", "]", 14),
    "arrays nested 15 deep": _nested("[", "", "]", 15),
    "arrays nested 16 deep": _nested("[", "", "]", 16),
    "arrays nested a thousand deep": _nested("[", "", "]", 1000),
    "objects nested 15 deep": _nested('{"a":', "0", "}", 15),
    "objects nested 16 deep": _nested('{"a":', "0", "}", 16),
    "objects nested a thousand deep": _nested('{"a":', "0", "}", 1000),
    "closing more than was opened": returned("0" + "}" * 1000),
    "a number of a thousand digits": returned("7" * 1000),
    "1e999999": returned("1e999999"),
    "-1e999999": returned("-1e999999"),
    "1e-999999": returned("1e-999999"),
    "NaN": returned("NaN"),
    "Infinity": returned("Infinity"),
    "-Infinity": returned("-Infinity"),
    "a hexadecimal number": returned("0x10"),
    "leading zeros": returned("0123"),
    "a duplicate key": returned('{"a": 1, "a": 2}'),
    "two returns": instead(b'{"return": {}, "return": {}}\n'),
    "a return and an error": instead(encoded({"return": {}, "error": _GENERIC})),
    "neither return nor error": instead(b"{}\n"),
    "a lone surrogate": returned(r'"\ud800"'),
    "a lone surrogate as a name": returned(r'{"\udfff": 0}'),
    "surrogates in the wrong order": returned(r'"\udc00\ud800"'),
    "invalid UTF-8": instead(b'{"return": "\xc3\x28"}\n'),
    "overlong UTF-8": instead(b'{"return": "\xc0\x80"}\n'),
    "a surrogate in UTF-8": instead(b'{"return": "\xed\xa0\x80"}\n'),
    "an escaped NUL": returned(r'"\u0000"'),
    "a NUL in a string": instead(b'{"return": "\0"}\n'),
    "a newline in a string": instead(b'{"return": "\n"}\n'),
    "single quotes": instead(b"{'return': 'it\\'s'}\n"),
    "a comment": instead(b'{"return": {} /* none */}\n'),
    "a trailing comma": instead(b'{"return": {},}\n'),
    "an array": instead(b'[{"return": {}}]\n'),
    "a string": instead(b'"return"\n'),
    "a number": instead(b"1\n"),
    "true": instead(b"true\n"),
    "null": instead(b"null\n"),
    "words": instead(b"Debian GNU/Linux 12 tenant ttyS0\r\n\r\nlogin: "),
    "HTTP": instead(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "an event": instead(encoded({"event": "RESET"})),
    "a greeting": instead(encoded({"QMP": {"version": {}, "capabilities": []}})),
    "an error that is null": refusing(None),
    "an error that is a string": refusing("no"),
    "an error that is an array": refusing([_GENERIC]),
    "an error without a description": refusing({"class": "GenericError"}),
    "a description that is an object": refusing({"class": "GenericError", "desc": {"a": "b"}}),
    "a description that is a number": refusing({"class": "GenericError", "desc": 5}),
    "a class that is an object": refusing({"class": {"a": "b"}, "desc": "no"}),
}

# Whole messages of megabytes.
HUGE: Mapping[str, Play] = {
    "arrays nested a million deep": _nested("[", "", "]", MILLION),
    "objects nested a million deep": _nested('{"a":', "0", "}", MILLION),
    "both nested, in turn": _nested('[{"a":', "0", "}]", 50_000),
    "a number of a million digits": _large(lambda: "7" * MILLION),
    "a negative number of a million digits": _large(lambda: "-" + "7" * MILLION),
    "a fraction of a million digits": _large(lambda: "0." + "7" * MILLION),
    "a number of a million zeros": _large(lambda: "1" + "0" * MILLION),
    "a string of a million characters": _large(lambda: '"' + "x" * MILLION + '"'),
    "a string of eleven million characters": _large(lambda: '"' + "x" * _OVER_10_MIB + '"'),
    "a string of a million escapes": _large(lambda: '"' + "\\u0041" * MILLION + '"'),
    "an array of a million zeros": _large(lambda: "[" + "0," * (MILLION - 1) + "0]"),
    "an array of a hundred thousand objects": _large(lambda: "[" + '{"a":0},' * 100_000 + "0]"),
    "an array of a hundred thousand arrays": _large(lambda: "[" + "[]," * 100_000 + "0]"),
    "an object of thirty thousand members": _large(
        lambda: "{" + ",".join(f'"a{number}":0' for number in range(30_000)) + "}"
    ),
    "a string of five million characters": _large(lambda: '"' + "x" * _OVER_4_MIB + '"'),
    "a refusal of five million characters": _large(lambda: "x" * _OVER_4_MIB, _REFUSAL),
    "a refusal of eleven million characters": _large(lambda: "x" * _OVER_10_MIB, _REFUSAL),
}

REFUSING: Mapping[str, Play] = {
    "a refusal": refusing(_GENERIC),
    "a refusal in sixty thousand characters": refusing({**_GENERIC, "desc": "x" * 60_000}),
    "a refusal that moves the cursor": refusing({**_GENERIC, "desc": "\x1b[2J\x1b]0;pwned\x07\r\nok: [x]"}),
    "a refusal written from right to left": refusing({**_GENERIC, "desc": "\u202e\u2066 ko\u0000"}),
    "a refusal that is a template": refusing({**_GENERIC, "desc": "{{ lookup('pipe', 'id') }}"}),
    "an empty refusal": refusing({"class": "", "desc": ""}),
    "command not found": _refusing_it("The command {} has not been found"),
    "command disabled": _refusing_it("Command {} has been disabled: the command is not allowed"),
    "frozen": lambda asked: (
        returned('"frozen"')
        if asked.command == "guest-fsfreeze-status"
        else _refusing_it("Command {} has been disabled: frozen")
    )(asked),
}

# The honest reply in another form, which the reader of a stream accepts.
HARMLESS: Mapping[str, Play] = {
    "white space before it": before(b" \r\n\t" * 500),
    "white space after it": after(b" \r\n" * 500),
    "the reply in quick drips": _dripping,
    "the reply with an id": respelled(lambda reply: reply.replace(b'{"return"', b'{"id": [{}], "return"', 1)),
    "the reply with other members": respelled(
        lambda reply: reply.replace(b'{"return"', b'{"a": {"b": []}, "return"', 1)
    ),
    "the reply in escapes": respelled(lambda reply: reply.replace(b'"return"', b'"\\u0072eturn"', 1)),
    "the reply spread over lines": respelled(lambda reply: reply.replace(b": ", b" :\r\n\t ")),
    "the reply without a newline": respelled(lambda reply: reply.rstrip(b"\n")),
    "the reply in single quotes": respelled(lambda reply: reply.replace(b'"return"', b"'return'", 1)),
}

# The honest reply and other bytes, which must not be taken for it.
AROUND: Mapping[str, Play] = {
    "a reply before it": before(_TINY),
    "a hundred replies before it": before(_TINY * 100),
    "a thousand replies before it": before(_TINY * 1000),
    "a refusal before it": before(encoded({"error": _GENERIC})),
    "a reply with an id before it": before(b'{"return": {}, "id": 5}\n'),
    "garbage before it": before(b"\x00\x01garbage {[}] "),
    "half a reply before it": before(b'{"return": "'),
    "0xFF before it": before(b"\xff"),
    "0xFF and a reply before it": before(b"\xff" + _TINY),
    "an event before it": before(encoded({"event": "RESET"})),
    "a reply after it": after(_TINY),
    "a thousand replies after it": after(_TINY * 1000),
    "a reply somewhat later": after(_TINY, after_s=0.002),
    "half a reply after it": after(b'{"return": "'),
    "half a reply somewhat later": after(b'{"return": "', after_s=0.002),
    "garbage after it": after(b"\x00garbage }"),
    "0xFF after it": after(b"\xff"),
    "0xFF and a reply after it": after(b"\xff" + _TINY),
    "a closing brace after it": after(b"}"),
    "the reply twice": respelled(lambda reply: reply * 2),
    "the next reply in advance": _in_advance,
    "the reply and hanging up": lambda asked: [asked.answer(), HangUp()],
}

# These remember earlier replies, so each play is created separately.
REPEATING: Mapping[str, Callable[[Clock], Play]] = {
    "the reply to the request before": _replayed,
    "the first reply forever": _frozen_in_time,
}


def _wrong_id(change: Callable[[Any], Any]) -> Play:
    """Answer a sync with a wrong number, and all else honestly."""

    def play(asked: Asked) -> Iterable[Piece]:
        is_sync = asked.command.startswith("guest-sync")
        yield encoded({"return": change(asked.arguments["id"])}, asked.command) if is_sync else asked.answer()

    return play


SYNCING: Mapping[str, Play] = {
    "another id": _wrong_id(lambda number: number + 1),
    "a negative id": _wrong_id(lambda number: -number),
    "the id beyond 64 bits": _wrong_id(lambda number: number + 2**64),
    "the id as a fraction": _wrong_id(lambda number: float(number) + 0.5),
    "the id as a string": _wrong_id(str),
    "the id in a list": _wrong_id(lambda number: [number]),
    "the id in an object": _wrong_id(lambda number: {"id": number}),
    "true as the id": _wrong_id(lambda _number: True),
    "null as the id": _wrong_id(lambda _number: None),
    "no delimiter": respelled(lambda reply: reply.replace(b"\xff", b"")),
    "the delimiter after the reply": respelled(lambda reply: reply.replace(b"\xff", b"") + b"\xff"),
    "the delimiter in the reply": respelled(lambda reply: b'{"ret\xffurn": 0}' + reply.replace(b"\xff", b"")),
    "many delimiters": respelled(lambda reply: reply.replace(b"\xff", b"\xff" * 200)),
}

# Sent to a client as soon as it connects.
GREETINGS: Mapping[str, bytes] = {
    "a reply": _TINY,
    "half a reply": b'{"return": "',
    "ten thousand replies": _TINY * 10_000,
    "a replayed sync": b'\xff{"return": 5}\n',
    "a million 0xFF": b"\xff" * MILLION,
    "a million brackets": b"[" * MILLION,
    "a line": b"Debian GNU/Linux 12 tenant hvc0\r\n\r\nlogin: ",
}
