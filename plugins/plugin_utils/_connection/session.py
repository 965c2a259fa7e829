# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A session with one guest, for commands and file copies: its channel, its agent and its shell."""

from __future__ import annotations

import contextlib
from typing import BinaryIO, Callable, TypeVar

from ...module_utils._agent import GuestAgent
from ...module_utils._channels.base import Channel, Exchange, ForwardingChannel, Request
from ...module_utils._errors import CommandDisabledError, CommandError, CommandFailedError
from ...module_utils._event_loop.tasks import Task
from ...module_utils._protocol.errors import QgaError
from .become import Dialog
from .options import Settings
from .results import Finished
from .shell import GuestShell
from .transfer import fetch, put, source_of

Result = TypeVar("Result")

NEEDED = (
    "guest-exec",
    "guest-exec-status",
    "guest-file-open",
    "guest-file-close",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-write",
)

_DISABLED_HINT = (
    "Allow them inside the guest and restart its agent: in /etc/sysconfig/qemu-ga remove them from BLACKLIST_RPC or "
    "BLOCK_RPCS, or add them to --allow-rpcs in FILTER_RPC_ARGS, whichever is there. Without that file, see block-rpcs "
    "and allow-rpcs in /etc/qemu/qemu-ga.conf."
)

_WINDOWS_ID = "mswindows"  # guest-get-osinfo (qga/qapi-schema.json, QEMU 10.0.13)
_WINDOWS_HINT = "Use WinRM or SSH: ansible.builtin.winrm, ansible.builtin.psrp or ansible.builtin.ssh."


class _ObservedChannel(ForwardingChannel):
    def __init__(self, channel: Channel, observe: Callable[[str, float], None]) -> None:
        super().__init__(channel)
        self._observe = observe

    async def call(self, request: Request, timeout: float) -> Exchange:
        exchange = await super().call(request, timeout)
        self._observe(request.execute, (exchange.received_ns - exchange.sent_ns) / 1e9)
        return exchange


class GuestSession:
    """``observe`` gets the name of each agent command that got a reply, and its duration in seconds."""

    def __init__(self, settings: Settings, observe: Callable[[str, float], None]) -> None:
        self._channel: Channel = _ObservedChannel(settings.target.open(), observe)
        self._patience = max(settings.timeout, settings.limits.patience)
        self._agent = GuestAgent(self._channel, settings.timeout, settings.limits.patience)
        self._shell = GuestShell(self._agent, settings)

    async def connect(self) -> None:
        """
        :raises QgaError: the agent does not reply
        """
        with contextlib.suppress(CommandError):  # a refusal is a reply
            await self._agent.call("guest-ping")

    async def run(self, command: str, data: bytes = b"", dialog: Dialog | None = None) -> Finished:
        """
        :raises QgaError: as :meth:`GuestShell.run` does
        """
        return await self._allowed(self._shell.run, command, data, dialog)

    async def put(self, file: BinaryIO, path: str) -> int:
        """Copy ``file`` to ``path`` in the guest, and return its size in bytes.

        :raises QgaError: as :func:`put` does
        """
        source = source_of(file)
        await self._allowed(put, self._shell, source, path)
        return source.size

    async def fetch(self, path: str, target: BinaryIO) -> None:
        """Copy the file ``path`` in the guest to ``target``.

        :raises QgaError: as :func:`fetch` does
        """
        await self._allowed(fetch, self._shell, path, target)

    async def let_go(self) -> None:
        """Release the agent for other clients until it is needed; see :meth:`Channel.let_go`."""
        await self._channel.let_go()

    async def close(self) -> None:
        """Remove the connection's files in the guest, if the agent replies, and close the channel."""
        try:
            with contextlib.suppress(QgaError):
                await self._channel.regain(self._patience)
                await self._shell.clean()
        finally:
            await self._channel.close()

    async def _allowed(self, work: Callable[..., Task[Result]], *arguments: object) -> Result:
        """Regain the agent, and do the work.

        :raises CommandDisabledError: with all needed commands that are disabled, not only the first one
        :raises CommandFailedError: also if the guest runs Windows, which has no shell for the scripts
        """
        await self._channel.regain(self._patience)
        try:
            return await work(*arguments)
        except CommandFailedError as error:
            osinfo = None
            with contextlib.suppress(QgaError):
                osinfo = await self._agent.call("guest-get-osinfo")
            if isinstance(osinfo, dict) and osinfo.get("id") == _WINDOWS_ID:
                raise CommandFailedError(
                    "the guest runs Windows, where this connection cannot run tasks", _WINDOWS_HINT, error.command
                ) from None
            raise
        except CommandDisabledError as error:
            disabled = [error.command]
            with contextlib.suppress(QgaError):
                info = await self._agent.info()
                disabled = [name for name in NEEDED if not info.enabled(name)] or disabled
            raise CommandDisabledError(
                "the guest's administrator has disabled {}, which this connection needs".format(", ".join(disabled)),
                _DISABLED_HINT,
                error.command,
            ) from None
