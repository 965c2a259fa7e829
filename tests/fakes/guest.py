# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that is computed: its clock, its agent and the way to it, on a time line that only the tests move.

Nothing here sleeps and nothing is random, so what a test measures can be compared with what is true.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import (
    offsets,
    options,
    reference,
    resync,
    stepping,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import ExchangeTimeoutError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import multiplexer, tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import subsets
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned

from tests.fakes.slewing import Slew, refusal

if TYPE_CHECKING:
    import pytest

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000

# 2026-11-23T04:05:06Z and a bit, and a host that has been up for a while. Round ones would look like a coarse clock.
REALTIME_NS = 1_795_406_706_123_456_789
MONOTONIC_NS = 5_000_000_777_001

_READERS_OF_TIME: tuple[ModuleType, ...] = (subsets, multiplexer, offsets, options, resync, stepping, tasks)


class TimeLine:
    """The host's clocks, with the names of the module ``time``. ``now_ns`` is the monotonic one."""

    def __init__(self) -> None:
        self.now_ns = MONOTONIC_NS
        self.realtime_base_ns = REALTIME_NS - MONOTONIC_NS
        self.slept: list[float] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / SECOND

    def time_ns(self) -> int:
        return self.now_ns + self.realtime_base_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 9))  # waiting computes it from two readings, which are as fine as that
        self.now_ns += round(seconds * SECOND)

    def step_host(self, by_ns: int) -> None:
        self.realtime_base_ns += by_ns

    def reference(self, utc_offset_ns: int = 0) -> HostReference:
        return HostReference(utc_offset_ns, self.time_ns, self.monotonic_ns)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the code under test read this line in place of the machine's clocks."""
        for module in _READERS_OF_TIME:
            monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(multiplexer, "select", SimpleNamespace(epoll=lambda: _Epoll(self)))
        monkeypatch.setattr(options, "HostReference", self.reference)
        monkeypatch.setattr(reference, "HostReference", self.reference)


class _Epoll:
    """``select.epoll`` on a time line: what is not ready at once does not become so by waiting."""

    def __init__(self, line: TimeLine) -> None:
        self._line = line
        self._epoll = select.epoll()
        self.register, self.modify, self.close = self._epoll.register, self._epoll.modify, self._epoll.close

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        ready = self._epoll.poll(0)
        if not ready and seconds > 0:
            self._line.sleep(max(seconds, 1 / SECOND))  # less than a nanosecond would never pass
        return ready


class GuestClock:
    """``ahead_ns`` is guest minus host realtime at the start, ``drift_ppb`` what it gains in parts per billion."""

    def __init__(self, line: TimeLine, ahead_ns: int = 0, drift_ppb: int = 0, tick_ns: int = 1) -> None:
        self._line = line
        self.drift_ppb = drift_ppb
        self.tick_ns = tick_ns
        self.set(line.time_ns() + ahead_ns)

    def set(self, value_ns: int) -> None:
        """Step it, which ends a slew."""
        self._since_ns = self._line.now_ns
        self._value_ns = value_ns
        self._slew = Slew()

    def add(self, delta_ns: int) -> None:
        self.set(self.true_ns() + delta_ns)

    def slew(self, delta_ns: int) -> None:
        self.add(0)
        self._slew = Slew(delta_ns, self._line.now_ns)

    @property
    def slewing_ns(self) -> int:
        return self._slew.left_ns(self._line.now_ns)

    def true_ns(self) -> int:
        elapsed_ns = self._line.now_ns - self._since_ns
        drifted_ns = elapsed_ns * self.drift_ppb // SECOND
        return self._value_ns + elapsed_ns + drifted_ns + self._slew.done_ns(self._line.now_ns)

    def read(self) -> int:
        """What a program in the guest gets: cut to the clock's tick."""
        return self.true_ns() // self.tick_ns * self.tick_ns

    def offset_ns(self) -> int:
        """The truth: guest minus host, now."""
        return self.true_ns() - self._line.time_ns()


Handler = Callable[[Mapping[str, Any]], Reply]
Delays = Callable[[str], tuple[int, int]]

STOCK_COMMANDS = ("guest-ping", "guest-info", "guest-get-time", "guest-set-time", "guest-fsfreeze-status")
EXTENDED_COMMANDS = (*STOCK_COMMANDS, "guest-get-clock", "guest-update-time", "guest-get-command-info")


def not_found(name: str) -> Refused:
    return Refused("CommandNotFound", f"The command {name} has not been found")


def disabled(name: str) -> Refused:
    return Refused("CommandNotFound", f"Command {name} has been disabled: the command is not allowed")


def failed(why: str) -> Refused:
    return Refused("GenericError", why)


