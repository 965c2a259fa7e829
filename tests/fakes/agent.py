# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guest agents that are not there: what they are, how they fail and what their clocks show are plain descriptions.

A fake agent answers on a real socket from a thread, with the same wire as the collection's. Its clock is an object:
setting it changes that object and nothing else. The agents met in the field are the rows of ``FIELD``.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing, messages, values
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import (
    CATALOGUE,
    FROZEN_ALLOWED,
    answers_on_success,
)

from tests.fakes.slewing import Slew, refusal

if TYPE_CHECKING:
    from typing import TypeAlias

MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
WINDOWS_TICK_NS = 15_625_000

_CHUNK = 4096  # as qemu-ga reads (qga/guest-agent-core.h, QEMU 10.0.13)


# ------------------------------------------------------------------------------------------------------------ the clock


class FakeClock:
    """A guest's clock, ``offset_ns`` from this machine's at first, which runs ``rate_ppm`` too fast.

    It advances by whole ``tick_ns``. What an agent makes of a reading is the agent's business.
    """

    def __init__(self, offset_ns: int = 0, rate_ppm: float = 0.0, tick_ns: int = 1) -> None:
        self._lock = threading.Lock()
        self._rate_ppm = rate_ppm
        self._tick_ns = tick_ns
        self._started_ns = time.monotonic_ns()
        self._base_ns = _host_base_ns() + self._started_ns + offset_ns
        self._slew = Slew()

    def now_ns(self) -> int:
        """What the clock would show if it had no ticks."""
        with self._lock:
            return self._at(time.monotonic_ns())

    def read(self) -> int:
        return _cut(self.now_ns(), self._tick_ns)

    def set(self, epoch_ns: int) -> None:
        with self._lock:
            now_ns = time.monotonic_ns()
            self._add(now_ns, epoch_ns - self._at(now_ns))

    def step(self, delta_ns: int) -> tuple[int, int]:
        """Add to the clock at one instant; its readings before and after."""
        with self._lock:
            now_ns = time.monotonic_ns()
            before_ns = self._at(now_ns)
            self._add(now_ns, delta_ns)
            return before_ns, before_ns + delta_ns

    def slew(self, delta_ns: int) -> int:
        """Add to the clock gradually; its reading now."""
        with self._lock:
            now_ns = time.monotonic_ns()
            self._add(now_ns, 0)
            self._slew = Slew(delta_ns, now_ns)
            return self._at(now_ns)

    def slewing_ns(self) -> int:
        with self._lock:
            return self._slew.left_ns(time.monotonic_ns())

    def offset_ns(self) -> int:
        """How far the clock is off this machine's, now: the truth that measurements are held against."""
        with self._lock:
            now_ns = time.monotonic_ns()
            return self._at(now_ns) - now_ns - _host_base_ns()

    def _add(self, monotonic_ns: int, delta_ns: int) -> None:
        """A step ends a slew."""
        self._base_ns += self._slew.done_ns(monotonic_ns) + delta_ns
        self._slew = Slew()

    def _at(self, monotonic_ns: int) -> int:
        elapsed_ns = monotonic_ns - self._started_ns
        drifted_ns = int(elapsed_ns * self._rate_ppm / 1_000_000)
        return self._base_ns + elapsed_ns + drifted_ns + self._slew.done_ns(monotonic_ns)


def _host_base_ns() -> int:
    """This machine's clock minus its monotonic clock, from the tightest of several pairs of readings."""

    def pair() -> tuple[int, int]:
        before_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        return after_ns - before_ns, now_ns - (before_ns + after_ns) // 2

    return min(pair() for _attempt in range(5))[1]


def _cut(value_ns: int, step_ns: int) -> int:
    return value_ns - value_ns % step_ns


# ------------------------------------------------------------------------------------------------------ what agents are

# What a Linux build lacks of the catalogue: the Windows-only command, and all of the extended agent's own.
_STOCK = frozenset(name for name, command in CATALOGUE.items() if command.origin == "stock") - {"guest-get-devices"}
_EXTENDED = frozenset(name for name, command in CATALOGUE.items() if command.origin == "extended")
# What RHEL's /etc/sysconfig/qemu-ga disables by default (qemu-guest-agent of RHEL 8).
RHEL_BLOCKED = frozenset(
    (
        "guest-file-open",
        "guest-file-close",
        "guest-file-read",
        "guest-file-write",
        "guest-file-seek",
        "guest-file-flush",
        "guest-exec",
        "guest-exec-status",
    )
)


