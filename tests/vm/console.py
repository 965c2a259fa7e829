"""The output of a guest's serial console."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 12
# Firmware clears the screen and moves the cursor.
_TERMINAL = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|c)")


@dataclass(frozen=True)
class Console:
    """The file that QEMU appends to. A missing file counts as empty."""

    path: Path

    def shows(self, text: str) -> bool:
        return text in self._text()

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.search(self._text())

    def tail(self) -> str:
        """Return the last lines, for error messages."""
        lines = [line.rstrip() for line in _TERMINAL.sub("", self._text()).splitlines()]
        return "\n".join([line for line in lines if line][-TAIL_LINES:]) or "(nothing)"

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
