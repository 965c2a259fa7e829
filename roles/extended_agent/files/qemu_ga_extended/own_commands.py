# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that this agent answers itself, whatever state the stock agent is in."""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, NamedTuple

from guest_agent._linux.timex import MOST_SLEWED_NS, slew_duration_ns
from guest_agent._protocol import values
from guest_agent._protocol.commands import CATALOG

from . import VERSION, requests
from .clock import SECOND_NS, KernelClock
from .policy import EXTENDED, OWN_COMMANDS, Policy
from .refusal import FAILURES, Refusal, not_found, reason_of
from .stock import Stock

# Years 1970 to 2261: the last full year that fits in 64 bits of nanoseconds.
_TIMES_NS = range(9_214_646_400 * SECOND_NS)
_NANOSECONDS = range(SECOND_NS)
_DECIMAL = re.compile(r"[0-9]{1,9}")


class Context(NamedTuple):
    """The parts that commands use. ``update_rtc`` returns why the hardware clock was not set, or None if it was."""

    clock: KernelClock
    stock: Stock
    policy: Policy
    update_rtc: Callable[[], str | None]


class Call(NamedTuple):
    """One command with checked arguments, and the guest's time at which it was received."""

    context: Context
    arguments: Mapping[str, Any]
    received_ns: int


def _get_clock(call: Call) -> bytes:
    clock = call.context.clock
    synchronized, max_error_ns, slewing_ns, is_disciplined = clock.discipline()
    # The readings bound the host's measurement, so only this line runs between the last reading and the reply.
    return (
        b'{"synchronized": %b, "max-error": %d, "slewing": %d, "slewable": %b, "received": %d, "transmitted": %d}'
    ) % (
        b"true" if synchronized else b"false",
        max_error_ns,
        slewing_ns,
        b"false" if is_disciplined else b"true",
        call.received_ns,
        clock.now_ns(),
    )


def _nanoseconds(given: Any) -> int:
    if isinstance(given, str):
        if not _DECIMAL.fullmatch(given):
            raise Refusal("Parameter 'nanoseconds' expects a decimal number from 0 to 999999999")
        given = int(given)
    if given not in _NANOSECONDS:
        raise Refusal("Parameter 'nanoseconds' expects a number from 0 to 999999999")
    return int(given)


def _update_time(call: Call) -> dict[str, Any]:
    clock, arguments = call.context.clock, call.arguments
    amount_ns = arguments["seconds"] * SECOND_NS + _nanoseconds(arguments.get("nanoseconds", 0))
    is_relative, is_slew = arguments.get("relative", False), arguments.get("slew", False)
    if is_slew:
        _check_slew(clock, arguments, amount_ns)
    before_ns = clock.now_ns()
    if (before_ns + amount_ns if is_relative else amount_ns) not in _TIMES_NS:
        raise Refusal("The resulting time is not within the years 1970 to 2261")
    try:
        if is_slew:
            clock.slew_ns(amount_ns)
        elif is_relative:
            clock.shift_ns(amount_ns)
        else:
            clock.set_ns(amount_ns)
    except PermissionError as error:
        raise Refusal("The clock was not set: this agent lacks the capability CAP_SYS_TIME") from error
    except (*FAILURES, OverflowError) as error:
        raise Refusal(f"The clock was not set: {reason_of(error)}") from error
    returned: dict[str, Any] = {"before": before_ns, "after": clock.now_ns()}
    if is_slew:
        returned["duration"] = slew_duration_ns(amount_ns)
    if arguments.get("rtc", False):
        # The system clock has changed by now, so the reply reports success even if this fails.
        try:
            problem = call.context.update_rtc()
        except FAILURES as error:
            problem = f"the hardware clock was not set: {reason_of(error)}"
        if problem is not None:
            returned["rtc-error"] = problem
    return returned


def _check_slew(clock: KernelClock, arguments: Mapping[str, Any], delta_ns: int) -> None:
    """
    :raises Refusal: the clock cannot be slewed like that
    """
    if not arguments.get("relative", False):
        raise Refusal("Parameter 'slew' expects 'relative'")
    if arguments.get("rtc", False):
        raise Refusal("Parameter 'slew' excludes 'rtc'")  # the clock has the time to write only at the end of the slew
    if abs(delta_ns) > MOST_SLEWED_NS:
        raise Refusal("Parameter 'slew' expects a difference of half a second at most")
    if clock.discipline().is_disciplined:
        raise Refusal("The clock was not slewed: another time service disciplines it")


def _names(stock: Stock) -> list[str]:
    """Return the stock agent's commands in its order, then those that only this agent has."""
    known = list(stock.info.commands) if stock.info is not None else []
    return known + sorted(OWN_COMMANDS.difference(known))


def _listing(context: Context, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "enabled": context.policy.is_enabled(name),
        "success-response": context.stock.answers_on_success(name),
    }


def _info(call: Call) -> dict[str, Any]:
    stock = call.context.stock
    return {
        # Stock clients compare it with QEMU's versions, so it must not change. They ignore unknown members, so this
        # agent's version has its own.
        "version": stock.info.version if stock.info is not None else VERSION,
        "extended-version": VERSION,
        "supported_commands": [_listing(call.context, name) for name in _names(stock)],
    }


def _get_command_info(call: Call) -> dict[str, Any]:
    name: str = call.arguments["name"]
    if name not in _names(call.context.stock):
        raise not_found(name)
    known = CATALOG.get(name)
    return {
        **_listing(call.context, name),
        # A stock agent newer than the catalog has commands of which no more is known.
        "since": known.since if known else "",
        "description": known.description if known else "",
        "arguments": [
            {"name": argument.name, "type": argument.type, "optional": argument.optional}
            for argument in (known.arguments if known else ())
        ],
        "returns": known.returns if known else "",
        "origin": "extended" if name in EXTENDED else "stock",
    }


# Each returns its value, or the encoded bytes where encoding would take too long.
_COMMANDS: Mapping[str, Callable[[Call], Any]] = {
    "guest-sync": lambda call: call.arguments["id"],
    "guest-sync-delimited": lambda call: call.arguments["id"],
    "guest-ping": lambda _call: {},
    "guest-info": _info,
    "guest-get-time": lambda call: call.context.clock.now_ns(),
    "guest-get-clock": _get_clock,
    "guest-update-time": _update_time,
    "guest-get-command-info": _get_command_info,
}


def carry_out(context: Context, command: str, arguments: Mapping[str, Any], received_ns: int) -> bytes:
    """Run a command, and return its value as JSON.

    :raises Refusal: it was not run
    """
    requests.check_arguments(command, arguments)
    try:
        returned = _COMMANDS[command](Call(context, arguments, received_ns))
        return returned if isinstance(returned, bytes) else values.encode(returned)[:-1]
    except FAILURES as error:
        raise Refusal(f"{command} failed: {reason_of(error)}") from error
