"""The metrics file is replaced atomically, at most once a second, and only after a change."""

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


class SteppedFile:
    """A metrics file whose waits the test ends. Its text is the number of calls to :meth:`text`."""

    def __init__(self, path: str) -> None:
        self.count = 0
        self.log = io.StringIO()
        self.file = metrics_file.MetricsFile(path, self, module("log").Log(self.log, for_journal=False))
        self._task: Any = self.file.run()
        self.wait = self._task.send(None)

    def text(self) -> str:
        self.count += 1
        return f"{self.count}\n"

    def awaits_change(self) -> bool:
        """Return whether the file waits for a change, not for time to pass."""
        return bool(self.wait.events)

    def go_on(self, received: Any = None) -> None:
        self.wait = self._task.send(received)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qga.prom"


def test_many_changes_are_written_once_after_a_pause(path: Path) -> None:
    stepped = SteppedFile(str(path))
    stepped.go_on(None)  # an hour has passed
    assert (stepped.awaits_change(), stepped.count) == (True, 0)
    for _time in range(100):
        stepped.file.changed()
    stepped.go_on(RUNG)
    assert (stepped.awaits_change(), path.exists()) == (False, False)
    stepped.go_on()
    assert stepped.awaits_change()
    assert path.read_text() == "1\n"


def test_a_change_during_the_pause_is_written_and_a_later_one_is_written_next(path: Path) -> None:
    stepped = SteppedFile(str(path))
    for expected in ("1\n", "2\n"):
        stepped.file.changed()
        stepped.go_on(RUNG)
        stepped.file.changed()
        stepped.go_on()
        assert path.read_text() == expected
    assert stepped.log.getvalue() == ""


def test_nothing_is_written_without_a_path() -> None:
    stepped = SteppedFile("")
    stepped.file.changed()
    stepped.file.write()
    assert stepped.count == 0


def test_a_failure_is_logged_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ["No space left on device", "No space left on device", "Read-only file system", None, None, "again"]
    left = iter(problems)

    def replace(_path: str, _text: str) -> None:
        problem = next(left)
        if problem is not None:
            raise OSError(1, problem)

    monkeypatch.setattr(metrics_file, "replace", replace)
    stepped = SteppedFile("/x/qga.prom")
    for _problem in problems:
        stepped.file.write()
    assert stepped.log.getvalue().splitlines() == [
        'metrics file=/x/qga.prom message="cannot write the file: No space left on device"',
        'metrics file=/x/qga.prom message="cannot write the file: Read-only file system"',
        'metrics file=/x/qga.prom message="the file is written again"',
        'metrics file=/x/qga.prom message="cannot write the file: again"',
    ]


def test_a_new_file_is_complete_and_world_readable_and_no_other_file_is_left(path: Path) -> None:
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
def test_an_existing_file_keeps_its_mode_without_special_execute_and_other_write_bits(
    path: Path, mode: int, kept: int
) -> None:
    path.touch()
    path.chmod(mode)
    for text in ("one\n", "two\n"):
        metrics_file.replace(str(path), text)
        assert stat.S_IMODE(path.stat().st_mode) == kept


def test_the_temporary_file_of_a_killed_process_is_replaced_and_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("mine\n")
    path.with_name(".qga.prom.new").symlink_to(victim)
    metrics_file.replace(str(path), "one\n")
    assert victim.read_text() == "mine\n"
    assert sorted(os.listdir(path.parent)) == ["qga.prom", "victim"]


def test_a_failed_rename_leaves_no_temporary_file(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        metrics_file.replace(str(path), "one\n")
    assert os.listdir(path.parent) == ["qga.prom"]
