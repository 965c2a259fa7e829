"""Every value in every reply that the modules read, replaced by a value of each JSON type."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.hostile.agent import EXTENDED, STOCK, HostileAgent
from tests.hostile.attacks import DETAILS, INFO, LIBVIRT, RESYNC
from tests.hostile.cases import MODULES, OTHER_STREAMS, UNIX
from tests.hostile.channels import reached
from tests.hostile.checks import general_faults
from tests.hostile.workers import Workers
from tests.hostile.wrong_types import HONEST, Swap, swaps
from tests.support.task_error import task_error

_AT_ONCE = 6
# Replies are read in the same way on every channel. These numbers have no divisor in common with the number of
# strangers, so every stranger is used.
_EVERY_NTH = {UNIX: 1, LIBVIRT: 4, **dict.fromkeys(OTHER_STREAMS, 16)}

# Allowed codes for a wrong value: errors, or the result for another clock or another agent.
_CODES = frozenset(("protocol_error", "not_converged", "command_not_found", "command_disabled"))
_CODES_OF_SYNC = _CODES | {"unresponsive"}


class Reader(NamedTuple):
    """A module and options that use the command, and the kind of agent for which they do."""

    work: str
    kind: str
    options: Mapping[str, Any]

    @property
    def module(self) -> str:
        return MODULES[self.work][0]

    def all_options(self) -> dict[str, Any]:
        return {**MODULES[self.work][1], "timeout": 5.0, **self.options}


def _subset(*names: str, kind: str = EXTENDED) -> Reader:
    return Reader(INFO, kind, {"gather_subset": list(names)})


_RESYNC_STOCK = Reader(RESYNC, STOCK, {})
_RESYNC_EXTENDED = Reader(RESYNC, EXTENDED, {})
_DETAILS = Reader(DETAILS, EXTENDED, {})
# No swap of this is an answer, so each uses up its timeout.
_SYNC = Reader(RESYNC, EXTENDED, {"timeout": 0.05})

READERS: Mapping[str, tuple[Reader, ...]] = {
    "guest-sync-delimited": (_SYNC,),
    "guest-ping": (_RESYNC_STOCK,),
    "guest-info": (_subset("agent", "commands"), _RESYNC_STOCK, _RESYNC_EXTENDED, _DETAILS),
    "guest-get-time": (_subset("time", kind=STOCK), _RESYNC_STOCK),
    "guest-get-clock": (_subset("time"), _RESYNC_EXTENDED),
    "guest-set-time": (_RESYNC_STOCK,),
    "guest-update-time": (_RESYNC_EXTENDED,),
    "guest-get-command-info": (_DETAILS,),
    "guest-get-host-name": (_subset("hostname"),),
    "guest-get-osinfo": (_subset("os"),),
    "guest-get-timezone": (_subset("timezone"),),
    "guest-network-get-interfaces": (_subset("network"),),
    "guest-network-get-route": (_subset("routes"),),
    "guest-get-fsinfo": (_subset("filesystems"),),
    "guest-get-users": (_subset("users"),),
    "guest-get-vcpus": (_subset("vcpus"),),
    "guest-get-memory-blocks": (_subset("memory"),),
    "guest-get-memory-block-info": (_subset("memory"),),
    "guest-get-disks": (_subset("disks"),),
    "guest-get-load": (_subset("load"),),
    "guest-get-cpustats": (_subset("cpu_stats"),),
    "guest-get-diskstats": (_subset("disk_stats"),),
    "guest-fsfreeze-status": (_subset("freeze"),),
}

# libvirt syncs by itself, with another command.
_PAIRS = [
    pytest.param(channel, command, marks=pytest.mark.thorough if channel in OTHER_STREAMS else ())
    for channel in _EVERY_NTH
    for command in READERS
    if (channel, command) != (LIBVIRT, "guest-sync-delimited")
]


def test_each_command_of_the_swaps_has_a_reader() -> None:
    assert READERS.keys() == HONEST.keys()


# It has no divisor in common with the number of strangers, so the selected swaps use every stranger.
_ONE_IN = 7


@pytest.mark.parametrize(
    "is_thorough", [pytest.param(False, id="some"), pytest.param(True, id="the others", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize(("channel", "command"), _PAIRS)
def test_no_value_of_a_wrong_type_is_returned(channel: str, command: str, is_thorough: bool, workers: Workers) -> None:
    for reader in READERS[command]:
        honest = _honest_entry(workers, channel, reader)

        def faults_of(swap: Swap, reader: Reader, honest: Mapping[str, Any]) -> list[str]:
            agent = HostileAgent(swap.play(), reader.kind)
            with reached(agent, channel, reader.module, **reader.all_options()) as case:
                verdict = workers.run(case)
            codes = _CODES_OF_SYNC if command == "guest-sync-delimited" else _CODES
            return [f"{swap}: {fault}" for fault in general_faults(channel, reader.module, verdict, honest, codes)]

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            played = list(swaps(command))[:: _EVERY_NTH[channel]]
            chosen = [swap for number, swap in enumerate(played) if (number % _ONE_IN != 0) is is_thorough]
            found = pool.map(functools.partial(faults_of, reader=reader, honest=honest), chosen)
            assert [fault for faults in found for fault in faults] == []


def _honest_entry(workers: Workers, channel: str, reader: Reader) -> Mapping[str, Any]:
    if reader is _SYNC:
        return {}
    with reached(HostileAgent(kind=reader.kind), channel, reader.module, **reader.all_options()) as case:
        result = workers.run(case).result
    assert result is not None
    assert task_error(result) is None, task_error(result)
    entry: dict[str, Any] = result["guest"]
    return entry
