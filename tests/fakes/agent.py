"""A fake guest agent: a table of answers, and an agent that returns them, with or without a socket.

Its clock is an object: setting it changes only that object. The kinds of agents are in ``kinds``, and their failures
in ``faults``.
"""

from __future__ import annotations

import functools
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing, messages, values
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG, answers_on_success
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.clock import Clock
from tests.fakes.faults import Delays, Fault, Forever, HangUp, Pause, Piece, Pieces, Sent
from tests.fakes.kinds import FACTS, REFUSED_WORDS, SECOND_NS, STOCK, Kind
from tests.processes.socket_server import SocketServer

CHUNK = 4096  # as qemu-ga reads (qga/guest-agent-core.h, QEMU 10.0.13)
_LIMITS = Limits(nesting=1024)  # as in QEMU (qobject/json-streamer.c)


class RefusedError(Exception):
    """The error that the agent returns in place of a result."""

    def __init__(self, description: str, kind: str = "GenericError") -> None:
        super().__init__(description)
        self.refused = messages.Refused(kind, description)


@dataclass(frozen=True)
class Call:
    """One request. ``received_ns`` is the agent's clock at its arrival. ``pause`` delays the reply by some seconds."""

    kind: Kind
    clock: Clock
    arguments: Mapping[str, Any]
    received_ns: int
    pause: Callable[[float], None]
    host_name: str = "web1"


@functools.cache
def info(kind: Kind) -> dict[str, Any]:
    def state(name: str) -> dict[str, Any]:
        success = {"success-response": answers_on_success(name)} if kind.has_success_response else {}
        return {"name": name, "enabled": kind.enabled(name), **success}

    extended = {"extended-version": kind.extended_version} if kind.extended_version else {}
    return {"version": kind.version, "supported_commands": [state(name) for name in sorted(kind.commands)], **extended}


def _get_time(call: Call) -> int:
    return _cut(call.clock.read(), call.kind.read_step_ns)


def _set_time(call: Call) -> dict[str, Any]:
    """Like ``qmp_guest_set_time`` (QEMU 10.0.13), set the clock first and then the hardware clock."""
    kind = call.kind
    if "time" in call.arguments:
        epoch_ns = call.arguments["time"]
    elif kind.rtc_offset_ns is None:
        raise RefusedError("hwclock failed to set system clock from hardware clock")
    else:
        epoch_ns = _cut(call.clock.host_ns() + kind.rtc_offset_ns, SECOND_NS)
    if not kind.claims_only:
        call.clock.set(_cut(epoch_ns, kind.set_step_ns))
    call.pause(kind.set_seconds)
    if kind.set_error:
        raise RefusedError(kind.set_error)
    return {}


def _update_time(call: Call) -> dict[str, Any]:
    nanoseconds = int(call.arguments.get("nanoseconds", 0))
    if not 0 <= nanoseconds < SECOND_NS:
        raise RefusedError("Parameter 'nanoseconds' is not within 0 to 999999999")
    amount_ns = call.arguments["seconds"] * SECOND_NS + nanoseconds
    if "slew" in call.arguments and not call.kind.slews:
        raise RefusedError("Parameter 'slew' is unexpected")
    if call.arguments.get("slew"):
        return _slew(call, amount_ns)
    delta_ns = amount_ns if call.arguments.get("relative") else amount_ns - call.clock.true_ns()
    if call.kind.claims_only:
        before_ns, after_ns = call.clock.read(), call.clock.read() + delta_ns
    else:
        before_ns, after_ns = call.clock.step(delta_ns)
    returned: dict[str, Any] = {"before": before_ns, "after": after_ns}
    if call.arguments.get("rtc") and call.kind.rtc_offset_ns is None:
        returned["rtc-error"] = "there is no hardware clock"
    return returned


def _slew(call: Call, delta_ns: int) -> dict[str, Any]:
    if not call.arguments.get("relative"):
        raise RefusedError("Parameter 'slew' expects 'relative'")
    if call.arguments.get("rtc"):
        raise RefusedError("Parameter 'slew' excludes 'rtc'")
    if abs(delta_ns) > SECOND_NS // 2:
        raise RefusedError("Parameter 'slew' expects a difference of half a second at most")
    if call.kind.is_disciplined:
        raise RefusedError("The clock was not slewed: another time service disciplines it")
    now_ns = call.clock.slew(delta_ns)
    return {"before": now_ns, "after": now_ns, "duration": abs(delta_ns) * 2000}


def _get_clock(call: Call) -> dict[str, Any]:
    slewing = {"slewing": call.clock.slewing_ns, "slewable": not call.kind.is_disciplined} if call.kind.slews else {}
    call.pause(call.kind.get_clock_seconds)
    return {
        **slewing,
        "received": call.received_ns,
        "transmitted": call.clock.read(),
        "synchronized": False,
        "max-error": 16 * SECOND_NS,
        "source": call.kind.source,
    }


def _get_command_info(call: Call) -> dict[str, Any]:
    name = call.arguments["name"]
    if name not in call.kind.commands:
        raise RefusedError(REFUSED_WORDS["missing"].format(name), "CommandNotFound")
    return command_info(name, call.kind.enabled(name))