def never(_command: str) -> tuple[int, int]:
    raise AssertionError("this test expects no exchange")


class SimulatedGuest(Channel):
    """The guest and the channel to it. ``handlers`` may be replaced, ``requests`` keeps what arrived and when."""

    def __init__(
        self,
        line: TimeLine,
        clock: GuestClock | None = None,
        commands: Iterable[str] = STOCK_COMMANDS,
        delays: Delays = lambda _command: (300_137, 200_219),
    ) -> None:
        self.line = line
        self.clock = clock or GuestClock(line)
        self.commands = {name: {"name": name, "enabled": True, "success-response": True} for name in commands}
        self.delays = delays
        self.hwclock_ns = SECOND  # how long guest-set-time takes behind the setting
        self.rtc_ahead_ns = 0  # the hardware clock against the host
        self.slews = True  # the extended agent of the first days does not
        self.is_disciplined = False  # by a time service
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.timeouts: list[float] = []
        self.expected_replies: list[bool] = []
        self.closed = 0
        self.let_gos = 0
        self.handlers: dict[str, Handler] = {
            "guest-ping": lambda _arguments: Returned({}),
            "guest-info": lambda _arguments: Returned(
                {"version": "10.0.13", "supported_commands": list(self.commands.values())}
            ),
            "guest-get-time": lambda _arguments: Returned(self.clock.read() // MICROSECOND * MICROSECOND),
            "guest-set-time": self.set_time,
            "guest-fsfreeze-status": lambda _arguments: Returned("thawed"),
            "guest-get-clock": self.get_clock,
            "guest-update-time": self.update_time,
        }

    async def call(self, request: Request, timeout: float) -> Exchange:
        command = request.execute
        forward_ns, backward_ns = self.delays(command)
        sent_ns = self.line.now_ns
        arguments = dict(request.arguments_at(sent_ns))
        self.requests.append((command, arguments))
        self.timeouts.append(timeout)
        self.expected_replies.append(request.expects_reply)
        self.line.now_ns += forward_ns
        handler = self.handlers.get(command)
        reply = not_found(command) if handler is None or command not in self.commands else handler(arguments)
        self.line.now_ns += backward_ns
        return Exchange(reply, sent_ns, self.line.now_ns)

    async def let_go(self) -> None:
        self.let_gos += 1

    async def close(self) -> None:
        self.closed += 1

    def asked(self, command: str) -> list[dict[str, Any]]:
        """The arguments of every request for ``command``."""
        return [arguments for name, arguments in self.requests if name == command]

    # The agent's own behaviour; a test may wrap these.

    def set_time(self, arguments: Mapping[str, Any]) -> Reply:
        if "time" in arguments:
            # settimeofday takes microseconds.
            self.clock.set(arguments["time"] // MICROSECOND * MICROSECOND)
        else:
            self.clock.set((self.line.time_ns() + self.rtc_ahead_ns) // SECOND * SECOND)
        self.line.now_ns += self.hwclock_ns
        return Returned({})

    def get_clock(self, _arguments: Mapping[str, Any]) -> Reply:
        received_ns = self.clock.read()
        self.line.now_ns += 50_023
        slewing = {"slewing": self.clock.slewing_ns, "slewable": not self.is_disciplined} if self.slews else {}
        return Returned(
            {
                "received": received_ns,
                "transmitted": self.clock.read(),
                "synchronized": False,
                "max-error": 16 * SECOND,
                "source": "none",
                **slewing,
            }
        )

    def update_time(self, arguments: Mapping[str, Any]) -> Reply:
        before_ns = self.clock.read()
        moved_ns = arguments["seconds"] * SECOND + arguments.get("nanoseconds", 0)
        if "slew" in arguments:
            return self._slew(arguments, moved_ns)
        if arguments.get("relative"):
            self.clock.add(moved_ns)
        else:
            self.clock.set(moved_ns)
        return Returned({"before": before_ns, "after": self.clock.read()})

    def _slew(self, arguments: Mapping[str, Any], moved_ns: int) -> Reply:
        refused = refusal(arguments, moved_ns, self.is_disciplined) if self.slews else "Parameter 'slew' is unexpected"
        if refused is not None:
            return failed(refused)
        self.clock.slew(moved_ns)
        now_ns = self.clock.read()
        return Returned({"before": now_ns, "after": now_ns, "duration": abs(moved_ns) * 2000})

    def times_out(self, then: Handler | None = None) -> Handler:
        """A handler that keeps its reply, after having done what ``then`` does."""

        def handle(arguments: Mapping[str, Any]) -> Reply:
            if then is not None:
                then(arguments)
            self.line.now_ns += 5 * SECOND
            raise ExchangeTimeoutError("the agent did not answer in time")

        return handle
