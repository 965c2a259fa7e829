# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about a guest: the subsets, their agent commands, and gathering them.

The guest is not trusted: a fact has the shape of its command's reply (:mod:`shapes`), and the size of all facts of one
guest is limited. An error while a subset is gathered has one of these effects:

==============================================  ======================================================================
error                                           effect
==============================================  ======================================================================
the deadline passed, or libvirt is unavailable  raised: it may be another guest's doing, and all is asked again
the command was refused before the agent has    raised: the agent refuses what every connection to it begins with
answered anything
of this command: refused, timed out, or a       an entry in ``errors``; the next subset is gathered
reply that has not its shape, or is too large
any other (the agent is gone), without facts    raised
any other, with facts from before               an entry in ``errors`` for this and all later subsets, which are not
                                                asked for one by one
==============================================  ======================================================================
"""

from __future__ import annotations

import time
from typing import Any, Awaitable, Callable, Iterable, Mapping, NamedTuple

from .._agent import GuestAgent
from .._errors import CommandError, DeadlineError, ExchangeTimeoutError, HypervisorUnavailableError, InvalidOptionError
from .._fleet.results import GuestResult, Work
from .._protocol.errors import QgaError, RemoteProtocolError
from .._protocol.values import encode
from .._untrusted import visible
from .shapes import facts_of

# For all facts of one guest: the number of values, since the smallest takes forty times as much memory as it has bytes
# in JSON; and those bytes.
_MOST_VALUES = 32 * 1024
_MOST_BYTES = 2 * 1024 * 1024

_TIME_SAMPLES = 8


_Gather = Callable[[GuestAgent], Awaitable[Any]]


def _ask(command: str) -> _Gather:
    async def gather(agent: GuestAgent) -> Any:
        return facts_of(command, await agent.call(command))

    return gather


async def _host_name(agent: GuestAgent) -> str:
    name = (await _ask("guest-get-host-name")(agent)).get("host_name")
    if not isinstance(name, str):
        raise RemoteProtocolError("the agent returned no host-name from guest-get-host-name")
    return name


async def _agent(agent: GuestAgent) -> dict[str, Any]:
    info = await agent.info()
    return {
        "version": visible(info.version),
        "kind": "extended" if info.is_extended else "stock",
        "command_count": len(info.commands),
    }


async def _commands(agent: GuestAgent) -> list[dict[str, Any]]:
    return [
        {"name": visible(name), "enabled": state.enabled, "success_response": state.success_response}
        for name, state in sorted((await agent.info()).commands.items())
    ]


async def _time(agent: GuestAgent) -> dict[str, Any]:
    # Only this subset measures; the others need not load these modules.
    from .._clock.figures import with_twins
    from .._clock.measuring import measure, reader
    from .._clock.reference import HostReference

    longest_ns = round(max(1.0, agent.timeout) * 1_000_000_000)
    measurement = await measure(await reader(agent), _TIME_SAMPLES, longest_ns=longest_ns)
    interval = measurement.interval.shifted(-HostReference().base_ns())
    facts: dict[str, Any] = {
        "guest_time_ns": time.monotonic_ns() + measurement.interval.middle,
        "offset_ns": interval.middle,
        "uncertainty_ns": interval.half_width,
        "round_trip_ns": measurement.round_trip_ns,
        "resolution_ns": measurement.resolution_ns,
    }
    if await agent.knows("guest-get-clock"):
        clock = await _ask("guest-get-clock")(agent)
        facts.update((name, clock.get(name)) for name in ("synchronized", "source", "slewable"))
        facts.update((f"{name}_ns", clock.get(name)) for name in ("max_error", "slewing"))
    return with_twins(facts)


async def _network(agent: GuestAgent) -> list[dict[str, Any]]:
    interfaces = await _ask("guest-network-get-interfaces")(agent)
    # The agent leaves it out for an interface without addresses.
    return [{"ip_addresses": [], **interface} for interface in interfaces]


async def _users(agent: GuestAgent) -> list[dict[str, Any]]:
    users: list[dict[str, Any]] = await _ask("guest-get-users")(agent)
    for user in users:
        if "login_time" in user:
            user["logged_in_at"] = _instant(user["login_time"])
    return users


def _instant(seconds: float) -> str:
    from .._clock.timestamps import SECOND_NS, format_instant

    whole, fraction = divmod(seconds, 1)
    # The agent has microseconds (qga/commands-posix.c, QEMU 10.0.13), and a float of these years has no more digits.
    return format_instant(int(whole) * SECOND_NS + round(fraction * 1_000_000) * 1_000)


async def _memory(agent: GuestAgent) -> dict[str, Any]:
    info = await _ask("guest-get-memory-block-info")(agent)
    blocks = await _ask("guest-get-memory-blocks")(agent)
    online = sum(1 for block in blocks if block.get("online") is True)
    return {"block_size": info.get("size"), "blocks": len(blocks), "online_blocks": online}


class Subset(NamedTuple):
    name: str
    gather: _Gather
    in_min: bool = False


SUBSETS: tuple[Subset, ...] = (
    Subset("agent", _agent, in_min=True),
    Subset("hostname", _host_name, in_min=True),
    Subset("os", _ask("guest-get-osinfo"), in_min=True),
    Subset("timezone", _ask("guest-get-timezone"), in_min=True),
    Subset("commands", _commands),
    Subset("time", _time),
    Subset("network", _network),
    Subset("routes", _ask("guest-network-get-route")),
    Subset("filesystems", _ask("guest-get-fsinfo")),
    Subset("users", _users),
    Subset("vcpus", _ask("guest-get-vcpus")),
    Subset("memory", _memory),
    Subset("disks", _ask("guest-get-disks")),
    Subset("load", _ask("guest-get-load")),
    Subset("cpu_stats", _ask("guest-get-cpustats")),
    Subset("disk_stats", _ask("guest-get-diskstats")),
    Subset("freeze", _ask("guest-fsfreeze-status")),
)

_GROUPS: Mapping[str, frozenset[str]] = {
    "all": frozenset(subset.name for subset in SUBSETS),
    "min": frozenset(subset.name for subset in SUBSETS if subset.in_min),
    **{subset.name: frozenset((subset.name,)) for subset in SUBSETS},
}

SUBSET_NAMES: tuple[str, ...] = tuple(_GROUPS)


def select(gather_subset: Iterable[str]) -> tuple[Subset, ...]:
    """Return the named subsets without those with ``!``. If there are only such, they are taken from all.

    :raises InvalidOptionError: a name is unknown
    """
    names = list(gather_subset)
    unknown = sorted(name for name in names if name.lstrip("!") not in _GROUPS or name.startswith("!!"))
    if unknown:
        named = ", ".join(f"'{name}'" for name in unknown)
        raise InvalidOptionError(
            f"gather_subset has unknown names: {named}",
            f"Choose from {', '.join(SUBSET_NAMES)}, each with or without a leading '!'.",
        )
    positive = [name for name in names if not name.startswith("!")] or ["all"]
    wanted = {each for name in positive for each in _GROUPS[name]}
    unwanted = {each for name in names if name.startswith("!") for each in _GROUPS[name[1:]]}
    return tuple(subset for subset in SUBSETS if subset.name in wanted - unwanted)


GATHERED = "gathered"


def gathering(gather_subset: Iterable[str]) -> Work:
    """Return the work that gathers these facts of a guest.

    :raises InvalidOptionError: there is no subset of such a name
    """
    subsets = select(gather_subset)

    async def work(agent: GuestAgent) -> GuestResult:
        return GuestResult(await gather(agent, subsets), GATHERED)

    return work


# Errors of one command; the agent answers others all the same.
_OF_ONE_COMMAND = (CommandError, RemoteProtocolError, ExchangeTimeoutError)


async def gather(agent: GuestAgent, subsets: Iterable[Subset]) -> dict[str, Any]:
    """Return the facts by subset name; ``errors`` has the errors of subsets that could not be gathered.

    :raises QgaError: the agent could not be asked for anything, or the deadline passed
    """
    facts: dict[str, Any] = {}
    errors: dict[str, dict[str, str]] = {}
    gone: QgaError | None = None
    values_left, bytes_left = _MOST_VALUES, _MOST_BYTES
    for subset in subsets:
        if gone is not None:
            errors[subset.name] = gone.as_dict()
            continue
        try:
            gathered = await subset.gather(agent)
            values, size = _count(gathered), len(encode(gathered))
            if values > values_left or size > bytes_left:
                raise RemoteProtocolError(
                    f"the agent returned more than {_MOST_VALUES} values or {_MOST_BYTES} bytes in all"
                )
            values_left, bytes_left = values_left - values, bytes_left - size
            facts[subset.name] = gathered
        except (DeadlineError, HypervisorUnavailableError):
            raise
        except _OF_ONE_COMMAND as error:
            if isinstance(error, CommandError) and not agent.has_answered:
                raise
            errors[subset.name] = error.as_dict()
        except QgaError as error:
            if not facts:
                raise
            gone = error
            errors[subset.name] = error.as_dict()
    facts["errors"] = errors
    return facts


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1
