"""JSON strategies for Hypothesis: values, their spellings, and bytes that only look like JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# A slow machine must not fail a test.
PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])

# Characters with a meaning in JSON, and one character of each length in UTF-8.
texts = st.text("a1 \"'\\/{}[],:\0\n\x7fé€😀", max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
# No newline, because the framing must not depend on it.
white_space = st.text(" \t\r", max_size=2)


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


@st.composite
def spelled_values(draw: st.DrawFn) -> tuple[Any, bytes, bytes]:
    """Draw a value, its bytes with white space anywhere inside, and the bytes that must at least follow."""
    value = draw(json_values)
    tokens = _TOKEN.findall(json.dumps(value, ensure_ascii=draw(st.booleans())))
    text = "".join(token + draw(white_space) for token in tokens)
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
