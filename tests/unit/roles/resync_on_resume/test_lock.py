"""Only one at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.resync_service import module

lock = module("lock")


def test_only_one_process_holds_it_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with lock.only_one(str(path)):
        said = rf"runs already, process {os.getpid()}: it holds {path}\Z"
        with pytest.raises(lock.AlreadyRunningError, match=said), lock.only_one(str(path)):
            pytest.fail("two at a time")
    path.write_text("123456789012345678901234567890\n")
    with lock.only_one(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine\n")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), lock.only_one(str(tmp_path / "lock")):
        pytest.fail("it was followed")
    assert (tmp_path / "victim").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("directories", "path"),
    [("", "/run/qga-resync-on-resume/lock"), ("/run/x", "/run/x/lock"), ("/run/x:/run/y", "/run/x/lock")],
)
def test_it_lies_in_the_directory_that_systemd_made(directories: str, path: str) -> None:
    assert lock.usual_path({"RUNTIME_DIRECTORY": directories}) == path
    assert lock.usual_path({}) == "/run/qga-resync-on-resume/lock"
