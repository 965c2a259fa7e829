# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that somebody may read at any time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.tests.support.resync_service import module

textfile = module("textfile")


def test_it_is_there_whole_for_all_to_read_and_nothing_else_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        textfile.write(str(tmp_path / "qga.prom"), "one\n")
        textfile.write(str(tmp_path / "qga.prom"), "two\n")
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
        textfile.write(str(path), text)
        assert stat.S_IMODE(path.stat().st_mode) == kept


def test_who_has_it_open_reads_the_old_one_to_its_end(tmp_path: Path) -> None:
    textfile.write(str(tmp_path / "qga.prom"), "one\n")
    with (tmp_path / "qga.prom").open() as reader:
        textfile.write(str(tmp_path / "qga.prom"), "two\n")
        assert reader.read() == "one\n"


def test_what_is_left_of_one_that_was_killed_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine\n")
    (tmp_path / ".qga.prom.new").symlink_to(tmp_path / "victim")
    textfile.write(str(tmp_path / "qga.prom"), "one\n")
    assert (tmp_path / "victim").read_text() == "mine\n"
    assert sorted(os.listdir(tmp_path)) == ["qga.prom", "victim"]


def test_one_that_cannot_be_put_there_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "qga.prom").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        textfile.write(str(tmp_path / "qga.prom"), "one\n")
    assert os.listdir(tmp_path) == ["qga.prom"]
    with pytest.raises(FileNotFoundError):
        textfile.write(str(tmp_path / "none" / "qga.prom"), "one\n")