# What agents say when they refuse a command, by what they mean and since which version of QEMU.
REFUSED_WORDS: Mapping[str, str] = {
    "disabled since 0.15": "The command {} has been disabled for this instance",
    "disabled since 6.1": "Command {} has been disabled: the command is not allowed",
    "frozen since 6.1": "Command {} has been disabled: the agent is in frozen state",
    "frozen, of another make": "Command not allowed while filesystem is frozen",
    "missing": "The command {} has not been found",
    "unsupported": "this feature or command is not currently supported",
}


@dataclass(frozen=True)
class Kind:
    """What an agent is and does when nothing goes wrong.

    ``read_step_ns`` and ``set_step_ns`` are what it cuts times to. ``set_error`` is what guest-set-time answers
    although the clock was set, ``set_seconds`` how long it takes to answer. ``claims_only``: it says that it has set
    the clock, and has not. ``rtc_offset_ns`` is the hardware clock's offset; None: there is no hardware clock.
    ``disabled_as`` is the class and the words of what is disabled or frozen. ``unsupported`` are commands that it has
    and cannot carry out. ``number_digits``: it keeps numbers as doubles, and writes as many digits of them.
    ``slews``: an extended agent that can slew its clock; ``is_disciplined``: a time service in its guest is against it.
    """

    version: str = "10.0.13"
    commands: frozenset[str] = _STOCK
    disabled: frozenset[str] = frozenset()
    is_frozen: bool = False
    tells_success_response: bool = True
    takes_id: bool = True
    tick_ns: int = 1
    read_step_ns: int = MICROSECOND_NS
    set_step_ns: int = MICROSECOND_NS
    set_seconds: float = 0.0
    set_error: str = ""
    claims_only: bool = False
    rtc_offset_ns: int | None = 0
    disabled_as: tuple[str, str] = ("CommandNotFound", REFUSED_WORDS["disabled since 6.1"])
    unsupported: frozenset[str] = frozenset()
    number_digits: int | None = None
    slews: bool = True
    is_disciplined: bool = False

    def enabled(self, command: str) -> bool:
        return command not in self.disabled and (not self.is_frozen or command in FROZEN_ALLOWED)


_HWCLOCK_FAILED = "hwclock failed to set hardware clock to system time"

STOCK = Kind()
NO_RTC = Kind(set_error=_HWCLOCK_FAILED, rtc_offset_ns=None)
SLOW_HWCLOCK = Kind(set_seconds=0.3)
WINDOWS = Kind(commands=_STOCK | {"guest-get-devices"}, read_step_ns=MILLISECOND_NS, set_step_ns=MILLISECOND_NS)
WINDOWS_TICKING = replace(WINDOWS, tick_ns=WINDOWS_TICK_NS)
WHOLE_MINUTES = Kind(version="9.2.0", set_step_ns=MINUTE_NS)
BEFORE_1_7 = Kind(
    version="1.6.0",
    commands=frozenset(name for name in _STOCK if CATALOGUE[name].since in ("0.15.0", "1.1", "1.2", "1.5")),
    tells_success_response=False,
)
REFUSES_ID = Kind(version="2.12.0", takes_id=False)
# It has no time commands either (1.5), so this one is a port that kept the old sync.
PLAIN_SYNC_ONLY = Kind(commands=_STOCK - {"guest-sync-delimited"})
EXTENDED = Kind(commands=_STOCK | _EXTENDED)
EXTENDED_NO_RTC = replace(EXTENDED, rtc_offset_ns=None)
RHEL = Kind(disabled=RHEL_BLOCKED)
SET_TIME_DISABLED = Kind(disabled=frozenset(("guest-set-time",)))
GET_TIME_DISABLED = Kind(disabled=frozenset(("guest-get-time",)))
INFO_DISABLED = Kind(disabled=frozenset(("guest-info",)))
FROZEN = Kind(is_frozen=True)
# How agents refuse in the field. Some Windows builds still have the class of the first ones.
BEFORE_4_2 = Kind(version="2.12.0", disabled_as=("GenericError", REFUSED_WORDS["disabled since 0.15"]))
BEFORE_1_2 = Kind(version="1.1.0", disabled_as=("CommandDisabled", REFUSED_WORDS["disabled since 0.15"]))
# Debian 12 and 13 and Ubuntu 24.04 without util-linux-extra: it looks for /sbin/hwclock before it sets anything.
NO_HWCLOCK = Kind(version="7.2.22", unsupported=frozenset(("guest-set-time",)))
# Agents built on cJSON.
CJSON = Kind(number_digits=17)
CJSON_15 = Kind(number_digits=15)
LIAR = Kind(claims_only=True)


