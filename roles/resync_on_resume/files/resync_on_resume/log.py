# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The log: one line for each thing that happens, as words and ``key=value`` (logfmt)."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from typing import Iterable, Mapping, TextIO, Tuple

# What systemd's journal takes from the beginning of a line for its priority (sd-daemon(3)).
WARNING = 4
INFO = 6

_NEEDS_QUOTES = re.compile(r'[\s"=]')

Fields = Iterable[Tuple[str, object]]


def quoted(text: str) -> str:
    """The text as it is, or as a JSON string if it would be taken for more or less than one value."""
    if text.isprintable():
        return json.dumps(text, ensure_ascii=False) if not text or _NEEDS_QUOTES.search(text) else text
    return json.dumps(text)


def line(event: str, fields: Fields) -> str:
    """Values that are None are left out."""
    said = (f"{name}={quoted(str(value))}" for name, value in fields if value is not None)
    return " ".join((event, *said))


class Log:
    """Writes to ``target``. ``for_journal``: with priorities."""

    def __init__(self, target: TextIO, for_journal: bool) -> None:
        self._target = target
        self._for_journal = for_journal

    def info(self, event: str, fields: Fields = ()) -> None:
        self.write(INFO, event, fields)

    def warning(self, event: str, fields: Fields = ()) -> None:
        self.write(WARNING, event, fields)

    def write(self, priority: int, event: str, fields: Fields) -> None:
        prefix = f"<{priority}>" if self._for_journal else ""
        # A log that cannot be written must not end the service.
        with contextlib.suppress(OSError, ValueError):
            self._target.write(f"{prefix}{line(event, fields)}\n")
            self._target.flush()


def standard_log(environment: Mapping[str, str]) -> Log:
    """To standard error, which is the journal if systemd says so (systemd.exec(5), JOURNAL_STREAM)."""
    return Log(sys.stderr, bool(environment.get("JOURNAL_STREAM")))
