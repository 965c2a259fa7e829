# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd is told, and when."""

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.tests.support.resync_service import module

state = module("state")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(state, "notify", said.append)
    return said


def test_it_is_ready_once_all_hypervisors_have_been_heard_of(told: list[str]) -> None:
    made = state.State(["a", "b"])
    made.set_connected("a", True)
    assert told == ["STATUS=watching 1 of 2 hypervisors"]
    made.set_connected("a", False)
    made.set_connected("b", False)
    assert told[1:] == ["STATUS=watching 0 of 2 hypervisors", "STATUS=watching 0 of 2 hypervisors", "READY=1"]
    made.set_connected("b", True)
    made.end()
    assert told[4:] == ["STATUS=watching 1 of 2 hypervisors", "STOPPING=1"]


def test_a_hypervisor_that_does_not_even_refuse_is_not_waited_for_for_ever(told: list[str]) -> None:
    made = state.State(["a"])
    waiting = made.be_ready_in_the_end()
    waiting.send(None)
    assert told == []
    with pytest.raises(StopIteration):
        waiting.send(None)
    made.set_connected("a", True)
    assert told == ["READY=1", "STATUS=watching 1 of 1 hypervisors"]


def test_it_lives_for_as_long_as_it_is_asked_to_go_on(told: list[str]) -> None:
    waiting = state.be_alive(15.0)
    for _time in range(3):
        waiting.send(None)
    waiting.close()
    assert told == ["WATCHDOG=1"] * 3
