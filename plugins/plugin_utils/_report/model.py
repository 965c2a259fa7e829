# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of a fleet run, read from what Ansible registered.

Names and sentences may come from hostile guests. After this module every value has its type, and every text is short
and prints as it is. The page escapes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Iterable, Mapping, Sequence, Tuple

from .format import UNKNOWN, counted, duration, printable, signed

# Of a guest whose clock was to be set right, and of one that was asked for facts.
STATUSES = ("corrected", "unchanged", "slewing", "skipped", "failed")
FACTS_STATUSES = ("gathered", "skipped", "failed")
# From what needs a look to what does not.
WORST_FIRST = ("failed", "skipped", "slewing", "corrected", "unchanged")
# Shown where there are any: few are asked for.
_RARE = ("slewing",)

_LARGEST_NS = 2**63 - 1  # QAPI's integers end there
_LARGEST_COUNT = 10**6

_NAME = 80
_CODE = 48
_SENTENCE = 320

_UNREADABLE = "unreadable_result"


@dataclass(frozen=True)
class Settings:
    """The options of the run. ``tolerance_ns`` None: the guests had several, or it is not known."""

    tolerance_ns: int | None
    check_mode: bool

    def label(self, status: str) -> str:
        return "to correct" if self.check_mode and status == "corrected" else status


