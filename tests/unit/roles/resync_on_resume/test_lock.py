"""Only one at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.resync_service import module

lock = module("lock")


def test_only_one_process_holds_it_until_it_is_released(tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "lock")
    with lock.only_one(path):
        said = rf"runs already, process {os.getpid()}: it holds {path}\Z"
        with pytest.raises(lock.AlreadyRunningError, match=said), lock.only_one(path):
            pytest.fail("two at a time")
        assert Path(path).read_text() == f"{os.getpid()}\n"
    with lock.only_one(path):
        pass


def test_what_another_one_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789012345678901234567890\n")
    with lock.only_one(str(tmp_path / "lock")):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine\n")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), lock.only_one(str(tmp_path / "lock")):
        pytest.fail("it was followed")
    assert (tmp_path / "victim").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({}, "/run/qga-resync-on-resume/lock"),
        ({"RUNTIME_DIRECTORY": ""}, "/run/qga-resync-on-resume/lock"),
        ({"RUNTIME_DIRECTORY": "/run/x"}, "/run/x/lock"),
        ({"RUNTIME_DIRECTORY": "/run/x:/run/y"}, "/run/x/lock"),
    ],
)
def test_it_lies_in_the_directory_that_systemd_made(environment: dict[str, str], path: str) -> None:
    assert lock.usual_path(environment) == path
