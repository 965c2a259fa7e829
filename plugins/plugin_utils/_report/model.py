# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of a fleet run, as typed data.

Names and sentences may come from hostile guests. This module makes every value of its type, and every text short and
printable. The page escapes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Iterable, Mapping, Sequence, Tuple

from .codes import HINTS, UNREADABLE
from .format import UNKNOWN, duration, printable, printable_name, signed
from .names import short_names

# The statuses of a guest whose clock was to be corrected, and of one whose facts were to be gathered.
STATUSES = ("corrected", "would_correct", "unchanged", "slewing", "skipped", "failed")
FACTS_STATUSES = ("gathered", "skipped", "failed")
# The most urgent first.
WORST_FIRST = ("failed", "skipped", "slewing", "would_correct", "corrected", "unchanged")
# Shown only if a guest has them.
_RARE = ("would_correct", "slewing")

_LARGEST_NS = 2**63 - 1  # QAPI's largest integer
_LARGEST_COUNT = 10**6

# The most characters.
_NAME = 80
_PATH = 512
_CODE = 48
_SENTENCE = 320
_WARNINGS = 10  # of one guest


@dataclass(frozen=True)
class Settings:
    """The options of the run. ``tolerance_ns`` None: unknown."""

    tolerance_ns: int | None
    check_mode: bool


@dataclass(frozen=True)
class Header:
    """The circumstances of the run. A text may be empty, ``started_ns`` None: unknown. Times are since 1970."""

    title: str
    made_ns: int
    play: str = ""
    collection: str = ""
    version: str = ""
    core: str = ""
    controller: str = ""
    inventory: tuple[str, ...] = ()
    started_ns: int | None = None

    @property
    def duration_ns(self) -> int | None:
        return None if self.started_ns is None else max(0, self.made_ns - self.started_ns)


@dataclass(frozen=True)
class Problem:
    """The reason why a guest or a hypervisor failed or was skipped. ``hint`` may be empty."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Offset:
    """Guest clock minus host clock, and the largest possible error of that."""

    ns: int
    uncertainty_ns: int | None

    # Cached: the table and two tooltips show them.
    @cached_property
    def signed(self) -> str:
        return signed(self.ns)

    @cached_property
    def uncertain(self) -> str:
        return f"±{UNKNOWN if self.uncertainty_ns is None else duration(self.uncertainty_ns)}"

    @property
    def direction(self) -> str:
        """Return the offset in words, such as ``20.9 s behind``."""
        return f"{duration(abs(self.ns))} {'behind' if self.ns < 0 else 'ahead'}"


@dataclass(frozen=True)
class HostClock:
    """The state of the clock that guests are compared with, by the hypervisor's kernel. ``source`` may be empty."""

    synchronized: bool | None
    max_error_ns: int | None
    source: str


@dataclass(frozen=True)
class ReportedGuest:
    """The result of one guest. A figure is None where it was not measured.

    ``target``: the domain or the path that the guest was addressed by, unchanged; empty if that was not a text.
    ``name``: the VM's name where it is known, else a short form of ``target``.
    ``address``: the short form of ``target`` beside a VM's name, else empty.
    ``vm_name_from``: ``node``, ``agent`` or empty. A name from the agent is the guest's own claim, so it is never shown
    without ``address``.
    ``within``: whether the clock is within tolerance; None where that was not measured, or not proven.
    """

    target: str
    name: str
    address: str
    vm_name_from: str
    host: str
    uuid: str
    status: str
    within: bool | None
    method: str
    attempts: int | None
    before: Offset | None
    after: Offset | None
    round_trip_ns: int | None
    duration_ns: int | None
    problem: Problem | None
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name in a sentence, such as ``web1 (100)``."""
        return f"{self.name} ({self.address})" if self.address else self.name

    @property
    def details(self) -> str:
        """The lines of the name's tooltip: what its cell does not show."""
        lines = [] if self.target == self.name else [printable_name(self.target, _PATH)]
        if self.vm_name_from == "agent":
            lines.append("The guest's agent reports this name.")
        return "\n".join(lines if self.uuid == UNKNOWN else [*lines, self.uuid])

    @property
    def measured(self) -> bool:
        return self.before is not None or self.after is not None

    @property
    def is_slewing(self) -> bool:
        """Return whether the clock is being slewed, and will be within tolerance at the end of that."""
        return self.status == "slewing"

    @property
    def unproven(self) -> bool:
        """Return whether the clock was measured, but not precisely enough to prove that it is within tolerance."""
        return self.measured and self.within is None

    @property
    def is_beyond(self) -> bool:
        """Return whether the clock is beyond tolerance and stays so. In check mode, a run would correct some."""
        return self.within is False and self.status not in ("slewing", "would_correct")

    @property
    def method_and_attempts(self) -> str:
        several = self.attempts is not None and self.attempts > 1
        return f"{self.method} \u00d7{self.attempts}" if several and self.method != UNKNOWN else self.method

    @property
    def at_the_end(self) -> Offset | None:
        """The offset at the end of the run; None: unknown."""
        if self.after is not None:
            return self.after
        return self.before if self.status in ("skipped", "unchanged", "slewing", "would_correct") else None

    @property
    def last(self) -> Offset | None:
        """The last offset that was measured."""
        return self.before if self.after is None else self.after


