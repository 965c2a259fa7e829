"""Combinations of attack, channel, module and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.hostile.attacks import ATTACKS, DETAILS, HONEST, INFO, LIBVIRT, RESYNC, Attack

UNIX = "unix"
# These differ from a unix socket only in the way of connecting.
OTHER_STREAMS = ("tcp", "tcp6", "vsock")

MODULES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    RESYNC: ("qga_update_time", {"attempts": 2, "samples": 8, "tolerance": 0.1}),
    INFO: ("qga_info", {}),
    DETAILS: ("qga_info", {"command": "guest-set-time"}),
}

# Timeouts for agents that use them up, for those that may, and for those that never do.
_SHORTEST_SECONDS = 0.2
_HASTY_SECONDS = 0.5
_PATIENT_SECONDS = 5.0
# Through libvirt, a command has at least one second. In less time, the daemon of a busy machine may not even have
# listed the domains.
_SHORTEST_LIBVIRT_SECONDS = 1.0

# With these, each case through libvirt takes a second or more, and the daemon handles most of them itself.
_SLOW_FAMILIES = ("silent", "endless", "dripping", "syncing")
_EVERY_NTH_SLOW_ONE = 4


@dataclass(frozen=True)
class Round:
    """One attack through one channel."""

    channel: str
    attack: Attack

    def __str__(self) -> str:
        return f"{self.channel}-{self.attack}"

    @property
    def module(self) -> str:
        return MODULES[self.attack.work][0]

    @property
    def options(self) -> dict[str, Any]:
        return {**MODULES[self.attack.work][1], "timeout": self.timeout}

    @property
    def timeout(self) -> float:
        # libvirt fails on much that the reader of a stream accepts.
        if self.attack.is_patient and (self.channel != LIBVIRT or self.attack.family != "harmless"):
            return _PATIENT_SECONDS
        if self.channel == LIBVIRT:
            return _SHORTEST_LIBVIRT_SECONDS
        return _SHORTEST_SECONDS if self.attack.family in _SLOW_FAMILIES else _HASTY_SECONDS


def rounds() -> Iterator[Round]:
    """Yield every attack through a unix socket and nearly all through libvirt. Through the other streams, yield every
    payload at one place and every false reply of one agent.
    """
    for attack in ATTACKS:
        yield Round(UNIX, attack)
    for number, attack in enumerate(ATTACKS):
        if attack.family not in _SLOW_FAMILIES or number % _EVERY_NTH_SLOW_ONE == 0:
            yield Round(LIBVIRT, attack)
    by_payload: dict[tuple[str, str], list[Attack]] = {}
    for attack in ATTACKS:
        if attack.family != "dense":  # its cost does not depend on the channel
            key = str(attack) if attack.family == HONEST else attack.name.rpartition(",")[0] or attack.name
            by_payload.setdefault((attack.family, key), []).append(attack)
    for number, channel in enumerate(OTHER_STREAMS):
        for attacks in by_payload.values():
            yield Round(channel, attacks[(number + len(attacks[0].name)) % len(attacks)])


# ---------------------------------------------------------------------------------------------------------- time limits

# The extra timeout of a step, for hwclock, is shorter in these tests (worker.py).
HWCLOCK_SECONDS = 0.5
_MEASURING_SECONDS = 1.0
_APART_SECONDS = 3.0
_PAUSES_FOR_PROOF = (3.0, 6.0, 12.0, 24.0)
_CLOSING_SECONDS = 0.5
# The commands of all subsets, and the few before them.
_EXCHANGES_FOR_FACTS = 24
# libvirt's timeouts are whole seconds.
_LIBVIRT_OVERTIME = 1.5


def most_seconds(each: Round) -> float:
    """Return the longest time that the options allow, with all timeouts used up (docs/docsite/rst/measuring.rst)."""
    timeout = each.timeout + (_LIBVIRT_OVERTIME if each.channel == LIBVIRT else 0.0)
    look = max(_MEASURING_SECONDS, each.timeout) + timeout
    if each.attack.work != RESYNC:
        return look + _EXCHANGES_FOR_FACTS * timeout + _CLOSING_SECONDS
    step = 2 * timeout + 2 * HWCLOCK_SECONDS + max(timeout, 1.0)
    attempt = step + look + _APART_SECONDS + look
    proof = sum(pause + _MEASURING_SECONDS + timeout for pause in _PAUSES_FOR_PROOF)
    return 2 * timeout + look + each.options["attempts"] * attempt + proof + _CLOSING_SECONDS
