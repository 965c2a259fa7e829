# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.tests.support.extended_agent import module

trust: Any = module("trust")
SOMEBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o600)
    return path


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        (tmp_path / "socket").chmod(0o600)
        yield listener


def distrusted(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(trust.DistrustError) as caught:
        call(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


class TestReading:
    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o440])
    def test_what_only_the_owner_can_write(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        assert trust.read(str(file)) == "text"

    @pytest.mark.parametrize("mode", [0o660, 0o606, 0o777, 0o666])
    def test_not_what_others_can_write(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        assert distrusted(trust.read, str(file)) == (
            f"{file} may be written by others (mode {mode:04o}): chmod go-w it"
        )

    @as_root
    def test_not_what_is_somebody_elses(self, file: Path) -> None:
        os.chown(file, SOMEBODY, -1)
        assert distrusted(trust.read, str(file)) == f"{file} belongs to user {SOMEBODY}: chown it to root"

    @as_root
    def test_but_what_is_the_agents_own_users(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.chown(file, SOMEBODY, -1)
        monkeypatch.setattr(trust.os, "geteuid", lambda: SOMEBODY)
        assert trust.read(str(file)) == "text"

    @pytest.mark.parametrize("mode", [0o770, 0o707])
    def test_not_where_others_can_put_another_in_its_place(self, file: Path, mode: int) -> None:
        file.parent.chmod(mode)
        assert f"the directory {file.parent} may be written by others" in distrusted(trust.read, str(file))

    def test_not_where_they_can_do_so_further_up(self, file: Path) -> None:
        inner = file.parent / "open" / "closed"
        inner.mkdir(parents=True, mode=0o700)
        file.rename(inner / "file")
        (file.parent / "open").chmod(0o777)
        assert f"the directory {file.parent}/open may" in distrusted(trust.read, str(inner / "file"))

    def test_but_in_a_sticky_directory(self, file: Path) -> None:
        file.parent.chmod(0o1777)
        assert trust.read(str(file)) == "text"

    @as_root
    def test_not_in_somebody_elses_sticky_directory(self, file: Path) -> None:
        file.parent.chmod(0o1755)
        os.chown(file.parent, SOMEBODY, -1)
        assert distrusted(trust.read, str(file)) == (
            f"the directory {file.parent} belongs to user {SOMEBODY}: chown it to root"
        )

    def test_not_through_a_link_into_such_a_place(self, file: Path) -> None:
        open_directory = file.parent / "open"
        open_directory.mkdir()
        open_directory.chmod(0o777)
        (open_directory / "file").write_text("theirs")
        file.unlink()
        file.symlink_to(open_directory / "file")
        assert "open may be written by others" in distrusted(trust.read, str(file))

    def test_a_fifo_is_refused_and_not_waited_for(self, file: Path) -> None:
        file.unlink()
        os.mkfifo(file, 0o600)
        assert distrusted(trust.read, str(file)) == f"{file} is no regular file"

    def test_a_device_is_refused(self) -> None:
        assert distrusted(trust.read, "/dev/zero") == "/dev/zero is no regular file"

    def test_the_null_device_stands_for_nothing(self) -> None:
        assert trust.read("/dev/null") == ""

    def test_what_is_far_too_long_is_not_read_to_its_end(self, file: Path) -> None:
        with file.open("wb") as sparse:
            sparse.truncate(1 << 40)
        assert "is no configuration" in distrusted(trust.read, str(file))


@pytest.mark.usefixtures("listener")
class TestThePrivateSocket:
    def test_one_of_ours(self, tmp_path: Path) -> None:
        trust.require_private_socket(str(tmp_path / "socket"))

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_not_one_that_others_can_connect_to(self, tmp_path: Path, mode: int) -> None:
        (tmp_path / "socket").chmod(mode)
        assert "may be written by others" in distrusted(trust.require_private_socket, str(tmp_path / "socket"))

    @as_root
    def test_not_one_that_somebody_else_has_made(self, tmp_path: Path) -> None:
        os.chown(tmp_path / "socket", SOMEBODY, -1)
        assert "belongs to user" in distrusted(trust.require_private_socket, str(tmp_path / "socket"))

    def test_a_link_of_ours_to_one(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "socket")
        trust.require_private_socket(str(tmp_path / "link"))

    def test_not_what_is_no_socket(self, file: Path) -> None:
        assert distrusted(trust.require_private_socket, str(file)) == f"{file} is no socket: remove it"

    def test_not_through_a_link_that_others_can_replace(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        (tmp_path / "open" / "link").symlink_to(tmp_path / "socket")
        assert "open may be written" in distrusted(trust.require_private_socket, str(tmp_path / "open" / "link"))

    def test_not_where_others_can_put_another_in_its_place(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        assert "the directory" in distrusted(trust.require_private_socket, str(tmp_path / "socket"))

    def test_a_missing_one_is_no_reason_for_distrust(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            trust.require_private_socket(str(tmp_path / "none"))

    def test_who_listens_is_root_or_ourselves(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(tmp_path / "socket"))
            trust.require_trusted_peer(client, "the socket")
            monkeypatch.setattr(trust, "_is_ours", lambda owner: owner == SOMEBODY)
            assert distrusted(trust.require_trusted_peer, client, "the socket") == (
                f"user {os.geteuid()} listens on the socket: end that program"
            )


class TestFollowingLinks:
    def test_where_nobody_else_can_have_put_one(self, file: Path) -> None:
        assert trust.following(str(file)) == 0

    @pytest.mark.parametrize("mode", [0o777, 0o1777])
    def test_not_where_somebody_can(self, file: Path, mode: int) -> None:
        file.parent.chmod(mode)
        assert trust.following(str(file)) == os.O_NOFOLLOW