@dataclass(frozen=True)
class FieldRow:
    """An agent met in the field, and what becomes of a guest with it that is 90 s behind.

    ``code`` is the error's code; empty: it succeeds. ``warning`` is a part of what must be said. ``is_readable``: its
    clock can be read. ``resolution_ns`` is the least that must be reported.
    """

    kind: Kind
    code: str = ""
    warning: str = ""
    method: str = "set_time"
    is_readable: bool = True
    resolution_ns: int = MICROSECOND_NS


FIELD: Mapping[str, FieldRow] = {
    "stock": FieldRow(STOCK),
    "no RTC": FieldRow(NO_RTC, warning=_HWCLOCK_FAILED),
    "slow hwclock": FieldRow(SLOW_HWCLOCK),
    "Windows": FieldRow(WINDOWS, resolution_ns=MILLISECOND_NS),
    "Windows, ticking": FieldRow(WINDOWS_TICKING, warning="coarse", resolution_ns=10 * MILLISECOND_NS),
    "whole minutes": FieldRow(WHOLE_MINUTES, code="not_converged"),
    "before 1.7": FieldRow(BEFORE_1_7),
    "refuses id": FieldRow(REFUSES_ID),
    "plain sync only": FieldRow(PLAIN_SYNC_ONLY),
    "extended": FieldRow(EXTENDED, method="extended", resolution_ns=1),
    "extended, no RTC": FieldRow(EXTENDED_NO_RTC, method="extended", resolution_ns=1),
    "RHEL": FieldRow(RHEL),
    "set-time disabled": FieldRow(SET_TIME_DISABLED, code="command_disabled"),
    "get-time disabled": FieldRow(GET_TIME_DISABLED, code="command_disabled", is_readable=False),
    "info disabled": FieldRow(INFO_DISABLED),
    "frozen": FieldRow(FROZEN, code="frozen", is_readable=False),
    **{
        f"{what}, {when}": FieldRow(replace(kind, **change), code=code, is_readable=False)
        for when, kind in (("before 4.2", BEFORE_4_2), ("before 1.2", BEFORE_1_2))
        for what, change, code in (
            ("get-time disabled", {"disabled": frozenset(("guest-get-time",))}, "command_disabled"),
            ("frozen", {"is_frozen": True}, "frozen"),
        )
    },
    "frozen, of another make": FieldRow(
        replace(FROZEN, disabled_as=("GenericError", REFUSED_WORDS["frozen, of another make"])),
        code="frozen",
        is_readable=False,
    ),
    "set-time disabled, before 4.2": FieldRow(
        replace(BEFORE_4_2, disabled=frozenset(("guest-set-time",))), code="command_disabled"
    ),
    "no hwclock": FieldRow(NO_HWCLOCK, code="not_supported"),
    "cJSON": FieldRow(CJSON, resolution_ns=256),
    "cJSON, 15 digits": FieldRow(CJSON_15, resolution_ns=10 * MICROSECOND_NS),
    "cJSON, extended": FieldRow(replace(EXTENDED, number_digits=15), method="extended", resolution_ns=256),
    "liar": FieldRow(LIAR, code="not_converged"),
}


# --------------------------------------------------------------------------------------------------- what it answers