def command_info(name: str, enabled: bool = True) -> dict[str, Any]:
    entry = CATALOG[name]
    return {
        **{member: getattr(entry, member) for member in ("name", "since", "description", "returns", "origin")},
        "enabled": enabled,
        "success-response": entry.success_response,
        "arguments": [each._asdict() for each in entry.arguments],
    }


COMMAND_INFO = command_info("guest-set-time")

ANSWERS: Mapping[str, Callable[[Call], Any]] = {
    **{name: (lambda _call, value=value: value) for name, value in FACTS.items()},
    "guest-sync": lambda call: call.arguments["id"],
    "guest-sync-delimited": lambda call: call.arguments["id"],
    "guest-info": lambda call: info(call.kind),
    "guest-get-host-name": lambda call: {"host-name": call.host_name},
    "guest-get-time": _get_time,
    "guest-set-time": _set_time,
    "guest-fsfreeze-status": lambda call: "frozen" if call.kind.is_frozen else "thawed",
    "guest-update-time": _update_time,
    "guest-get-clock": _get_clock,
    "guest-get-command-info": _get_command_info,
    "guest-shutdown": lambda _call: {},
}

_TYPES: Mapping[str, tuple[type, str]] = {"int": (int, "integer"), "str": (str, "string"), "bool": (bool, "boolean")}


def check_arguments(command: str, given: Mapping[str, Any]) -> None:
    """Check arguments against the catalog, like the stock agent (qapi/qmp-dispatch.c, QEMU 10.0.13)."""
    arguments = {argument.name: argument for argument in CATALOG[command].arguments}
    for name, argument in arguments.items():
        if name not in given:
            if not argument.optional:
                raise RefusedError(f"Parameter '{name}' is missing")
            continue
        types = [_TYPES[each] for each in argument.type.split(" | ")]
        value = given[name]
        fits = any(value.__class__ is kind and (kind is not int or -(2**63) <= value < 2**63) for kind, _word in types)
        if not fits:
            raise RefusedError(f"Invalid parameter type for '{name}', expected: {types[0][1]}")
    if unexpected := given.keys() - arguments.keys():
        raise RefusedError(f"Parameter '{min(unexpected)}' is unexpected")


def _cut(value_ns: int, step_ns: int) -> int:
    return value_ns - value_ns % step_ns


Perform = Callable[[str, Mapping[str, Any]], messages.Reply]


def _performs_nothing(command: str, _arguments: Mapping[str, Any]) -> messages.Reply:
    return messages.Refused("GenericError", f"this fake does not do {command}")


def _error(description: str, kind: str = "GenericError") -> dict[str, Any]:
    return {"error": {"class": kind, "desc": description}}