@dataclass(frozen=True)
class Problem:
    """Why a guest or a hypervisor was not worked on. ``hint`` may be empty."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Offset:
    """Guest clock minus host clock, and how far the true value may be from that."""

    ns: int
    uncertainty_ns: int | None

    # The table and two tooltips show them.
    @cached_property
    def signed(self) -> str:
        return signed(self.ns)

    @cached_property
    def uncertain(self) -> str:
        return f"±{UNKNOWN if self.uncertainty_ns is None else duration(self.uncertainty_ns)}"


@dataclass(frozen=True)
class ReportedGuest:
    """The result of one guest. A figure is None where it was not measured.

    ``within``: whether the clock is within tolerance; None where that was not measured, or not proven.
    """

    name: str
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

    @property
    def measured(self) -> bool:
        return self.before is not None or self.after is not None

    @property
    def is_slewing(self) -> bool:
        """Return whether the clock glides, and will be within tolerance at the end of that."""
        return self.status == "slewing"

    @property
    def unproven(self) -> bool:
        """Return whether the clock was measured, and may be right or wrong all the same."""
        return self.measured and self.within is None

    @property
    def is_off(self) -> bool:
        """Return whether the clock is wrong, and stays so."""
        return self.within is False and not self.is_slewing

    @property
    def method_and_attempts(self) -> str:
        several = self.attempts is not None and self.attempts > 1
        return f"{self.method} \u00d7{self.attempts}" if several and self.method != UNKNOWN else self.method

    @property
    def at_the_end(self) -> Offset | None:
        """Where the clock stood when the run was over; None: nobody knows."""
        if self.after is not None:
            return self.after
        return self.before if self.status in ("skipped", "unchanged", "slewing") else None


Measured = Tuple[ReportedGuest, Offset]


@dataclass(frozen=True)
class Hypervisor:
    """One hypervisor, and ``problem`` if it could not be worked on as a whole."""

    host: str
    guests: tuple[ReportedGuest, ...]
    problem: Problem | None


@dataclass(frozen=True)
class Tally:
    """The number of guests by status, and whose clocks were off the most."""

    total: int
    by_status: Mapping[str, int]
    largest_before: Measured | None
    largest_after: Measured | None


@dataclass(frozen=True)
class Fleet:
    """All that a report is made of."""

    hypervisors: Sequence[Hypervisor]
    guests: Sequence[ReportedGuest]
    tally: Tally
    settings: Settings

    @classmethod
    def of(cls, hypervisors: Sequence[Hypervisor], settings: Settings) -> Fleet:
        guests = all_guests(hypervisors)
        return cls(hypervisors, guests, tally(guests), settings)

    @property
    def lost(self) -> int:
        """The number of hypervisors that could not be worked on."""
        return sum(hypervisor.problem is not None for hypervisor in self.hypervisors)

    @property
    def unmeasured(self) -> int:
        return sum(not guest.measured for guest in self.guests)


def unproven_sentence(guests: Iterable[ReportedGuest]) -> str:
    """Return how many of the guests that failed may have right clocks; empty if none."""
    unproven = sum(guest.unproven for guest in guests if guest.status == "failed")
    return f"{counted(unproven, 'clock')} {'is' if unproven == 1 else 'are'} not proven right." if unproven else ""


def shown(statuses: Sequence[str], total: Tally) -> tuple[str, ...]:
    """Return those of the statuses that have a place in the report on these guests."""
    return tuple(status for status in statuses if status not in _RARE or total.by_status[status])


def tally(guests: Sequence[ReportedGuest]) -> Tally:
    return Tally(
        total=len(guests),
        by_status=Counter(guest.status for guest in guests),
        largest_before=_largest((guest, guest.before) for guest in guests),
        largest_after=_largest((guest, guest.after) for guest in guests),
    )


def _largest(offsets: Iterable[tuple[ReportedGuest, Offset | None]]) -> Measured | None:
    measured = [(guest, offset) for guest, offset in offsets if offset is not None]
    return max(measured, key=lambda item: abs(item[1].ns), default=None)


def all_guests(fleet: Iterable[Hypervisor]) -> list[ReportedGuest]:
    return [guest for hypervisor in fleet for guest in hypervisor.guests]


def worst_first(guests: Iterable[ReportedGuest]) -> list[ReportedGuest]:
    """In the order in which they need a look: by status, then by how far off they were found, then by name."""

    def urgency(guest: ReportedGuest) -> tuple[int, int, str, str]:
        off_by = -1 if guest.before is None else abs(guest.before.ns)
        return WORST_FIRST.index(guest.status), -off_by, guest.host, guest.name

    return sorted(guests, key=urgency)


# ------------------------------------------------------------------------------------------------------------- reading


def read_fleet(hypervisors: object, statuses: Sequence[str] = STATUSES) -> tuple[Hypervisor, ...]:
    """The results of a run. What has a wrong type becomes unknown; a result that is none counts as failed.

    :raises TypeError: it is no list at all
    """
    if not isinstance(hypervisors, (list, tuple)):
        raise TypeError(f"the results of a fleet are a list with one dict per hypervisor, not {_kind(hypervisors)}")
    return tuple(_read_hypervisor(item, statuses) for item in hypervisors)


def _read_hypervisor(item: object, statuses: Sequence[str]) -> Hypervisor:
    if not isinstance(item, Mapping):
        return Hypervisor(UNKNOWN, (), Problem(_UNREADABLE, f"its results are {_kind(item)}, not a dict"))
    host = printable(item.get("host"), _NAME)
    guests = item.get("guests")
    problem = _read_problem(item.get("error"))
    if not isinstance(guests, (list, tuple)):
        if guests is not None and problem is None:
            problem = Problem(_UNREADABLE, f"its guests are {_kind(guests)}, not a list")
        guests = ()
    return Hypervisor(host, tuple(_read_guest(entry, host, statuses) for entry in guests), problem)


def _read_guest(entry: object, host: str, statuses: Sequence[str]) -> ReportedGuest:
    known: Mapping[Any, Any] = entry if isinstance(entry, Mapping) else {}
    status = known.get("status")
    problem = _read_problem(known.get("reason" if status == "skipped" else "error"))
    if not isinstance(status, str) or status not in statuses:
        # It may be anything, so it must not look as if all were well.
        status = "failed"
        problem = problem or Problem(_UNREADABLE, "its result has no status that is known")
    elif problem is None and status in ("failed", "skipped"):
        problem = Problem(UNKNOWN, UNKNOWN)
    within = known.get("within_tolerance")
    method = known.get("method")
    return ReportedGuest(
        name=printable(known.get("name"), _NAME),
        host=host,
        uuid=printable(known.get("uuid"), _NAME),
        status=status,
        within=within if isinstance(within, bool) else None,
        method=printable(method, _CODE),
        attempts=_integer(known.get("attempts"), 0, _LARGEST_COUNT),
        before=_read_offset(known, "before"),
        after=_read_offset(known, "after"),
        round_trip_ns=_integer(known.get("round_trip_ns"), 0, _LARGEST_NS),
        duration_ns=_integer(known.get("duration_ns"), 0, _LARGEST_NS),
        problem=problem,
    )


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


def _integer(value: object, lowest: int, highest: int) -> int | None:
    # True is an integer in Python, but no figure.
    if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
        return int(value)
    return None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"of type {printable(type(value).__name__, _CODE)}"
