"""The check that nobody but root or the agent's own user can have created a file."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.extended_agent import module

trust: Any = module("trust")
OTHER_USER = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o600)
    return path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        (tmp_path / "socket").chmod(0o600)
        yield tmp_path / "socket"


def distrusted(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(trust.DistrustError) as caught:
        call(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture(params=["file", "listening"])
def either(request: pytest.FixtureRequest) -> tuple[Path, Callable[[str], Any]]:
    """A file or a private socket, and the function that checks it."""
    path: Path = request.getfixturevalue(request.param)
    return path, trust.read if request.param == "file" else trust.require_private_socket


Either = tuple[Path, Callable[[str], Any]]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o440, 0o660, 0o606, 0o777])
def test_a_path_that_only_its_owner_can_write_is_trusted(either: Either, mode: int) -> None:
    path, look = either
    path.chmod(mode)
    if mode & 0o022:
        assert (
            distrusted(look, str(path))
            == f"'{path}' is writable by other users (mode {mode:04o}): run chmod go-w on it"
        )
    else:
        look(str(path))


@as_root
def test_another_users_path_is_not_trusted_unless_the_agent_is_that_user(
    either: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, look = either
    os.chown(path, OTHER_USER, -1)
    assert distrusted(look, str(path)) == f"'{path}' belongs to user {OTHER_USER}: run chown root on it"
    monkeypatch.setattr(trust.os, "geteuid", lambda: OTHER_USER)
    look(str(path))


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_path_that_others_can_replace_is_not_trusted(either: Either, mode: int) -> None:
    path, look = either
    above = path.parent / "open"
    inner = above / "closed"
    inner.mkdir(parents=True, mode=0o700)
    path.rename(inner / "inner")
    for directory in (inner, above):
        directory.chmod(mode)
        assert f"the directory '{directory}' is writable by other users" in distrusted(look, str(inner / "inner"))
        directory.chmod(0o1777)  # in a sticky directory they cannot
        look(str(inner / "inner"))


@as_root
def test_a_path_in_another_users_sticky_directory_is_not_trusted(either: Either) -> None:
    path, look = either
    path.parent.chmod(0o1755)
    os.chown(path.parent, OTHER_USER, -1)
    assert (
        distrusted(look, str(path))
        == f"the directory '{path.parent}' belongs to user {OTHER_USER}: run chown root on it"
    )


def test_a_link_is_trusted_if_others_can_replace_neither_end(either: Either) -> None:
    path, look = either
    (path.parent / "link").symlink_to(path)
    look(str(path.parent / "link"))
    theirs = path.parent / "open"
    theirs.mkdir()
    theirs.chmod(0o777)
    (theirs / "link").symlink_to(path)
    assert "open' is writable by other users" in distrusted(look, str(theirs / "link"))
    path.rename(theirs / path.name)
    path.symlink_to(theirs / path.name)
    assert "open' is writable by other users" in distrusted(look, str(path))


def test_a_file_that_is_not_regular_is_rejected_at_once(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert "has more than 1048576 characters" in distrusted(trust.read, str(file))
    assert distrusted(trust.require_private_socket, str(file)) == f"'{file}' is not a socket: remove it"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        trust.require_private_socket(str(file))
    os.mkfifo(file, 0o600)
    for path in (file, "/dev/zero"):
        assert distrusted(trust.read, str(path)) == f"'{path}' is not a regular file"
    assert trust.read("/dev/null") == "", "it means no configuration"


def test_only_root_and_the_agent_itself_may_listen(listening: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(listening))
        trust.require_trusted_peer(client, "the socket")
        monkeypatch.setattr(trust, "_is_ours", lambda owner: owner == OTHER_USER)
        assert distrusted(trust.require_trusted_peer, client, "the socket") == (
            f"a process of user {os.geteuid()} listens on 'the socket': stop that process"
        )


@pytest.mark.parametrize(("mode", "flag"), [(0o700, 0), (0o777, os.O_NOFOLLOW), (0o1777, os.O_NOFOLLOW)])
def test_a_link_is_followed_if_no_other_user_can_have_created_it(file: Path, mode: int, flag: int) -> None:
    file.parent.chmod(mode)
    assert trust.following(str(file)) == flag