class Agent:
    """An agent of some kind with a clock, without I/O: it takes the client's bytes and yields bytes and pauses.

    ``requests`` lists the commands that arrived, with their arguments; ``commands`` counts them. ``perform`` executes
    what this fake cannot, such as starting programs. ``greeting`` is sent to every client that connects.
    """

    def __init__(
        self,
        kind: Kind = STOCK,
        clock: Clock | None = None,
        faults: Iterable[Fault] = (),
        delays: Delays | None = None,
        perform: Perform = _performs_nothing,
        host_name: str = "web1",
        greeting: Iterable[Piece] = (),
    ) -> None:
        self.kind = kind
        self.connections = 0
        self._greeting = tuple(greeting)
        self.clock = Clock(tick_ns=kind.tick_ns) if clock is None else clock
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.commands: Counter[str] = Counter()
        self._faults = tuple(faults)
        self._delays = delays or Delays()
        self._perform = perform
        self._host_name = host_name
        self._frozen_until = 0.0
        # Created for the first client: ten thousand idle decoders take megabytes.
        self._decoder: framing.Decoder | None = None

    def asked(self, command: str) -> list[Mapping[str, Any]]:
        return [arguments for name, arguments in self.requests if name == command]

    def freeze(self, seconds: float) -> None:
        """Freeze file systems, like a backup program in the guest or an earlier client."""
        self._frozen_until = time.monotonic() + seconds

    def connected(self) -> Pieces:
        self.connections += 1
        return self._greeting

    def disconnected(self) -> None:
        """Forget the client. Half of a request stays in a stock agent's parser; the extended agent discards it."""
        for _event in self._decoder or ():
            pass  # requests that arrived after the agent hung up
        if self._decoder is not None and (self.kind.extended_version or self._decoder.is_idle):
            self._decoder = None

    def received(self, data: bytes) -> Iterator[Piece]:
        """Yield the reactions to these bytes. An action happens when its piece is requested, and a ``Pause`` has to
        be waited for before the next request.
        """
        received_ns = self.clock.read()  # first of all, because clients measure with it
        self._decoder = self._decoder or framing.Decoder(_LIMITS)
        self._decoder.feed(data)
        for event in self._decoder:
            yield from self._replies(event, received_ns)

    def _replies(self, event: framing.Event, received_ns: int) -> Iterator[Piece]:
        number, nth, pauses = len(self.requests), 0, []
        try:
            message = _read(event)
        except RemoteProtocolError as error:
            command, answer = "", _error(f"JSON parse error, {error.message}")
        else:
            if forward := _nth(self._delays.forward, number):
                yield Pause(forward)
                received_ns = self.clock.read()
            command, nth = message["execute"], self.commands[message["execute"]]
            self.commands[command] += 1
            self.requests.append((command, message.get("arguments", {})))
            answer = self._answer(message, received_ns, pauses.append)
            pauses.append(_nth(self._delays.backward, number))
        pieces: Pieces = ()
        if answer is not None:
            pieces = (*(Pause(seconds) for seconds in pauses if seconds), self._encoded(command, answer))
        sent = Sent(command, number, nth, self.commands)
        for fault in self._faults:
            if command or getattr(fault, "covers_complaints", False):
                pieces = fault(sent, pieces)
        yield from pieces

    def _answer(self, message: Any, received_ns: int, pause: Callable[[float], None]) -> dict[str, Any] | None:
        """Return the reply to one decoded request, or None for a command without a reply on success."""
        kind = self.kind if time.monotonic() >= self._frozen_until else replace(self.kind, is_frozen=True)
        try:
            reply = {"return": self._carried_out(message, kind, received_ns, pause)}
            if not answers_on_success(message["execute"]):
                return None
        except RefusedError as error:
            reply = _error(error.refused.description, error.refused.kind)
        return {**reply, "id": message["id"]} if "id" in message else reply

    def _carried_out(
        self, message: Mapping[str, Any], kind: Kind, received_ns: int, pause: Callable[[float], None]
    ) -> Any:
        if "id" in message and not kind.takes_id:
            raise RefusedError("QMP input member 'id' is unexpected")
        command, arguments = message["execute"], message.get("arguments", {})
        if command not in kind.commands:
            raise RefusedError(REFUSED_WORDS["missing"].format(command), "CommandNotFound")
        if not kind.enabled(command):
            refusal, words = kind.disabled_as
            raise RefusedError(words.format(command), refusal)
        if command in kind.unsupported:
            raise RefusedError(REFUSED_WORDS["unsupported"])
        if command in ANSWERS:
            check_arguments(command, arguments)
            return ANSWERS[command](Call(kind, self.clock, arguments, received_ns, pause, self._host_name))
        done = self._perform(command, arguments)
        if isinstance(done, messages.Refused):
            raise RefusedError(done.description, done.kind)
        return done.value

    def _encoded(self, command: str, answer: Mapping[str, Any]) -> bytes:
        data = values.encode(answer)
        digits = self.kind.number_digits
        if digits is not None:
            data = _NUMBER.sub(lambda found: _as_double(found.group(), digits), data)
        return framing.DELIMITER + data if command == "guest-sync-delimited" and "return" in answer else data


def _read(event: framing.Event) -> Any:
    if isinstance(event, framing.Malformed):
        raise event.error
    if isinstance(event, framing.Delimiter):
        # Before they obey a 0xFF byte, real agents return an error for it, as for any other stray byte.
        raise RemoteProtocolError("stray '\ufffd'")
    return values.decode(event.raw, _LIMITS)


def _nth(seconds: tuple[float, ...], number: int) -> float:
    return seconds[number % len(seconds)]


_NUMBER = re.compile(rb"(?<=[ \[])-?[0-9]+(?=[,}\]])")


def _as_double(number: bytes, digits: int) -> bytes:
    """Format a number like cJSON, which writes numbers that fit into an int in full."""
    value = float(number)
    return b"%d" % int(value) if abs(value) < 2**31 else b"%.*g" % (digits, value)


def deliver(pieces: Iterable[Piece], send: Callable[[bytes], object], pause: Callable[[float], object]) -> bool:
    """Send the pieces in turn. Return false if the agent has to hang up."""
    for piece in pieces:
        if isinstance(piece, Pause):
            pause(piece.seconds)
        elif isinstance(piece, HangUp):
            return False
        elif isinstance(piece, Forever):
            while True:
                send(piece.data)
        else:
            send(piece)
    return True


class FakeAgent(Agent):
    """An agent on a listening socket, served by a thread: ``with FakeAgent(listener, kind, clock):``.

    Other arguments are those of :class:`Agent`.
    """

    def __init__(self, listener: socket.socket, kind: Kind = STOCK, clock: Clock | None = None, **what: Any) -> None:
        super().__init__(kind, clock, **what)
        self._server = serving(listener, self)

    def __enter__(self) -> FakeAgent:
        self._server.__enter__()
        return self

    def __exit__(self, *what: Any) -> None:
        self._server.__exit__(*what)


def serving(listener: socket.socket, agent: Agent) -> SocketServer:
    """Return a server on a listening socket, in which the agent serves one client at a time."""

    def talk(server: SocketServer, connection: socket.socket) -> None:
        try:
            goes_on = deliver(agent.connected(), connection.sendall, server.pause)
            while goes_on and (data := connection.recv(CHUNK)):
                goes_on = deliver(agent.received(data), connection.sendall, server.pause)
        finally:
            agent.disconnected()

    return SocketServer(listener, talk)
