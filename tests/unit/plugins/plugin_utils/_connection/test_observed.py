# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotConnectedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.observed import ObservedChannel

from tests.support.this_machine import ThisMachine, undelivered


def test_who_watches_is_told_what_was_answered_and_how_long_it_took() -> None:
    told: list[tuple[str, float]] = []
    channel = ObservedChannel(ThisMachine(), lambda name, seconds: told.append((name, seconds)))
    tasks.run(channel.call(Request("guest-ping"), 5.0))
    ((name, seconds),) = told
    assert name == "guest-ping"
    assert 0 <= seconds < 5.0


def test_what_was_not_answered_is_not_told_of() -> None:
    channel = ObservedChannel(ThisMachine({("guest-ping", 0): undelivered}), pytest.fail)
    with pytest.raises(NotConnectedError):
        tasks.run(channel.call(Request("guest-ping"), 5.0))