Measured = Tuple[ReportedGuest, Offset]


@dataclass(frozen=True)
class Hypervisor:
    """One hypervisor, and ``problem`` if it failed as a whole. ``clock`` None: unknown.

    ``not_found``: names of guests that were selected, and are neither here nor on another hypervisor.
    """

    host: str
    guests: tuple[ReportedGuest, ...]
    problem: Problem | None
    clock: HostClock | None = None
    not_found: tuple[str, ...] = ()

    @property
    def is_unsynchronized(self) -> bool:
        return self.clock is not None and self.clock.synchronized is False


@dataclass(frozen=True)
class Tally:
    """The number of guests by status, and the guests with the largest offsets before the run and at its end."""

    total: int
    by_status: Mapping[str, int]
    largest_before: Measured | None
    largest_left: Measured | None


@dataclass(frozen=True)
class Fleet:
    """The results that a report shows."""

    hypervisors: Sequence[Hypervisor]
    guests: Sequence[ReportedGuest]
    tally: Tally
    settings: Settings

    @classmethod
    def of(cls, hypervisors: Sequence[Hypervisor], settings: Settings) -> Fleet:
        guests = all_guests(hypervisors)
        return cls(hypervisors, guests, tally(guests), settings)

    @property
    def size(self) -> int:
        """The number of hypervisors."""
        return len(self.hypervisors)

    @property
    def lost(self) -> int:
        """The number of hypervisors that failed."""
        return sum(hypervisor.problem is not None for hypervisor in self.hypervisors)

    @property
    def not_found(self) -> tuple[str, ...]:
        """The names that are on no hypervisor."""
        return names_not_found(self.hypervisors)

    @property
    def unmeasured(self) -> int:
        return sum(not guest.measured for guest in self.guests)


def label(status: str) -> str:
    """Return the words for a status."""
    return status.replace("_", " ")


def names_not_found(hypervisors: Iterable[Hypervisor]) -> tuple[str, ...]:
    """Return the names that are on no hypervisor."""
    return tuple(sorted({name for hypervisor in hypervisors for name in hypervisor.not_found}))


def shown(statuses: Sequence[str], total: Tally) -> tuple[str, ...]:
    """Return the statuses that the report shows for these guests."""
    # In check mode, no guest is corrected, but some would be.
    hidden = "corrected" if total.by_status["would_correct"] and not total.by_status["corrected"] else ""
    return tuple(status for status in statuses if status != hidden and (status not in _RARE or total.by_status[status]))


def tally(guests: Sequence[ReportedGuest]) -> Tally:
    return Tally(
        total=len(guests),
        by_status=Counter(guest.status for guest in guests),
        largest_before=largest((guest, guest.before) for guest in guests),
        largest_left=largest((guest, guest.at_the_end) for guest in guests),
    )


def largest(offsets: Iterable[tuple[ReportedGuest, Offset | None]]) -> Measured | None:
    """Return the guest with the largest offset; None if there is none."""
    measured = [(guest, offset) for guest, offset in offsets if offset is not None]
    return max(measured, key=lambda item: abs(item[1].ns), default=None)


def all_guests(fleet: Iterable[Hypervisor]) -> list[ReportedGuest]:
    return [guest for hypervisor in fleet for guest in hypervisor.guests]


def worst_first(guests: Iterable[ReportedGuest]) -> list[ReportedGuest]:
    """Return the guests by urgency: those beyond tolerance, then by status, by offset before, and by name."""

    def urgency(guest: ReportedGuest) -> tuple[bool, int, int, str, str]:
        size_ns = -1 if guest.before is None else abs(guest.before.ns)
        return not guest.is_beyond, WORST_FIRST.index(guest.status), -size_ns, guest.host, guest.name

    return sorted(guests, key=urgency)


# ------------------------------------------------------------------------------------------------------------- reading


def read_fleet(hypervisors: object, statuses: Sequence[str] = STATUSES) -> tuple[Hypervisor, ...]:
    """Return the results of a run. A value of a wrong type is unknown; a result that cannot be read counts as failed.

    :raises TypeError: it is not a list
    """
    if not isinstance(hypervisors, (list, tuple)):
        raise TypeError(f"the results must be a list with a dict for each hypervisor, not {_kind(hypervisors)}")
    return tuple(_read_hypervisor(item, statuses) for item in hypervisors)