# Replies of the right shape for the commands that facts are gathered with.
_FACTS: Mapping[str, Any] = {
    "guest-get-host-name": {"host-name": "fake1"},
    "guest-get-osinfo": {"id": "debian", "version-id": "12", "kernel-release": "6.1.0", "machine": "x86_64"},
    "guest-get-timezone": {"offset": 0, "zone": "UTC"},
    "guest-network-get-interfaces": [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]}
    ],
    "guest-network-get-route": [{"iface": "eth0", "destination": "10.0.2.0", "metric": 0}],
    "guest-get-fsinfo": [{"name": "vda", "mountpoint": "/", "type": "ext4", "used-bytes": 1, "total-bytes": 2}],
    "guest-get-users": [{"user": "root", "login-time": 1795406754.5}],
    "guest-get-vcpus": [{"logical-id": 0, "online": True, "can-offline": False}],
    "guest-get-memory-block-info": {"size": 134217728},
    "guest-get-memory-blocks": [{"phys-index": 0, "online": True}, {"phys-index": 1, "online": False}],
    "guest-get-disks": [{"name": "/dev/vda", "partition": False, "dependencies": []}],
    "guest-get-load": {"load1m": 0.25, "load5m": 0.5, "load15m": 1.0},
    "guest-get-cpustats": [{"type": "linux", "cpu": 0, "user": 1}],
    "guest-get-diskstats": [{"name": "vda", "major": 254, "minor": 0, "stats": {"read-ios": 1}}],
    "guest-ping": {},
}


class _RefusedError(Exception):
    """What the agent answers in place of a result."""

    def __init__(self, description: str, kind: str = "GenericError") -> None:
        super().__init__(description)
        self.reply = {"error": {"class": kind, "desc": description}}


@dataclass(frozen=True)
class _Act:
    """What a command's handler works with; ``received_ns`` is the agent's reading when the request came."""

    kind: Kind
    clock: FakeClock
    arguments: Mapping[str, Any]
    received_ns: int
    pause: Callable[[float], None]

    def integer(self, name: str) -> int:
        if name not in self.arguments:
            raise _RefusedError(f"Parameter '{name}' is missing")
        value = self.arguments[name]
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise _RefusedError(f"Invalid parameter type for '{name}', expected: integer")
        return value


def _sync(act: _Act) -> int:
    return act.integer("id")


