# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A channel in front of another one, for those that add something to its calls."""

from __future__ import annotations

from .base import Channel, Exchange, Request


class ForwardingChannel(Channel):
    """Passes everything on to ``channel``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def is_shared(self) -> bool:  # type: ignore[override]  # as the one that it stands for
        return self._channel.is_shared

    @property
    def thaw_hint(self) -> str | None:
        return self._channel.thaw_hint

    def __str__(self) -> str:
        return str(self._channel)

    async def call(self, request: Request, timeout: float) -> Exchange:
        return await self._channel.call(request, timeout)

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        return await self._channel.metadata(namespace, timeout)

    async def macs(self, timeout: float) -> tuple[str, ...]:
        return await self._channel.macs(timeout)

    def pin(self) -> None:
        self._channel.pin()

    async def require_same(self, timeout: float) -> None:
        await self._channel.require_same(timeout)

    async def let_go(self, held: float = 0.0) -> None:
        await self._channel.let_go(held)

    async def regain(self, timeout: float) -> None:
        await self._channel.regain(timeout)

    async def close(self) -> None:
        await self._channel.close()
