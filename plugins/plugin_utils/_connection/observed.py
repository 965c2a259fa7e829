# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A channel that somebody watches."""

from __future__ import annotations

from typing import Callable

from ...module_utils._channels.base import Channel, Exchange, ForwardingChannel, Request


class ObservedChannel(ForwardingChannel):
    """``observe`` gets the name of each command that was answered, and the seconds that took, and no more."""

    def __init__(self, channel: Channel, observe: Callable[[str, float], None]) -> None:
        super().__init__(channel)
        self._observe = observe

    async def call(self, request: Request, timeout: float) -> Exchange:
        exchange = await super().call(request, timeout)
        self._observe(request.execute, (exchange.received_ns - exchange.sent_ns) / 1e9)
        return exchange
