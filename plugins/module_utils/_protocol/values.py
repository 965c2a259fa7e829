# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON values as QEMU reads and writes them, and what one message may cost its receiver."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from .errors import LocalProtocolError, RemoteProtocolError
from .limits import USUAL_LIMITS, Limits

# An integer of more characters than this is outside of QEMU's range (-2^63 .. 2^64-1), and QEMU makes it a double. It
# also keeps int() away from numbers of a million digits, for which it takes quadratic time.
_LONGEST_INTEGER = len("18446744073709551615")

# None of these repeats a group: the matcher would remember every round of it, at a hundred times the text's size.
_QUOTE = re.compile(r"""\\["'\\]|["']""")

_STRING_OR_SEPARATOR = re.compile(rb""""[^"]*"|'[^']*'|([,{\[])""")

_RESPELT_ESCAPES = {r"\\": r"\\", r"\"": r"\"", r"\'": "'"}


def _standard_quotes(text: str) -> str:
    """QEMU also takes single-quoted strings, and \\' in either kind; turn them into what JSON has."""
    quote = ""  # the one that began the string which the match lies in

    def respell(match: re.Match[str]) -> str:
        nonlocal quote
        found = match.group()
        if found in _RESPELT_ESCAPES:
            return _RESPELT_ESCAPES[found]
        if quote and found != quote:
            return r"\"" if found == '"' else found
        quote = "" if quote else found
        return '"'

    return _QUOTE.sub(respell, text)


def _has_more_outside_strings(raw: bytes, most: int) -> bool:
    for escape in (rb"\\", rb"\"", rb"\'"):
        raw = raw.replace(escape, b"")
    found = (match for match in _STRING_OR_SEPARATOR.finditer(raw) if match.lastindex is not None)
    return next(itertools.islice(found, most, None), None) is not None


def _unique_members(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(members)
    if len(result) != len(members):
        raise ValueError("duplicate key")
    return result


# A double gives back all the digits of a number that is no longer (DBL_DIG, float.h).
_DOUBLE_DIGITS = 15


class WholeFloat(float):
    """A number with a fraction or an exponent of which the double is a whole one, and the ``text`` that it was written
    as: that may have fewer digits than the double, or more.
    """

    __slots__ = ("text",)
    text: str


def _number(text: str) -> float:
    number = float(text)
    # A fraction that is too small for a double is zero to it, however short it is written.
    if (number and len(text) <= _DOUBLE_DIGITS) or not number.is_integer():
        return number
    whole = WholeFloat(number)
    whole.text = text
    return whole


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


# Made once: json.loads() and json.dumps() make them anew at each call that has options.
_READER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits),
    parse_float=_number,
    parse_constant=_no_constant,
    object_pairs_hook=_unique_members,
)

CHECKER = json.JSONDecoder(parse_int=float, parse_constant=_no_constant)

_WRITER = json.JSONEncoder(allow_nan=False)


def read_whole(decoder: json.JSONDecoder, text: str) -> Any:
    text = text.strip(" \t\r\n")
    value, end = decoder.raw_decode(text)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    # They are the one thing that json accepts and UTF-8 cannot carry.
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def decode(raw: bytes, limits: Limits = USUAL_LIMITS) -> Any:
    """The value of one framed message, read as QEMU reads it: UTF-8 only, no duplicate keys, no lone surrogates.

    It differs in two things. Unicode's noncharacters (U+FFFE) pass, since they are valid UTF-8 and JSON; and NUL as the
    bytes C0 80 does not, since it is not.

    :raises RemoteProtocolError: the peer broke these rules
    """
    most = limits.values
    is_long = len(raw) > most  # only then can it have so many separators
    if is_long and sum(map(raw.count, (b",", b"{", b"["))) > most and _has_more_outside_strings(raw, most):
        raise RemoteProtocolError(f"the peer sent a message of more than {most} values")
    try:
        text = raw.decode("utf-8")
        value = read_whole(_READER, _standard_quotes(text) if "'" in text else text)
        if "\\u" in text:
            _refuse_lone_surrogates(value)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"the peer sent a message that is not JSON: {error}") from error
    return value


def encode(message: Any) -> bytes:
    """One message as bytes: pure ASCII and one line, as the stock agent writes (``qga/main.c``, QEMU 10.0.13).

    :raises LocalProtocolError: JSON cannot carry the message
    """
    try:
        text = _WRITER.encode(message)
        if "\\ud" in text:
            _refuse_lone_surrogates(message)
        return text.encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"this message cannot be sent: {error}") from error
