"""A simulated guest: its clock, its agent and the way to it, on a time line that only tests move.

Nothing here sleeps and nothing is random, so tests can compare measurements with the truth.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import select
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

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
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Wait
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import subsets
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned

from tests.fakes.agent import ANSWERS, Call, RefusedError
from tests.fakes.clock import Clock
from tests.fakes.kinds import FACTS, STOCK, Kind

if TYPE_CHECKING:
    import pytest

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000

# 2026-11-23T04:05:06Z and a fraction, and a host that booted earlier. Round times would look like a coarse clock.
REALTIME_NS = 1_795_406_706_123_456_789
MONOTONIC_NS = 5_000_000_777_001

_READERS_OF_TIME: tuple[ModuleType, ...] = (subsets, multiplexer, offsets, options, resync, stepping, tasks)


class TimeLine:
    """The host's clocks, named like the functions of the module ``time``. ``now_ns`` is the monotonic clock."""

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
        self.slept.append(round(seconds, 9))  # computed from two readings of this precision
        self.now_ns += round(seconds * SECOND)

    def step_host(self, by_ns: int) -> None:
        self.realtime_base_ns += by_ns

    def pair(self) -> tuple[int, int]:
        return self.now_ns, self.time_ns()

    def reference(self, utc_offset_ns: int = 0) -> HostReference:
        return HostReference(utc_offset_ns, self.time_ns, self.monotonic_ns)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the code under test read this time line in place of the machine's clocks."""
        for module in _READERS_OF_TIME:
            monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(multiplexer, "select", SimpleNamespace(epoll=lambda: _Epoll(self)))
        monkeypatch.setattr(options, "HostReference", self.reference)
        monkeypatch.setattr(reference, "HostReference", self.reference)


class _Epoll:
    """``select.epoll`` on a time line: a descriptor that is not ready now does not become ready by waiting."""

    def __init__(self, line: TimeLine) -> None:
        self._line = line
        self._epoll = select.epoll()
        self.register, self.modify, self.close = self._epoll.register, self._epoll.modify, self._epoll.close

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        ready = self._epoll.poll(0)
        if not ready and seconds > 0:
            self._line.sleep(max(seconds, 1 / SECOND))  # a shorter time would be rounded to zero, forever
        return ready


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


class SimulatedGuest(Channel):
    """A guest and the channel to it. ``handlers`` may be replaced; ``requests`` lists the requests that arrived."""

    def __init__(
        self,
        line: TimeLine,
        clock: Clock | None = None,
        commands: Iterable[str] = STOCK_COMMANDS,
        delays: Delays = lambda _command: (300_137, 200_219),
    ) -> None:
        self.line = line
        self.clock = clock or Clock(host=line)
        self.commands = {name: {"name": name, "enabled": True, "success-response": True} for name in commands}
        self.delays = delays
        self.slews = True  # early versions of the extended agent do not
        self.is_disciplined = False  # by a time service
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.timeouts: list[float] = []
        self.expected_replies: list[bool] = []
        self.closed = 0
        self.let_gos = 0
        self.handlers: dict[str, Handler] = {name: functools.partial(self._answer, name) for name in ANSWERS}
        self.handlers["guest-info"] = lambda _arguments: Returned(
            {"version": STOCK.version, "supported_commands": list(self.commands.values())}
        )
        self.get_clock = self.handlers["guest-get-clock"]
        self.set_time = self.handlers["guest-set-time"]
        self.update_time = self.handlers["guest-update-time"]

    @property
    def kind(self) -> Kind:
        times = {"set_seconds": 1.0, "get_clock_seconds": 50_023 / SECOND}
        return replace(STOCK, slews=self.slews, is_disciplined=self.is_disciplined, source="none", **times)

    async def call(self, request: Request, timeout: float) -> Exchange:
        forward_ns, backward_ns = self.delays(request.execute)
        sent_ns = self.line.now_ns
        arguments = dict(request.arguments_at(sent_ns))
        self.timeouts.append(timeout)
        self.expected_replies.append(request.expects_reply)
        self.line.now_ns += forward_ns
        reply = self.reply(request.execute, arguments)
        self.line.now_ns += backward_ns
        return Exchange(reply, sent_ns, self.line.now_ns)

    def reply(self, command: str, arguments: dict[str, Any]) -> Reply:
        self.requests.append((command, arguments))
        handler = self.handlers.get(command)
        return not_found(command) if handler is None or command not in self.commands else handler(arguments)

    async def let_go(self) -> None:
        self.let_gos += 1

    async def close(self) -> None:
        self.closed += 1

    def asked(self, command: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.requests if name == command]

    def _answer(self, command: str, arguments: Mapping[str, Any]) -> Reply:
        call = Call(self.kind, self.clock, arguments, self.clock.read(), self._pass)
        try:
            return Returned(ANSWERS[command](call))
        except RefusedError as error:
            return error.refused

    def _pass(self, seconds: float) -> None:
        self.line.now_ns += round(seconds * SECOND)

    def times_out(self, then: Handler | None = None) -> Handler:
        """Return a handler that runs ``then`` and loses the reply."""

        def handle(arguments: Mapping[str, Any]) -> Reply:
            if then is not None:
                then(arguments)
            self.line.now_ns += 5 * SECOND
            raise ExchangeTimeoutError("the agent did not answer in time")

        return handle


