from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vm import cache
from tests.vm.errors import VmError
from tests.vm.lock import locked


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("QGA_VM_CACHE", str(directory))
    return directory


def write(directory: Path) -> None:
    (directory / "file").write_text("whole")


def never(_directory: Path) -> None:
    raise AssertionError("it was there already")


def entry(make: object = write, needs_mib: int = 0) -> Path:
    return cache.entry("name", make, needs_mib)  # type: ignore[arg-type]


def test_an_entry_is_made_once(place: Path) -> None:
    assert entry() == place / "name"
    assert (entry(never) / "file").read_text() == "whole"


def test_an_entry_is_there_only_when_it_is_whole(place: Path) -> None:
    def make(directory: Path) -> None:
        write(directory)
        assert not (place / "name").exists()

    assert entry(make).is_dir()


@pytest.mark.parametrize("error", [VmError("why"), KeyboardInterrupt(), RuntimeError("why")])
def test_nothing_is_left_of_an_entry_that_could_not_be_made(place: Path, error: BaseException) -> None:
    def fail(directory: Path) -> None:
        write(directory)
        raise error

    with pytest.raises(type(error)):
        entry(fail)
    assert [path.name for path in place.iterdir()] == ["name.lock"]
    assert (entry() / "file").read_text() == "whole"


def test_what_a_killed_process_left_is_made_anew(place: Path) -> None:
    part = place / "name.part"
    part.mkdir(parents=True)
    (part / "half").touch()
    assert [path.name for path in entry().iterdir()] == ["file"]
    assert not part.exists()


def test_a_second_process_waits_for_the_first() -> None:
    may_go_on, begun = threading.Event(), threading.Event()

    def make_slowly(directory: Path) -> None:
        begun.set()
        assert may_go_on.wait(30)
        write(directory)

    with ThreadPoolExecutor(2) as processes:
        first = processes.submit(entry, make_slowly)
        assert begun.wait(30)
        second = processes.submit(entry, never)
        may_go_on.set()
        assert first.result() == second.result()


def test_a_disk_without_room_is_one_sentence_before_anything_is_made(place: Path) -> None:
    with pytest.raises(VmError, match=r"needs 1073741824 MiB.*QGA_VM_CACHE") as refused:
        entry(never, needs_mib=1 << 30)
    assert "\n" not in str(refused.value)
    assert not (place / "name.part").exists()


def test_a_disk_that_fills_up_is_one_sentence_whatever_the_tool_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(directory: Path) -> None:
        write(directory)
        monkeypatch.setattr(cache, "FULL_MIB", 1 << 40)
        raise VmError("mmdebstrap failed with status 25; the end of its log:\nE: something\nE: else")

    with pytest.raises(VmError, match=r"the disk is full.*QGA_VM_CACHE") as refused:
        entry(fill)
    assert "\n" not in str(refused.value)
    assert not (place / "name.part").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_one_sentence_with_a_way_out(code: int) -> None:
    def fail(_directory: Path) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(VmError, match=rf"{os.strerror(code)}.*QGA_VM_CACHE"):
        entry(fail)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_cache_of_another_user_is_one_sentence_and_left_alone(place: Path) -> None:
    place.mkdir()
    os.chown(place, 1, -1)
    with pytest.raises(VmError, match=r"belongs to daemon, not to root.*QGA_VM_CACHE"):
        entry()
    assert list(place.iterdir()) == []


def test_an_unusable_entry_is_discarded(place: Path) -> None:
    directory = entry()
    cache.discard(directory, directory.stat().st_ino)
    assert not (place / "name").exists()


def test_an_entry_that_another_process_has_replaced_stays() -> None:
    directory = entry()
    inode = directory.stat().st_ino
    directory.rename(directory.with_name("old"))
    entry()
    cache.discard(directory, inode)
    assert directory.is_dir()


class TestUnusedEntries:
    @pytest.fixture
    def unused(self) -> Path:
        directory = entry()
        os.utime(directory, (0, 0))
        return directory

    def test_are_removed(self, unused: Path) -> None:
        cache.remove_unused("*")
        assert not unused.exists()

    def test_stay_if_somebody_has_used_them_meanwhile(self, unused: Path) -> None:
        entry(never)
        cache.remove_unused("*")
        assert unused.is_dir()

    def test_stay_while_somebody_uses_them(self, unused: Path) -> None:
        with locked(cache.lock_of(unused), shared=True):
            cache.remove_unused("*")
        assert unused.is_dir()

    def test_stay_if_they_have_another_name(self, unused: Path) -> None:
        cache.remove_unused("state-*")
        assert unused.is_dir()
