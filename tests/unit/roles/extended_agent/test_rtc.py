# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hardware clock's child process, with actions that touch no hardware."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.tests.support.extended_agent import module

rtc = module("rtc")


def fail() -> None:
    raise FileNotFoundError(2, "No such file or directory", "/dev/rtc")


def test_what_went_well_is_no_problem() -> None:
    assert rtc.update(lambda: None) is None


def test_the_reason_comes_back() -> None:
    assert rtc.update(fail) == "the hardware clock was not set: No such file or directory"


def test_a_child_that_dies_is_reported() -> None:
    assert rtc.update(lambda: os._exit(3)) == "setting the hardware clock ended without a result"


def test_a_hardware_clock_that_hangs_costs_no_more_than_its_time() -> None:
    began = time.monotonic()
    assert rtc.update(lambda: time.sleep(60), seconds=0.2) == "the hardware clock did not answer within 0.2 s"
    assert time.monotonic() - began < 2


def test_the_nearest_second_is_what_is_written() -> None:
    year_2026 = 1_767_225_600 * 10**9
    assert struct.unpack("9i", rtc.packed(year_2026 - 500_000_000))[:6] == (0, 0, 0, 1, 0, 126)
    assert struct.unpack("9i", rtc.packed(year_2026 - 500_000_001))[:6] == (59, 59, 23, 31, 11, 125)


@pytest.mark.parametrize(("text", "is_local"), [("0.0 0 0.0\n0\nUTC\n", False), ("0.0 0 0.0\n0\nLOCAL\n", True)])
def test_adjtime_tells_local_time_from_utc(tmp_path: Path, text: str, is_local: bool) -> None:
    (tmp_path / "adjtime").write_text(text)
    assert rtc.keeps_local_time(str(tmp_path / "adjtime")) is is_local
    assert not rtc.keeps_local_time(str(tmp_path / "none"))