def _info(act: _Act) -> dict[str, Any]:
    def state(name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": name, "enabled": act.kind.enabled(name)}
        if act.kind.tells_success_response:
            entry["success-response"] = answers_on_success(name)
        return entry

    return {"version": act.kind.version, "supported_commands": [state(name) for name in sorted(act.kind.commands)]}


def _get_time(act: _Act) -> int:
    return _cut(act.clock.read(), act.kind.read_step_ns)


def _set_time(act: _Act) -> dict[str, Any]:
    """As ``qmp_guest_set_time`` (QEMU 10.0.13): the clock first, the hardware clock behind it."""
    kind = act.kind
    if "time" in act.arguments:
        epoch_ns = act.integer("time")
    elif kind.rtc_offset_ns is None:
        raise _RefusedError("hwclock failed to set system clock from hardware clock")
    else:
        epoch_ns = _cut(time.time_ns() + kind.rtc_offset_ns, SECOND_NS)
    if not kind.claims_only:
        act.clock.set(_cut(epoch_ns, kind.set_step_ns))
    act.pause(kind.set_seconds)
    if kind.set_error:
        raise _RefusedError(kind.set_error)
    return {}


def _update_time(act: _Act) -> dict[str, Any]:
    nanoseconds = int(act.arguments.get("nanoseconds", 0))
    if not 0 <= nanoseconds < SECOND_NS:
        raise _RefusedError("Parameter 'nanoseconds' is not within 0 to 999999999")
    amount_ns = act.integer("seconds") * SECOND_NS + nanoseconds
    if act.arguments.get("slew"):
        return _slew(act, amount_ns)
    delta_ns = amount_ns if act.arguments.get("relative") else amount_ns - act.clock.now_ns()
    before_ns, after_ns = act.clock.step(delta_ns)
    returned: dict[str, Any] = {"before": before_ns, "after": after_ns}
    if act.arguments.get("rtc") and act.kind.rtc_offset_ns is None:
        returned["rtc-error"] = "there is no hardware clock"
    return returned


def _slew(act: _Act, delta_ns: int) -> dict[str, Any]:
    refused = refusal(act.arguments, delta_ns, act.kind.is_disciplined)
    if not act.kind.slews:
        refused = "Parameter 'slew' is unexpected"
    if refused is not None:
        raise _RefusedError(refused)
    now_ns = act.clock.slew(delta_ns)
    return {"before": now_ns, "after": now_ns, "duration": abs(delta_ns) * 2000}


def _get_clock(act: _Act) -> dict[str, Any]:
    slewing = {"slewing": act.clock.slewing_ns(), "slewable": not act.kind.is_disciplined} if act.kind.slews else {}
    return {
        **slewing,
        "received": act.received_ns,
        "transmitted": act.clock.read(),
        "synchronized": False,
        "max-error": 16 * SECOND_NS,
        "source": "host-message",
    }


def _get_command_info(act: _Act) -> dict[str, Any]:
    name = act.arguments.get("name")
    if name not in act.kind.commands:
        raise _RefusedError(f"The command {name} has not been found", "CommandNotFound")
    entry = CATALOGUE[name]
    return {
        "name": name,
        "enabled": act.kind.enabled(name),
        "success-response": entry.success_response,
        "since": entry.since,
        "description": entry.description,
        "arguments": [
            {"name": argument.name, "type": argument.type, "optional": argument.optional}
            for argument in entry.arguments
        ],
        "returns": entry.returns,
        "origin": entry.origin,
    }


_HANDLERS: Mapping[str, Callable[[_Act], Any]] = {
    "guest-sync": _sync,
    "guest-sync-delimited": _sync,
    "guest-info": _info,
    "guest-get-time": _get_time,
    "guest-set-time": _set_time,
    "guest-fsfreeze-status": lambda act: "frozen" if act.kind.is_frozen else "thawed",
    "guest-update-time": _update_time,
    "guest-get-clock": _get_clock,
    "guest-get-command-info": _get_command_info,
    "guest-shutdown": lambda _act: {},
    **{name: (lambda _act, value=value: value) for name, value in _FACTS.items()},
}


Perform = Callable[[str, Mapping[str, Any]], messages.Reply]


def _performs_nothing(command: str, _arguments: Mapping[str, Any]) -> messages.Reply:
    return messages.Refused("GenericError", f"this fake does not do {command}")


def _returned(
    command: str, arguments: Mapping[str, Any], act: Callable[[Mapping[str, Any]], _Act], perform: Perform
) -> Any:
    if command in _HANDLERS:
        return _HANDLERS[command](act(arguments))
    done = perform(command, arguments)
    if isinstance(done, messages.Refused):
        raise _RefusedError(done.description, done.kind)
    return done.value


def _answer(
    message: Any, act: Callable[[Mapping[str, Any]], _Act], kind: Kind, perform: Perform
) -> dict[str, Any] | None:
    """The reply to one decoded request, None for a command that succeeds in silence."""
    if not isinstance(message, dict) or not isinstance(message.get("execute"), str):
        return {"error": {"class": "GenericError", "desc": "QMP input lacks member 'execute'"}}
    command = message["execute"]
    try:
        if "id" in message and not kind.takes_id:
            raise _RefusedError("QMP input member 'id' is unexpected")
        if command not in kind.commands:
            raise _RefusedError(f"The command {command} has not been found", "CommandNotFound")
        if not kind.enabled(command):
            kind_of_refusal, words = kind.disabled_as
            raise _RefusedError(words.format(command), kind_of_refusal)
        if command in kind.unsupported:
            raise _RefusedError(REFUSED_WORDS["unsupported"])
        reply = {"return": _returned(command, message.get("arguments", {}), act, perform)}
        if not answers_on_success(command):
            return None
    except _RefusedError as refused:
        reply = refused.reply
    return {**reply, "id": message["id"]} if "id" in message else reply


# ----------------------------------------------------------------------------------------------------- how agents fail


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Forever:
    """Send this again and again until the peer has gone."""

    data: bytes


@dataclass(frozen=True)
class HangUp:
    """Close the connection."""


# As texts, for the Python of the oldest guests.
Piece: TypeAlias = "bytes | Pause | Forever | HangUp"
Pieces: TypeAlias = "tuple[Piece, ...]"


@dataclass(frozen=True)
class Sent:
    """One reply on its way out: the ``number``-th since the agent started, and the ``nth`` to this command."""

    command: str
    number: int
    nth: int


class Fault(Protocol):
    """What becomes of a reply before it is sent."""

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces: ...


@dataclass(frozen=True)
class On:
    """``fault``, but only for replies to ``command``; with ``nth``, only for that one of them (from 0)."""

    command: str
    fault: Fault
    nth: int | None = None

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        meant = sent.command == self.command and self.nth in (None, sent.nth)
        return self.fault(sent, pieces) if meant else pieces


@dataclass(frozen=True)
class Late:
    seconds: float

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return (Pause(self.seconds), *pieces)


@dataclass(frozen=True)
class Silent:
    """Answers no more after so many replies."""

    after: int = 0

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        return pieces if sent.number < self.after else ()


class SilentFrom:
    """Answers no more from the first request for ``command`` on."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._is_silent = False

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        self._is_silent = self._is_silent or sent.command == self._command
        return () if self._is_silent else pieces


@dataclass(frozen=True)
class HangUpAfter:
    """Closes the connection in place of a reply, after so many others and so many bytes of it."""

    replies: int = 0
    size: int = 0

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        return pieces if sent.number < self.replies else (_joined(pieces)[: self.size], HangUp())


@dataclass(frozen=True)
class Instead:
    """Sends other things in place of the reply."""

    pieces: Pieces

    def __call__(self, _sent: Sent, _pieces: Pieces) -> Pieces:
        return self.pieces


@dataclass(frozen=True)
class Before:
    """Sends other things before the reply."""

    pieces: Pieces

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return (*self.pieces, *pieces)


@dataclass(frozen=True)
class Behind:
    """Sends other things behind the reply."""

    pieces: Pieces

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return (*pieces, *self.pieces)


@dataclass(frozen=True)
class Drip:
    """Sends one byte at a time."""

    seconds: float

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return tuple(piece for byte in _joined(pieces) for piece in (bytes((byte,)), Pause(self.seconds)))


def _joined(pieces: Pieces) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


@dataclass(frozen=True)
class Delays:
    """Seconds on the way there and back, one pair for each exchange, over and over."""

    forward: tuple[float, ...] = (0.0,)
    backward: tuple[float, ...] = (0.0,)


_NUMBER = re.compile(rb"(?<=[ \[])-?[0-9]+(?=[,}\]])")


def _as_double(number: bytes, digits: int) -> bytes:
    """As cJSON writes a number: what fits into an int in full."""
    value = float(number)
    return b"%d" % int(value) if abs(value) < 2**31 else b"%.*g" % (digits, value)


# ------------------------------------------------------------------------------------------------------------- serving


def listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def listen_tcp(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1)


class _Stopped(Exception):  # noqa: N818  # not an error: the test is over
    """The server was told to stop."""


class SocketServer:
    """Serves one client at a time on a listening socket, from a thread: ``with SocketServer(listener, talk):``.

    ``talk`` gets this server and the connection, and returns or raises OSError when done with it.
    """

    def __init__(self, listener: socket.socket, talk: Callable[[SocketServer, socket.socket], None]) -> None:
        self._listener = listener
        self._talk = talk
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="fake agent", daemon=True)

    def __enter__(self) -> SocketServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # A thread that blocks in accept or recv is woken by a shutdown, not by a close.
        with self._lock, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5.0)
        self._listener.close()
        if self._thread.is_alive():
            raise RuntimeError("the fake agent's thread did not end")

    def pause(self, seconds: float) -> None:
        if seconds > 0 and self._stopping.wait(seconds):
            raise _Stopped

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connection = connection
            with contextlib.suppress(OSError, _Stopped):
                if not self._stopping.is_set():
                    self._talk(self, connection)
            with self._lock:
                self._connection = None
                connection.close()


class FakeAgent:
    """An agent of some kind with a clock, behind a listening socket: ``with FakeAgent(listener, kind, clock):``.

    ``greeting`` is sent to whoever connects. ``requests`` are the commands that arrived, with their arguments.
    ``perform`` carries out what no fake can, such as starting programs.
    """

    def __init__(
        self,
        listener: socket.socket,
        kind: Kind = STOCK,
        clock: FakeClock | None = None,
        faults: tuple[Fault, ...] = (),
        delays: Delays = Delays(),
        greeting: Pieces = (),
        perform: Perform = _performs_nothing,
    ) -> None:
        self.kind = kind
        self._perform = perform
        self._frozen_until = 0.0
        self.clock = FakeClock(tick_ns=kind.tick_ns) if clock is None else clock
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.connections = 0
        self._faults = faults
        self._delays = delays
        self._greeting = greeting
        # One for the agent's life: half a request of a client that has gone stays in a real agent's parser, too.
        self._decoder = framing.Decoder()
        self._server = SocketServer(listener, self._talk)

    def __enter__(self) -> FakeAgent:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def received(self, command: str) -> list[Mapping[str, Any]]:
        """The arguments of the requests for one command."""
        return [arguments for name, arguments in self.requests if name == command]

    def freeze(self, seconds: float) -> None:
        """As a backup does from within the guest, or by a client before this one."""
        self._frozen_until = time.monotonic() + seconds

    def _talk(self, server: SocketServer, connection: socket.socket) -> None:
        self.connections += 1
        if not self._send(server, connection, self._greeting):
            return
        while data := connection.recv(_CHUNK):
            self._decoder.feed(data)
            for event in self._decoder:
                if not self._send(server, connection, self._reply(server, event)):
                    return

    def _reply(self, server: SocketServer, event: framing.Event) -> Pieces:
        if not isinstance(event, framing.Message):
            # The real agent complains of a 0xFF byte as of any other stray one, before it obeys it.
            return (values.encode({"error": {"class": "GenericError", "desc": "JSON parse error, stray '\ufffd'"}}),)
        message = event.decode()
        command = message.get("execute", "") if isinstance(message, dict) else ""
        number, nth = len(self.requests), len(self.received(command))
        self.requests.append((command, message.get("arguments", {}) if isinstance(message, dict) else {}))
        server.pause(self._delays.forward[number % len(self._delays.forward)])
        received_ns = self.clock.read()
        kind = self.kind if time.monotonic() >= self._frozen_until else replace(self.kind, is_frozen=True)
        answer = _answer(
            message,
            lambda arguments: _Act(kind, self.clock, arguments, received_ns, server.pause),
            kind,
            self._perform,
        )
        backward = Pause(self._delays.backward[number % len(self._delays.backward)])
        pieces: Pieces = (backward, self._encoded(command, answer)) if answer is not None else ()
        for fault in self._faults:
            pieces = fault(Sent(command, number, nth), pieces)
        return pieces

    def _encoded(self, command: str, answer: Mapping[str, Any]) -> bytes:
        delimited = command == "guest-sync-delimited" and "return" in answer
        return (framing.DELIMITER if delimited else b"") + self._written(answer)

    def _written(self, answer: Mapping[str, Any]) -> bytes:
        data = values.encode(answer)
        digits = self.kind.number_digits
        return data if digits is None else _NUMBER.sub(lambda found: _as_double(found.group(), digits), data)

    @staticmethod
    def _send(server: SocketServer, connection: socket.socket, pieces: Pieces) -> bool:
        """Send the pieces in turn; false: hang up."""
        for piece in pieces:
            if isinstance(piece, Pause):
                server.pause(piece.seconds)
            elif isinstance(piece, HangUp):
                return False
            elif isinstance(piece, Forever):
                while True:
                    connection.sendall(piece.data)
            else:
                connection.sendall(piece)
        return True


# ---------------------------------------------------------------------------------------------------- no agents at all


def banner(data: bytes) -> Callable[[SocketServer, socket.socket], None]:
    """A server that talks first and understands nothing, such as a mail server."""

    def talk(_server: SocketServer, connection: socket.socket) -> None:
        connection.sendall(data)
        while connection.recv(_CHUNK):
            connection.sendall(b"500 5.5.1 Command unrecognized\r\n")

    return talk


def echo(_server: SocketServer, connection: socket.socket) -> None:
    while data := connection.recv(_CHUNK):
        connection.sendall(data)
