# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which domains a hypervisor has."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import HypervisorUnavailableError
from .bounded import BoundedCaller, StillBusyError
from .hypervisor import Line

# virConnectListAllDomainsFlags, and the virDomainState that each stands for. Asking for the lists takes four calls
# however many domains there are; only those in rarer states are asked for theirs one by one.
_LISTED_STATES = ((16, 1), (32, 3), (64, 5))  # running, paused, shut off
_NO_STATE = 0


class Domain(NamedTuple):
    """``state`` is a virDomainState."""

    name: str
    uuid: str
    state: int

    @property
    def is_running(self) -> bool:
        return self.state == 1


async def list_domains(line: Line, timeout: float) -> tuple[Domain, ...]:
    """All domains, running or not.

    :raises QgaError: libvirt cannot be asked
    """
    caller = BoundedCaller()
    try:
        return await caller.run(lambda: _list(line), timeout, line.workers())
    except StillBusyError:
        raise HypervisorUnavailableError(f"libvirt at {line.uri} did not answer within {timeout:g} s") from None
    finally:
        caller.close()


def _list(line: Line) -> tuple[Domain, ...]:
    connection = line.connection()
    try:
        states = {
            domain.UUIDString(): state for flag, state in _LISTED_STATES for domain in connection.listAllDomains(flag)
        }
        return tuple(
            Domain(domain.name(), domain.UUIDString(), states.get(domain.UUIDString()) or _state(line, domain))
            for domain in connection.listAllDomains(0)
        )
    except line.libvirt.libvirtError as error:
        raise line.connection_error(error) from error


def _state(line: Line, domain: Any) -> int:
    try:
        return int(domain.state()[0])
    except line.libvirt.libvirtError:
        return _NO_STATE  # it has gone since it was listed
