# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cutting requests out of the bytes that a host sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_DECODER = json.JSONDecoder()


class Requests:
    """Hosts are honest, so a prefix that is no JSON yet is half a request, and 0xFF forgets it."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        _forgotten, delimiter, behind = data.rpartition(b"\xff")
        self._text = (behind.decode() if delimiter else self._text + data.decode()).lstrip()
        while self._text:
            try:
                value, end = _DECODER.raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            if isinstance(value, dict):
                yield value
