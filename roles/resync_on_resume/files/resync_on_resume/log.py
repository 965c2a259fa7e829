# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The log: one line for each event, a word and ``key=value`` pairs (logfmt)."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from typing import Iterable, Mapping, TextIO, Tuple

# Priorities, which systemd's journal reads from the beginning of a line (sd-daemon(3)).
WARNING = 4
INFO = 6

_NEEDS_QUOTES = re.compile(r'[\s"=]')

Fields = Iterable[Tuple[str, object]]


def quoted(text: str) -> str:
    """Return the text, as a JSON string if it would not read back as one value."""
    if text.isprintable():
        return json.dumps(text, ensure_ascii=False) if not text or _NEEDS_QUOTES.search(text) else text
    return json.dumps(text)


def line(event: str, fields: Fields) -> str:
    """Return the line. Fields with the value None are omitted."""
    pairs = (f"{name}={quoted(str(value))}" for name, value in fields if value is not None)
    return " ".join((event, *pairs))


class Log:
    """Writes to ``target``. ``for_journal``: lines begin with their priorities."""

    def __init__(self, target: TextIO, for_journal: bool) -> None:
        self._target = target
        self._for_journal = for_journal

    def info(self, event: str, fields: Fields = ()) -> None:
        self.write(INFO, event, fields)

    def warning(self, event: str, fields: Fields = ()) -> None:
        self.write(WARNING, event, fields)

    def write(self, priority: int, event: str, fields: Fields) -> None:
        prefix = f"<{priority}>" if self._for_journal else ""
        # The service must survive a log that cannot be written.
        with contextlib.suppress(OSError, ValueError):
            self._target.write(f"{prefix}{line(event, fields)}\n")
            self._target.flush()


def standard_log(environment: Mapping[str, str]) -> Log:
    """Return a log on standard error, which is the journal if JOURNAL_STREAM is set (systemd.exec(5))."""
    return Log(sys.stderr, bool(environment.get("JOURNAL_STREAM")))
