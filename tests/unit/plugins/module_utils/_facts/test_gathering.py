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
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import GATHERED, gathering
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import RunOptions, with_agent

from tests.support.fake_agent import FakeAgent, listen_unix


def test_the_result_of_a_guest_is_its_facts(tmp_path: Path) -> None:
    with FakeAgent(listen_unix(tmp_path / "agent")):
        result = run(
            with_agent(
                lambda: StreamChannel(UnixAddress(str(tmp_path / "agent"))), gathering(["hostname"]), RunOptions(5.0)
            )
        )
    assert (result.status, result.error) == (GATHERED, None)
    assert set(result.entry) == {"hostname", "errors"}


def test_a_subset_that_there_is_not_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(InvalidOptionError):
        gathering(["nosuch"])
