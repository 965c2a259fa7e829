# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeping a file up to date: not too often, never while nothing changes, and again after it could not be written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.tests.support.resync_service import module

publisher = module("publisher")


class Text:
    """In place of the metrics."""

    def __init__(self) -> None:
        self.made = 0

    def text(self) -> str:
        self.made += 1
        return f"{self.made}\n"


class Turned:
    """A publisher whose waits a test ends by hand."""

    def __init__(self, path: str) -> None:
        self.text = Text()
        self.said = io.StringIO()
        self.publisher = publisher.Publisher(path, self.text, module("log").Log(self.said, for_journal=False))
        self._task: Any = self.publisher.run()
        self.wait = self._task.send(None)

    def is_awaited(self) -> bool:
        """Whether it waits for a change, not for time to pass."""
        return bool(self.wait.events)

    def go_on(self, outcome: Any = None) -> None:
        self.wait = self._task.send(outcome)


RUNG = module("_event_loop.tasks", "guest_agent").Received(b"\0", 0)


def test_many_changes_are_one_file_a_while_later(tmp_path: Path) -> None:
    turned = Turned(str(tmp_path / "qga.prom"))
    assert turned.is_awaited()
    for _time in range(100):
        turned.publisher.changed()
    turned.go_on(RUNG)
    assert not turned.is_awaited()
    assert not (tmp_path / "qga.prom").exists()
    turned.go_on()
    assert turned.is_awaited()
    assert (tmp_path / "qga.prom").read_text() == "1\n"


def test_without_a_change_nothing_is_written(tmp_path: Path) -> None:
    turned = Turned(str(tmp_path / "qga.prom"))
    turned.go_on(None)  # an hour has passed
    assert turned.is_awaited()
    assert turned.text.made == 0


def test_a_change_while_it_waits_is_in_it_and_one_behind_it_is_in_the_next(tmp_path: Path) -> None:
    turned = Turned(str(tmp_path / "qga.prom"))
    for expected in ("1\n", "2\n"):
        turned.publisher.changed()
        turned.go_on(RUNG)
        turned.publisher.changed()
        turned.go_on()
        assert (tmp_path / "qga.prom").read_text() == expected
    assert turned.said.getvalue() == ""


def test_without_a_path_nothing_is_made() -> None:
    turned = Turned("")
    turned.publisher.changed()
    turned.publisher.write()
    assert turned.text.made == 0


def test_what_is_in_the_way_is_said_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ["No space left on device", "No space left on device", "Read-only file system", None, None, "again"]
    left = iter(problems)

    def write(_path: str, _text: str) -> None:
        problem = next(left)
        if problem is not None:
            raise OSError(1, problem)

    monkeypatch.setattr(module("textfile"), "write", write)
    turned = Turned("/x/qga.prom")
    for _problem in problems:
        turned.publisher.write()
    assert turned.said.getvalue().splitlines() == [
        'metrics file=/x/qga.prom message="cannot be written: No space left on device"',
        'metrics file=/x/qga.prom message="cannot be written: Read-only file system"',
        'metrics file=/x/qga.prom message="is written again"',
        'metrics file=/x/qga.prom message="cannot be written: again"',
    ]
