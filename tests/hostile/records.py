# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cases cost, for build/hostile.json: how many there were, the longest, and the one that took most memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from tests.hostile.case import Verdict
from tests.support.collection import BUILD

_PATH = BUILD / "hostile.json"


class Records:
    """By channel and kind of case."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}

    def add(self, channel: str, kind: str, what: str, verdict: Verdict) -> None:
        with self._lock:
            row = self._rows.setdefault(f"{channel}: {kind}", {"cases": 0, "seconds": 0.0, "peak_mib": 0.0})
            row["cases"] += 1
            _keep_worst(row, "seconds", round(verdict.seconds, 3), what)
            _keep_worst(row, "peak_mib", round(verdict.peak_kib / 1024, 1), what)

    def write(self) -> None:
        """Over what an earlier run has of the same kinds."""
        if not self._rows:
            return
        before: Mapping[str, Any] = json.loads(_PATH.read_text()) if _PATH.exists() else {}
        BUILD.mkdir(exist_ok=True)
        _PATH.write_text(json.dumps({**before, **self._rows}, indent=2, sort_keys=True) + "\n")


def _keep_worst(row: dict[str, Any], figure: str, value: float, what: str) -> None:
    if value >= row[figure]:
        row.update({figure: value, f"{figure}_with": what})
