# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import waiting
from ansible_collections.qemu.guest_agent.plugins.module_utils.channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils.channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils.channels.observed import ObservedChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils.channels.stream import StreamChannel, UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils.errors import NotConnectedError

from tests.support.fake_agent import FakeAgent, listen_unix
from tests.support.this_machine import ThisMachine, undelivered


def test_who_watches_is_told_what_was_answered_and_how_long_it_took() -> None:
    told: list[tuple[str, float]] = []
    channel = ObservedChannel(ThisMachine(), lambda name, seconds: told.append((name, seconds)))
    waiting.run(channel.call(Request("guest-ping"), 5.0))
    ((name, seconds),) = told
    assert name == "guest-ping"
    assert 0 <= seconds < 5.0


def test_what_was_not_answered_is_not_told_of() -> None:
    channel = ObservedChannel(ThisMachine({("guest-ping", 0): undelivered}), pytest.fail)
    with pytest.raises(NotConnectedError):
        waiting.run(channel.call(Request("guest-ping"), 5.0))


def test_it_lets_go_of_what_it_watches() -> None:
    machine = ThisMachine()
    waiting.run(ObservedChannel(machine, pytest.fail).let_go())
    assert machine.let_gos == 1


def test_it_closes_what_it_watches() -> None:
    machine = ThisMachine()
    waiting.run(ObservedChannel(machine, pytest.fail).close())
    assert machine.is_closed


def test_what_thaws_its_guest_is_said_by_what_it_watches() -> None:
    assert ObservedChannel(ThisMachine(), pytest.fail).thaw_hint is None
    watched = LibvirtChannel("my web", "test:///default")
    assert ObservedChannel(watched, pytest.fail).thaw_hint == watched.thaw_hint


def test_it_lends_what_it_watches(tmp_path: Path) -> None:
    with FakeAgent(listen_unix(tmp_path / "agent.sock")) as agent:
        watched = StreamChannel(UnixAddress(str(tmp_path / "agent.sock")))
        channel = ObservedChannel(watched, lambda _name, _seconds: None)
        waiting.run(channel.call(Request("guest-ping"), 5.0))
        waiting.run(channel.let_go())
        assert watched._socket is None
        waiting.run(channel.regain(5.0))
        assert agent.connections == 2
        waiting.run(channel.close())
