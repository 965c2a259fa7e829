# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The domains of a hypervisor: listing them, and reading the XML of one (docs/formatdomain.html, libvirt 11.3.0)."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping, NamedTuple

from .._errors import HypervisorUnavailableError, NotFoundError, NotRunningError
from .._event_loop.threads import BoundedCaller, StillBusyError
from .._untrusted import visible
from . import numbers
from .connections import Line, known
from .numbers import LISTED_STATES, NO_DOMAIN, NO_STATE, is_running
from .virsh import list_hint, remedy, unmistakable

_STATE_WORDS: Mapping[int, str] = {
    numbers.NO_STATE: "in no known state",
    numbers.PAUSED: "paused",
    numbers.SHUTTING_DOWN: "shutting down",
    numbers.SHUT_OFF: "shut off",
    numbers.CRASHED: "crashed",
    numbers.PM_SUSPENDED: "suspended by its power management",
}


class Domain(NamedTuple):
    """``state`` is a virDomainState."""

    name: str
    uuid: str
    state: int

    @property
    def is_running(self) -> bool:
        return is_running(self.state)


async def list_domains(line: Line, timeout: float) -> tuple[Domain, ...]:
    """Return all domains, running or not.

    :raises QgaError: libvirt cannot be asked
    """
    with contextlib.closing(BoundedCaller()) as caller:
        try:
            return await caller.run(lambda: _list(line), timeout, line.workers())
        except StillBusyError:
            raise HypervisorUnavailableError(f"libvirt at {line.uri} did not answer within {timeout:g} s") from None


def _list(line: Line) -> tuple[Domain, ...]:
    connection = line.connection()
    try:
        return tuple(Domain(each.name(), each.UUIDString(), state) for each, state in with_states(line, connection))
    except line.libvirt.libvirtError as error:
        raise line.connection_error(error) from error


def with_states(line: Line, connection: Any) -> Iterator[tuple[Any, int]]:
    """Yield all domains of the line's ``connection`` as libvirt-python objects, each with its virDomainState.

    This takes four calls for any number of domains; only domains in rare states need one more call each.
    """
    states = {domain.UUIDString(): state for flag, state in LISTED_STATES for domain in connection.listAllDomains(flag)}
    for domain in connection.listAllDomains(0):
        state = states.get(domain.UUIDString(), NO_STATE)
        if state == NO_STATE:
            with contextlib.suppress(line.libvirt.libvirtError):  # the domain has gone since it was listed
                state = domain.state()[0]
        yield domain, state


def not_found(name: str, uri: str) -> NotFoundError:
    return NotFoundError(f"there is no domain '{name}' at {uri}", list_hint(uri))


def gone(name: str, uri: str, reason: str) -> NotFoundError:
    return NotFoundError(f"domain '{name}' at {uri} is gone: {reason}", list_hint(uri))


def not_running(name: str, uri: str, state: int, uuid: str) -> NotRunningError:
    """Return the error for a domain in this virDomainState; its hint has the commands to make the domain run again."""
    return NotRunningError(
        f"domain '{name}' at {uri} is {_STATE_WORDS.get(state, 'not running')}",
        f"{remedy(unmistakable(name, uuid), uri, state)}; an agent answers only while its guest runs.",
    )


def require_running(line: Line, domain: Any, name: str) -> None:
    """Check that an agent in the domain can answer.

    :raises QgaError: the domain is not running or is gone, or libvirt cannot be asked
    """
    try:
        state = domain.state()[0]
    except line.libvirt.libvirtError as error:
        if known(error).get_error_code() == NO_DOMAIN:
            raise gone(name, line.uri, visible(error.get_error_message() or "")) from error
        raise line.connection_error(error) from error
    if not is_running(state):
        raise not_running(name, line.uri, state, domain.UUIDString())


_AGENT_CHANNEL = "org.qemu.guest_agent.0"


class ChannelState(NamedTuple):
    configured: bool
    connected: bool | None  # None: this libvirt does not report it
    resets_reinjection: bool  # the RTC reinjects lost ticks, which has to be reset when the clock is set


def channel_state(domain_xml: str) -> ChannelState:
    """Return the state of the agent's channel from the live XML of a domain."""
    from xml.etree import ElementTree  # rarely needed, and slow to import

    root = ElementTree.fromstring(domain_xml)  # trusted: libvirt generated it, not the guest
    target = root.find(f"./devices/channel/target[@name='{_AGENT_CHANNEL}']")
    state = None if target is None else target.get("state")
    catchup = root.find("./clock/timer[@name='rtc'][@tickpolicy='catchup']")
    return ChannelState(target is not None, None if state is None else state == "connected", catchup is not None)


def macs_of(domain_xml: str) -> tuple[str, ...]:
    """Return the MAC addresses of the domain's network devices, in order.

    Devices on user-mode networks come last: no other host can reach the guest by an address there.
    """
    from xml.etree import ElementTree

    root = ElementTree.fromstring(domain_xml)  # from libvirt, as above
    devices = sorted(root.iterfind("./devices/interface"), key=lambda device: device.get("type") == "user")
    return tuple(mac.get("address", "") for device in devices for mac in device.iterfind("mac"))
