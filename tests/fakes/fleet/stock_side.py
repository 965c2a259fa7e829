# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a stock agent answers: the only one of a stock guest, and the one behind the extended agent of others."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.fakes.agent import _FACTS, SECOND_NS, STOCK, Kind
from tests.fakes.fleet.clock import SimulatedClock
from tests.support.extended_agent import module

_commands: Any = module("_protocol.commands", "guest_agent")
_refusal: Any = module("refusal")
_requests: Any = module("requests")
_stock: Any = module("stock")
_values: Any = module("_protocol.values", "guest_agent")


@dataclass(frozen=True)
class KnownStock:
    """What the in-guest agent's policy and commands ask of its ``stock.Stock``."""

    info: Any
    is_frozen: bool
    is_list_frozen: bool = False

    def answers_on_success(self, command: str) -> bool:
        return bool(_stock.Stock.answers_on_success(self, command))


class StockSide(NamedTuple):
    """``kind``: how it answers. ``known`` and ``policy``: what the extended agent in front of it goes by.

    It holds nothing that changes, so all agents in the same state have one.
    """

    kind: Kind
    known: KnownStock
    policy: Any


@functools.cache
def stock_side(is_frozen: bool) -> StockSide:
    policy = module("policy")
    commands = {name: _stock.StockCommand(True, _commands.answers_on_success(name)) for name in sorted(STOCK.commands)}
    known = KnownStock(_stock.StockInfo(STOCK.version, MappingProxyType(commands)), is_frozen)
    return StockSide(replace(STOCK, is_frozen=is_frozen), known, policy.Policy(policy.Lists(), known))


class Call(NamedTuple):
    kind: Kind
    clock: SimulatedClock
    host_name: str
    arguments: Mapping[str, Any]


def _encoded(value: Any) -> bytes:
    encoded: bytes = _values.encode(value)
    return encoded[:-1]


@functools.cache
def _encoded_info(kind: Kind) -> bytes:
    commands = [
        {"name": name, "enabled": kind.enabled(name), "success-response": _commands.answers_on_success(name)}
        for name in sorted(kind.commands)
    ]
    return _encoded({"version": kind.version, "supported_commands": commands})


def _always(value: Any) -> Callable[[Call], bytes]:
    encoded = _encoded(value)
    return lambda _call: encoded


def _sync(call: Call) -> bytes:
    return b"%d" % call.arguments["id"]


def _get_time(call: Call) -> bytes:
    now_ns = call.clock.now_ns()
    return b"%d" % (now_ns - now_ns % call.kind.read_step_ns)


def _set_time(call: Call) -> bytes:
    """Without a time it comes from the hardware clock, which is right to the second."""
    epoch_ns = call.arguments.get("time", time.time_ns() // SECOND_NS * SECOND_NS)
    call.clock.set_ns(epoch_ns - epoch_ns % call.kind.set_step_ns)
    return b"{}"


_HANDLERS: Mapping[str, Callable[[Call], bytes]] = {
    **{name: _always(value) for name, value in _FACTS.items()},
    "guest-sync": _sync,
    "guest-sync-delimited": _sync,
    "guest-info": lambda call: _encoded_info(call.kind),
    "guest-get-time": _get_time,
    "guest-set-time": _set_time,
    "guest-get-host-name": lambda call: _encoded({"host-name": call.host_name}),
    "guest-fsfreeze-status": lambda call: b'"frozen"' if call.kind.is_frozen else b'"thawed"',
    "guest-shutdown": lambda _call: b"{}",
}


def carry_out(command: str, call: Call) -> bytes:
    """What the command returns, as JSON.

    :raises Refusal: the in-guest agent's; it was not carried out
    """
    if command not in call.kind.commands:
        raise _refusal.not_found(command)
    if not call.kind.enabled(command):
        raise _refusal.disabled(command, _refusal.NOT_ALLOWED)
    if command not in _HANDLERS:
        raise _refusal.Refusal(f"This simulated agent does not do {command}")
    _requests.check_arguments(command, call.arguments)
    return _HANDLERS[command](call)
