# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON values as QEMU reads and writes them, within the limits on what one message may cost."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from .errors import LocalProtocolError, RemoteProtocolError
from .limits import USUAL_LIMITS, Limits

# A longer integer is outside QEMU's range (-2^63 .. 2^64-1), and QEMU reads it as a double. The limit also keeps int(),
# which takes quadratic time, away from numbers of a million digits.
_LONGEST_INTEGER = len("18446744073709551615")

# No pattern repeats a group: the matcher would keep a record of every repetition, a hundred times the text's size.
_QUOTE = re.compile(r"""\\["'\\]|["']""")

_STRING_OR_SEPARATOR = re.compile(rb""""[^"]*"|'[^']*'|([,{\[])""")

_REWRITTEN_ESCAPES = {r"\\": r"\\", r"\"": r"\"", r"\'": "'"}


def _standard_quotes(text: str) -> str:
    """Rewrite single-quoted strings, and \\' in either kind, both of which QEMU accepts, as standard JSON."""
    quote = ""  # the one that began the current string

    def rewrite(match: re.Match[str]) -> str:
        nonlocal quote
        found = match.group()
        if found in _REWRITTEN_ESCAPES:
            return _REWRITTEN_ESCAPES[found]
        if quote and found != quote:
            return r"\"" if found == '"' else found
        quote = "" if quote else found
        return '"'

    return _QUOTE.sub(rewrite, text)


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


# A double preserves all digits of a number that is not longer (DBL_DIG, float.h).
_DOUBLE_DIGITS = 15


class WholeFloat(float):
    """A number that is written with a fraction or an exponent and whose double is whole. ``text`` is its original
    spelling, which may have fewer digits than the double, or more.
    """

    __slots__ = ("text",)
    text: str


def _number(text: str) -> float:
    number = float(text)
    # A number too small for a double is read as zero, however short its text is.
    if (number and len(text) <= _DOUBLE_DIGITS) or not number.is_integer():
        return number
    whole = WholeFloat(number)
    whole.text = text
    return whole


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


# Made once: json.loads() and json.dumps() make new ones at each call with options.
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
    # They are the only text that json accepts and UTF-8 cannot encode.
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def decode(raw: bytes, limits: Limits = USUAL_LIMITS) -> Any:
    """Return the value of one framed message, read as QEMU reads it: UTF-8 only, no duplicate keys, no lone surrogates.

    There are two differences. Unicode's noncharacters (U+FFFE) pass, since they are valid UTF-8 and JSON; NUL as the
    bytes C0 80 does not pass, since it is not.

    :raises RemoteProtocolError: the peer broke these rules
    """
    most = limits.values
    is_long = len(raw) > most  # a shorter one cannot have so many separators
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
    """Return one message as bytes: ASCII and one line, as the stock agent writes (``qga/main.c``, QEMU 10.0.13).

    :raises LocalProtocolError: JSON cannot carry the message
    """
    try:
        text = _WRITER.encode(message)
        if "\\ud" in text:
            _refuse_lone_surrogates(message)
        return text.encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"this message cannot be sent: {error}") from error
