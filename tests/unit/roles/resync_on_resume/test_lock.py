"""The service's lock: one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.resync_service import module

lock = module("lock")


def test_only_one_process_holds_it_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with lock.hold(str(path)):
        message = rf"is already running: process {os.getpid()} holds {path}\Z"
        with pytest.raises(lock.AlreadyRunningError, match=message), lock.hold(str(path)):
            pytest.fail("two processes hold the lock")
    path.write_text("123456789012345678901234567890\n")
    with lock.hold(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine\n")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), lock.hold(str(tmp_path / "lock")):
        pytest.fail("the link was followed")
    assert (tmp_path / "victim").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("directories", "path"),
    [("", "/run/qga-resync-on-resume/lock"), ("/run/x", "/run/x/lock"), ("/run/x:/run/y", "/run/x/lock")],
)
def test_the_lock_is_in_the_directory_that_systemd_created(directories: str, path: str) -> None:
    assert lock.default_path({"RUNTIME_DIRECTORY": directories}) == path
    assert lock.default_path({}) == "/run/qga-resync-on-resume/lock"
