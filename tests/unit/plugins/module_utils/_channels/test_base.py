# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import (
    NO_REPLY,
    Channel,
    Exchange,
    Request,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import (
    Refused,
    Returned,
)

from tests.support.blocking import Blocking


class CountingChannel(Channel):
    def __init__(self) -> None:
        self.closed = 0

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # the contract's
        raise RuntimeError("not asked for")

    async def close(self) -> None:
        self.closed += 1


def test_arguments_may_be_a_function_of_the_moment_of_sending() -> None:
    assert Request("guest-ping").arguments_at(7) == {}
    assert Request("guest-set-time", {"time": 5}).arguments_at(7) == {"time": 5}
    assert Request("guest-set-time", lambda now_ns: {"time": now_ns + 1}).arguments_at(7) == {"time": 8}


def test_the_value_of_an_exchange_is_what_was_returned() -> None:
    assert Exchange(Returned(42), 1, 2).value == 42
    assert Exchange(Refused("GenericError", "no"), 1, 2).value is None
    assert Exchange(NO_REPLY, 1, 1).value == {}


def test_a_channel_is_closed_at_the_end_of_its_block_whatever_happens() -> None:
    with Blocking(CountingChannel()) as channel:
        assert channel.closed == 0
    assert channel.closed == 1
    failing = Blocking(CountingChannel())
    with pytest.raises(RuntimeError, match="not asked for"), failing:
        failing.call(Request("guest-ping"), 1.0)
    assert failing.closed == 1


def test_a_channel_that_others_can_use_as_well_is_not_lent() -> None:
    channel = Blocking(CountingChannel())
    channel.let_go()
    channel.regain(1.0)
    assert channel.closed == 0
