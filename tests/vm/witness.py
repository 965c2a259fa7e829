"""Independent readings of a guest's clock, without the collection's code and without the guest agent.

The other end is guest_root/usr/lib/qga-test/witness.py.
"""

from __future__ import annotations

import base64
import itertools
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tests.vm.errors import VmError

# The maximum rate at which Linux slews a clock; crystals are an order of magnitude better.
DRIFT_PPM = 500
DEFAULT_EXCHANGES = 20
RETRY_S = 0.05


class Exchange(NamedTuple):
    """The times of one request and its answer, in nanoseconds."""

    sent: int
    received: int
    transmitted: int
    answered: int

    @property
    def round_trip_ns(self) -> int:
        return (self.answered - self.sent) - (self.transmitted - self.received)


class Reading(NamedTuple):
    """Guest clock minus host clock, and half the width of the interval that certainly contains it."""

    offset_ns: int
    uncertainty_ns: int
    round_trip_ns: int


def reading_of(exchanges: Iterable[Exchange]) -> Reading:
    """Combine exchanges, in the order in which they were made."""
    taken = list(exchanges)
    end = taken[-1].answered
    lowers, uppers = [], []
    for exchange in taken:
        # The clocks may have drifted apart since.
        aged = (end - exchange.answered) * DRIFT_PPM // 1_000_000
        # The guest received the request after it was sent, and answered before the answer arrived.
        lowers.append(exchange.transmitted - exchange.answered - aged)
        uppers.append(exchange.received - exchange.sent + aged)
    lower, upper = max(lowers), min(uppers)
    if lower > upper:
        raise VmError(f"A clock was stepped during the reading: {lower} ns > {upper} ns.")
    return Reading(
        (lower + upper) // 2,
        # Rounded up: the interval must not shrink.
        (upper - lower + 1) // 2,
        min(exchange.round_trip_ns for exchange in taken),
    )


class Witness:
    """The host's end. It reconnects for every reading, because a restored QEMU has a new socket."""

    def __init__(self, path: Path, timeout_s: float = 20.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def offset(self, exchanges: int = DEFAULT_EXCHANGES) -> Reading:
        """Measure guest clock minus host clock."""
        with _Session(self._path, self._timeout_s) as session:
            # The first exchange waits until the guest notices the connection.
            session.exchange()
            return reading_of([session.exchange() for _count in range(exchanges)])

    def step(self, nanoseconds: int) -> None:
        """Step the guest's clock by a signed amount."""
        self._order(b"step", b"%d" % nanoseconds)

    def rename(self, name: str) -> None:
        """Set the guest's host name."""
        self._order(b"name", name.encode())

    def start(self, script: str) -> None:
        """Start a shell script as root in the guest, without its agent, and do not wait for its end."""
        self._order(b"start", base64.b64encode(script.encode()))

    def _order(self, verb: bytes, value: bytes) -> None:
        with _Session(self._path, self._timeout_s) as session:
            session.order(verb, value)

    def first_after(
        self, happening: Callable[[], None], is_wanted: Callable[[Exchange, Exchange], bool], deadline_s: float
    ) -> Exchange:
        """Read once, call ``happening``, which must not restart the guest's QEMU, and read continuously.

        :returns: the first exchange for which ``is_wanted``, given the one from before, is true
        """
        deadline = time.monotonic() + deadline_s
        with _Session(self._path, deadline_s) as session:
            session.exchange()  # waits until the guest notices the connection
            before = session.exchange()
            happening()
            while not is_wanted(before, exchange := session.exchange()):
                if time.monotonic() > deadline:
                    raise VmError(f"The clock at the witness {self._path} has not changed as expected.")
        return exchange

    def wait(self, deadline_s: float) -> None:
        """Return as soon as the guest answers."""
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                with _Session(self._path, min(self._timeout_s, deadline_s)) as session:
                    session.exchange()
                return
            except VmError as error:
                if time.monotonic() > deadline:
                    raise VmError(f"{error} Waited {deadline_s:g} s.") from None
                time.sleep(RETRY_S)


class _Session:
    """One connection to the guest's script."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._ids = itertools.count(time.monotonic_ns())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> _Session:
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise VmError(f"No witness at {self._path}: {error}.") from None
        return self

    def __exit__(self, *_exception: object) -> None:
        self._lines.close()
        self._socket.close()

    def exchange(self) -> Exchange:
        number = b"%d" % next(self._ids)
        request = b"read %b\n" % number
        sent = time.time_ns()
        self._socket.sendall(request)
        answer = self._answer(number)
        answered = time.time_ns()
        received, transmitted = answer.split()
        return Exchange(sent, int(received), int(transmitted), answered)

    def order(self, verb: bytes, value: bytes) -> None:
        number = b"%d" % next(self._ids)
        self._socket.sendall(b"%b %b %b\n" % (verb, number, value))
        answer = self._answer(number)
        if answer != b"done":
            raise VmError(f"The guest did not {verb.decode()} {value.decode()}: {answer.decode(errors='replace')}.")

    def _answer(self, number: bytes) -> bytes:
        """Return the answer to the request with that number. Others are late, from sessions that gave up."""
        given = b""
        while given != number:
            try:
                line = self._lines.readline()
            except OSError as error:
                raise VmError(f"The witness at {self._path} does not answer: {error}.") from None
            if not line:
                raise VmError(f"The witness at {self._path} closed the connection: the guest ended.")
            given, _space, answer = line.rstrip(b"\n").partition(b" ")
        return answer
