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


class Text:
    """In place of the metrics."""

    def __init__(self) -> None:
        self.made = 0

    def text(self) -> str:
        self.made += 1
        return f"{self.made}\n"


class Turned:
    """A file whose waits a test ends by hand."""

    def __init__(self, path: str) -> None:
        self.text = Text()
        self.said = io.StringIO()
        self.file = metrics_file.MetricsFile(path, self.text, module("log").Log(self.said, for_journal=False))
        self._task: Any = self.file.run()
        self.wait = self._task.send(None)

    def is_awaited(self) -> bool:
        """Whether it waits for a change, not for time to pass."""
        return bool(self.wait.events)

    def go_on(self, received: Any = None) -> None:
        self.wait = self._task.send(received)


RUNG = module("_event_loop.tasks", "guest_agent").Received(b"\0", 0)


def test_many_changes_are_one_file_a_while_later(tmp_path: Path) -> None:
    turned = Turned(str(tmp_path / "qga.prom"))
    assert turned.is_awaited()
    for _time in range(100):
        turned.file.changed()
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


def test_a_change_while_it_waits_is_in_it_and_one_after_it_is_in_the_next(tmp_path: Path) -> None:
    turned = Turned(str(tmp_path / "qga.prom"))
    for expected in ("1\n", "2\n"):
        turned.file.changed()
        turned.go_on(RUNG)
        turned.file.changed()
        turned.go_on()
        assert (tmp_path / "qga.prom").read_text() == expected
    assert turned.said.getvalue() == ""


def test_without_a_path_nothing_is_made() -> None:
    turned = Turned("")
    turned.file.changed()
    turned.file.write()
    assert turned.text.made == 0


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


def test_it_is_there_whole_for_all_to_read_and_nothing_else_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        metrics_file.replace(str(tmp_path / "qga.prom"), "one\n")
        metrics_file.replace(str(tmp_path / "qga.prom"), "two\n")
    finally:
        os.umask(before)
    assert (tmp_path / "qga.prom").read_text() == "two\n"
    assert stat.S_IMODE((tmp_path / "qga.prom").stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["qga.prom"]


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        *((0o600, 0o600), (0o640, 0o640), (0o664, 0o664), (0o400, 0o400)),
        *((0o6777, 0o664), (0o4755, 0o644), (0o2750, 0o640), (0o1777, 0o664), (0o666, 0o664), (0o602, 0o600)),
    ],
)
def test_one_that_is_there_keeps_its_mode_without_special_bits_execution_and_writing_by_others(
    tmp_path: Path, mode: int, kept: int
) -> None:
    path = tmp_path / "qga.prom"
    path.touch()
    path.chmod(mode)
    for text in ("one\n", "two\n"):
        metrics_file.replace(str(path), text)
        assert stat.S_IMODE(path.stat().st_mode) == kept


def test_who_has_it_open_reads_the_old_one_to_its_end(tmp_path: Path) -> None:
    metrics_file.replace(str(tmp_path / "qga.prom"), "one\n")
    with (tmp_path / "qga.prom").open() as reader:
        metrics_file.replace(str(tmp_path / "qga.prom"), "two\n")
        assert reader.read() == "one\n"


def test_what_is_left_of_one_that_was_killed_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine\n")
    (tmp_path / ".qga.prom.new").symlink_to(tmp_path / "victim")
    metrics_file.replace(str(tmp_path / "qga.prom"), "one\n")
    assert (tmp_path / "victim").read_text() == "mine\n"
    assert sorted(os.listdir(tmp_path)) == ["qga.prom", "victim"]


def test_one_that_cannot_be_put_there_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "qga.prom").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        metrics_file.replace(str(tmp_path / "qga.prom"), "one\n")
    assert os.listdir(tmp_path) == ["qga.prom"]
    with pytest.raises(FileNotFoundError):
        metrics_file.replace(str(tmp_path / "none" / "qga.prom"), "one\n")