def _read_hypervisor(item: object, statuses: Sequence[str]) -> Hypervisor:
    if not isinstance(item, Mapping):
        return Hypervisor(UNKNOWN, (), _unreadable(f"its results are {_kind(item)}, not a dict"))
    host = printable_name(item.get("host"), _NAME)
    guests = item.get("guests")
    problem = _read_problem(item.get("error"))
    if not isinstance(guests, (list, tuple)):
        if guests is not None and problem is None:
            problem = _unreadable(f"its guests are {_kind(guests)}, not a list")
        guests = ()
    known = [entry if isinstance(entry, Mapping) else {} for entry in guests]
    targets = [_text(entry.get("name")) for entry in known]
    read = (_read_guest(*each, host, statuses) for each in zip(known, targets, short_names(targets)))
    not_found = item.get("not_found")
    return Hypervisor(
        host,
        tuple(read),
        problem,
        _read_host_clock(item.get("host_clock")),
        tuple(printable_name(name, _NAME) for name in not_found) if isinstance(not_found, (list, tuple)) else (),
    )


def _read_host_clock(item: object) -> HostClock | None:
    if not isinstance(item, Mapping):
        return None
    synchronized, source = item.get("synchronized"), item.get("source")
    clock = HostClock(
        synchronized if isinstance(synchronized, bool) else None,
        _integer(item.get("max_error_ns"), 0, _LARGEST_NS),
        printable(source, _CODE) if isinstance(source, str) and source else "",
    )
    return None if clock == HostClock(None, None, "") else clock


def _read_guest(
    known: Mapping[Any, Any], target: str, short_name: str, host: str, statuses: Sequence[str]
) -> ReportedGuest:
    vm_name = _text(known.get("vm_name"))
    status = known.get("status")
    problem = _read_problem(known.get("reason" if status == "skipped" else "error"))
    if not isinstance(status, str) or status not in statuses:
        # It may be anything, so it must not look as if all were well.
        status = "failed"
        problem = problem or _unreadable("its result has no known status")
    elif problem is None and status in ("failed", "skipped"):
        problem = Problem(UNKNOWN, UNKNOWN)
    within = known.get("within_tolerance")
    method = known.get("method")
    return ReportedGuest(
        target=target,
        name=printable_name(vm_name or short_name, _NAME),
        address=printable_name(short_name, _NAME) if vm_name and vm_name != short_name else "",
        vm_name_from="" if not vm_name else "node" if known.get("vm_name_from") == "node" else "agent",
        host=host,
        uuid=printable_name(known.get("uuid"), _NAME),
        status=status,
        within=within if isinstance(within, bool) else None,
        method=printable(method, _CODE),
        attempts=_integer(known.get("attempts"), 0, _LARGEST_COUNT),
        before=_read_offset(known, "before"),
        after=_read_offset(known, "after"),
        round_trip_ns=_integer(known.get("round_trip_ns"), 0, _LARGEST_NS),
        duration_ns=_integer(known.get("duration_ns"), 0, _LARGEST_NS),
        problem=problem,
        warnings=_read_warnings(known.get("warnings")),
    )


def _read_warnings(items: object) -> tuple[str, ...]:
    if not isinstance(items, (list, tuple)):
        return ()
    return tuple(printable(item, _SENTENCE) for item in items[:_WARNINGS])


def _text(value: object) -> str:
    # Ansible has types of its own below str; the unbound method returns a plain one, whatever they override.
    return str.__str__(value) if isinstance(value, str) else ""


def _read_offset(entry: Mapping[Any, Any], when: str) -> Offset | None:
    ns = _integer(entry.get(f"offset_{when}_ns"), -_LARGEST_NS, _LARGEST_NS)
    return None if ns is None else Offset(ns, _integer(entry.get(f"uncertainty_{when}_ns"), 0, _LARGEST_NS))


def _read_problem(item: object) -> Problem | None:
    if item is None:
        return None
    if not isinstance(item, Mapping):
        return Problem(UNKNOWN, UNKNOWN)
    hint = printable(item.get("hint"), _SENTENCE)
    return Problem(
        code=printable(item.get("code"), _CODE),
        message=printable(item.get("message"), _SENTENCE),
        hint="" if hint == UNKNOWN else hint,
    )


def _unreadable(message: str) -> Problem:
    return Problem(UNREADABLE, message, HINTS[UNREADABLE])


def _integer(value: object, lowest: int, highest: int) -> int | None:
    # True is an integer in Python, but not a figure.
    if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
        return int(value)
    return None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"of type {printable(type(value).__name__, _CODE)}"
