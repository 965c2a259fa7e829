"""The metrics' file: replaced as a whole, not too often, and never while nothing changes."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.resync_service import module

metrics_file = module("metrics_file")
RUNG = module("_event_loop.tasks", "guest_agent").Received(b"\0", 0)


class Turned:
    """A file whose waits a test ends by hand. Its text is how often it was made."""

    def __init__(self, path: str) -> None:
        self.made = 0
        self.said = io.StringIO()
        self.file = metrics_file.MetricsFile(path, self, module("log").Log(self.said, for_journal=False))
        self._task: Any = self.file.run()
        self.wait = self._task.send(None)

    def text(self) -> str:
        self.made += 1
        return f"{self.made}\n"

    def is_awaited(self) -> bool:
        """Whether it waits for a change, not for time to pass."""
        return bool(self.wait.events)

    def go_on(self, received: Any = None) -> None:
        self.wait = self._task.send(received)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qga.prom"


def test_many_changes_are_one_file_a_while_later(path: Path) -> None:
    turned = Turned(str(path))
    turned.go_on(None)  # an hour has passed
    assert (turned.is_awaited(), turned.made) == (True, 0)
    for _time in range(100):
        turned.file.changed()
    turned.go_on(RUNG)
    assert (turned.is_awaited(), path.exists()) == (False, False)
    turned.go_on()
    assert turned.is_awaited()
    assert path.read_text() == "1\n"


def test_a_change_while_it_waits_is_in_it_and_one_after_it_is_in_the_next(path: Path) -> None:
    turned = Turned(str(path))
    for expected in ("1\n", "2\n"):
        turned.file.changed()
        turned.go_on(RUNG)
        turned.file.changed()
        turned.go_on()
        assert path.read_text() == expected
    assert turned.said.getvalue() == ""


def test_without_a_path_nothing_is_made() -> None:
    turned = Turned("")
    turned.file.changed()
    turned.file.write()
    assert turned.made == 0


def test_what_is_in_the_way_is_said_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ["No space left on device", "No space left on device", "Read-only file system", None, None, "again"]
    left = iter(problems)

    def replace(_path: str, _text: str) -> None:
        problem = next(left)
        if problem is not None:
            raise OSError(1, problem)

    monkeypatch.setattr(metrics_file, "replace", replace)
    turned = Turned("/x/qga.prom")
    for _problem in problems:
        turned.file.write()
    assert turned.said.getvalue().splitlines() == [
        'metrics file=/x/qga.prom message="cannot be written: No space left on device"',
        'metrics file=/x/qga.prom message="cannot be written: Read-only file system"',
        'metrics file=/x/qga.prom message="is written again"',
        'metrics file=/x/qga.prom message="cannot be written: again"',
    ]


def test_it_is_there_whole_for_all_to_read_and_nothing_else_is(path: Path) -> None:
    before = os.umask(0o077)
    try:
        metrics_file.replace(str(path), "one\n")
        with path.open() as reader:
            metrics_file.replace(str(path), "two\n")
            assert reader.read() == "one\n"
    finally:
        os.umask(before)
    assert path.read_text() == "two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["qga.prom"]


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        *((0o600, 0o600), (0o640, 0o640), (0o664, 0o664), (0o400, 0o400)),
        *((0o6777, 0o664), (0o4755, 0o644), (0o2750, 0o640), (0o1777, 0o664), (0o666, 0o664), (0o602, 0o600)),
    ],
)
def test_one_that_is_there_keeps_its_mode_without_special_bits_execution_and_writing_by_others(
    path: Path, mode: int, kept: int
) -> None:
    path.touch()
    path.chmod(mode)
    for text in ("one\n", "two\n"):
        metrics_file.replace(str(path), text)
        assert stat.S_IMODE(path.stat().st_mode) == kept


def test_what_is_left_of_one_that_was_killed_is_replaced_and_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("mine\n")
    path.with_name(".qga.prom.new").symlink_to(victim)
    metrics_file.replace(str(path), "one\n")
    assert victim.read_text() == "mine\n"
    assert sorted(os.listdir(path.parent)) == ["qga.prom", "victim"]


def test_one_that_cannot_be_put_there_leaves_nothing(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        metrics_file.replace(str(path), "one\n")
    assert os.listdir(path.parent) == ["qga.prom"]
