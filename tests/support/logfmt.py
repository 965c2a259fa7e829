"""The service's log lines, read back: a word, then ``key=value``, where a value may be a JSON string."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_FIELD = re.compile(r' (?P<name>\w+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\s"=]*)')


class Line(NamedTuple):
    event: str
    fields: dict[str, str]

    def has(self, **fields: str) -> bool:
        return fields.items() <= self.fields.items()


def parse(text: str) -> Line:
    event, _space, _rest = text.partition(" ")
    fields: dict[str, str] = {}
    at = len(event)
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError(f"column {at}: {text!r}")
        value = found["value"]
        fields[found["name"]] = json.loads(value) if value.startswith('"') else value
        at = found.end()
    return Line(event, fields)
