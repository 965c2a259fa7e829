# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import run
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.gathering import GATHERED, gathering
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import Attendance, converse

from tests.support.fake_agent import FakeAgent, listen_unix


def test_what_came_of_a_guest_are_its_facts(tmp_path: Path) -> None:
    with FakeAgent(listen_unix(tmp_path / "agent")):
        outcome = run(
            converse(
                lambda: StreamChannel(UnixAddress(str(tmp_path / "agent"))), gathering(["hostname"]), Attendance(5.0)
            )
        )
    assert (outcome.status, outcome.error) == (GATHERED, None)
    assert set(outcome.entry) == {"hostname", "errors"}


def test_a_subset_that_there_is_not_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(InvalidOptionError):
        gathering(["nosuch"])