# The subsets agent, commands, memory and time have tests of their own.
_COMMANDS = {
    "hostname": "guest-get-host-name",
    "os": "guest-get-osinfo",
    "timezone": "guest-get-timezone",
    "network": "guest-network-get-interfaces",
    "routes": "guest-network-get-route",
    "filesystems": "guest-get-fsinfo",
    "users": "guest-get-users",
    "vcpus": "guest-get-vcpus",
    "disks": "guest-get-disks",
    "load": "guest-get-load",
    "cpu_stats": "guest-get-cpustats",
    "disk_stats": "guest-get-diskstats",
    "freeze": "guest-fsfreeze-status",
}


def _fact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.replace("-", "_"): _fact(member) for name, member in value.items()}
    return [_fact(item) for item in value] if isinstance(value, list) else value


# Each subset's command, its reply, and the fact that it is converted to.
REPLIES: Mapping[str, tuple[str, Any, Any]] = {
    **{name: (command, FACTS[command], _fact(FACTS[command])) for name, command in _COMMANDS.items()},
    "hostname": ("guest-get-host-name", FACTS["guest-get-host-name"], "web1"),
}


def full_guest(line: TimeLine, commands: tuple[str, ...] = STOCK_COMMANDS) -> SimulatedGuest:
    guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), dict.fromkeys((*commands, *FACTS)))
    says(guest, "guest-get-memory-blocks", [{"phys-index": 0, "online": True}, {"phys-index": 1, "online": False}, {}])
    return guest


def says(guest: SimulatedGuest, command: str, value: Any) -> None:
    guest.handlers[command] = lambda _arguments: Returned(value)


def fails(guest: SimulatedGuest, command: str, error: QgaError) -> None:
    def fail(_arguments: Any) -> Reply:
        raise error

    guest.handlers[command] = fail


Result = TypeVar("Result")


def side_by_side(line: TimeLine, tasks: Sequence[Coroutine[Wait, Any, Result]]) -> list[Result]:
    """Run the tasks concurrently and return their results. The task whose wait ends first continues."""
    results: dict[int, Result] = {}
    order = itertools.count()
    waiting = [(line.now_ns, next(order), number) for number in range(len(tasks))]
    while waiting:
        until_ns, _order, number = heapq.heappop(waiting)
        line.now_ns = max(line.now_ns, until_ns)
        try:
            wait = tasks[number].send(None)
        except StopIteration as ended:
            results[number] = ended.value
        else:
            heapq.heappush(waiting, (max(line.now_ns, round(wait.until * SECOND)), next(order), number))
    return [results[number] for number in range(len(tasks))]


def jitter(drawn: random.Random, forward_ns: int = 300_000, backward_ns: int = 200_000) -> Delays:
    return lambda _command: tuple(round(ns * drawn.uniform(0.8, 1.6)) for ns in (forward_ns, backward_ns))


class SharedGuest:
    """A guest whose agent serves several clients, one exchange at a time and in order of arrival, as through libvirt.

    ``offsets`` lists all offsets that the guest's clock has had; the last one is the present one.
    """

    def __init__(self, line: TimeLine, guest: SimulatedGuest) -> None:
        self.guest = guest
        self.line = line
        self.free_at_ns = 0
        self.offsets = [guest.clock.offset_ns()]

    def client(self, gate: Callable[[Request], bool]) -> Channel:
        """Return a channel that sends a request once ``gate`` returns true."""
        return _Client(self, gate)


class _Client(Channel):
    is_shared = True

    def __init__(self, shared: SharedGuest, gate: Callable[[Request], bool]) -> None:
        self._shared = shared
        self._gate = gate

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # the agent is not slow
        shared, line, clock = self._shared, self._shared.line, self._shared.guest.clock
        while not self._gate(request):
            await _until(line.now_ns + 1_000)
        sent_ns = line.now_ns
        forward_ns, backward_ns = shared.guest.delays(request.execute)
        begun_ns = max(sent_ns, shared.free_at_ns)
        shared.free_at_ns = begun_ns + forward_ns + backward_ns
        arguments = dict(request.arguments_at(sent_ns))
        await _until(begun_ns + forward_ns)
        reply = shared.guest.reply(request.execute, arguments)
        if clock.offset_ns() != shared.offsets[-1]:
            shared.offsets.append(clock.offset_ns())
        done_ns = line.now_ns + backward_ns
        shared.free_at_ns = max(shared.free_at_ns, done_ns)
        await _until(done_ns)
        return Exchange(reply, sent_ns, line.now_ns)

    async def close(self) -> None:
        pass


async def _until(at_ns: int) -> None:
    await Wait(at_ns / SECOND)
