# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Doing one thing to many guests at once. What becomes of one of them never holds up or hides the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Iterable, Mapping, NamedTuple, Sequence

from .._agent import GuestAgent
from .._errors import (
    DeadlineError,
    GuestsFailedError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    OptedOutError,
    detached,
)
from .._event_loop.tasks import Deadline
from .._protocol.errors import QgaError
from .._untrusted import visible
from .runner import Attendance, Guest, Runner

# A guest that was matched by a pattern, and is like this, is none of those that were meant.
_UNUSABLE = (NotRunningError, NotConfiguredError, NotConnectedError, OptedOutError, NotFoundError)

_NAMED_FAILURES = 5


@dataclass(frozen=True)
class Outcome:
    """What came of one guest: its entry in the results, and what is said beside it.

    ``status`` is for a guest that did not fail, in one word, ``message`` a sentence for a task that succeeds.
    """

    entry: Mapping[str, Any]
    status: str = "done"
    changed: bool = False
    diff: Mapping[str, str] | None = None
    message: str | None = None
    warnings: tuple[str, ...] = ()
    error: QgaError | None = None

    def __post_init__(self) -> None:
        if self.error is not None:
            detached(self.error)  # a thousand of them are kept


Work = Callable[[GuestAgent], Awaitable[Outcome]]


class Attended(NamedTuple):
    """A guest, and what came of it. ``status`` is the outcome's, or "skipped" or "failed"."""

    guest: Guest
    status: str
    outcome: Outcome

    def as_dict(self) -> dict[str, Any]:
        """The guest's entry in the results."""
        entry: dict[str, Any] = {"name": self.guest.name, "status": self.status, **self.outcome.entry}
        if self.guest.uuid is not None:
            entry["uuid"] = self.guest.uuid
        if self.outcome.warnings:
            entry["warnings"] = list(self.outcome.warnings)
        return entry


def failed(guest: Guest, error: QgaError) -> Attended:
    if guest.is_optional and isinstance(error, _UNUSABLE):
        return Attended(guest, "skipped", Outcome({"reason": error.as_dict()}))
    return Attended(guest, "failed", Outcome({"error": error.as_dict()}, error=error))


def defect(error: Exception) -> QgaError:
    """For what nobody foresaw: a guest must not be able to end the module by it."""
    return QgaError(
        f"a defect of this collection: {type(error).__name__}: {visible(str(error))}",
        "Please report it, with what the task was and the version of the agent.",
    )


def ended(guest: Guest, outcome: Outcome) -> Attended:
    return Attended(guest, outcome.status if outcome.error is None else "failed", outcome)


def attend(
    guests: Sequence[Guest], work: Work, attendance: Attendance, concurrency: int, deadline: Deadline
) -> tuple[Attended, ...]:
    """Do it to all guests; what came of each, in their order.

    ``concurrency`` is how many are worked on at the same time; at the ``deadline``, what is not done by then is failed.
    """
    return _Run(guests, work, attendance, deadline).attend(concurrency)


class _Run:
    """One thing that is being done to all; holds what became of each by its number."""

    def __init__(self, guests: Sequence[Guest], work: Work, attendance: Attendance, deadline: Deadline) -> None:
        self._guests = guests
        self._work = work
        self._attendance = attendance
        self._deadline = deadline
        self._attended: dict[int, Attended] = {}
        self._runner = Runner()

    def attend(self, concurrency: int) -> tuple[Attended, ...]:
        from .._event_loop.multiplexer import Multiplexer  # one guest does without

        multiplexer: Multiplexer[Attended] = Multiplexer(concurrency, self._attended.__setitem__)
        begun = multiplexer.run(map(self._attend, self._guests), self._deadline.at, lambda: self._late("it was done"))
        return tuple(
            self._attended.get(number) or self._missed(guest, "it came to an end" if number < begun else "it was begun")
            for number, guest in enumerate(self._guests)
        )

    def _late(self, what: str) -> DeadlineError:
        return DeadlineError(f"the deadline of {self._deadline.seconds:g} s passed before {what}")

    def _missed(self, guest: Guest, what: str) -> Attended:
        return failed(guest, guest.problem or self._late(what))

    async def _attend(self, guest: Guest) -> Attended:
        if guest.problem is not None:
            return failed(guest, guest.problem)
        try:
            return ended(guest, await self._runner.run(guest, self._work, self._attendance))
        except QgaError as error:
            return failed(guest, error)
        except Exception as error:  # pylint: disable=broad-exception-caught  # met with one guest, it is not all's
            return failed(guest, defect(error))


# ---------------------------------------------------------------------------------------------------------- the verdict


def count(attended: Iterable[Attended], statuses: Sequence[str]) -> dict[str, int]:
    """How many there are in all, and of each status."""
    found = Counter(each.status for each in attended)
    return {"total": sum(found.values()), **{status: found[status] for status in (*statuses, "skipped", "failed")}}


def verdict(attended: Sequence[Attended], fail_on: str) -> GuestsFailedError | None:
    """The error of the whole run. ``fail_on``: "any" guest that failed, "all" that were not skipped, or "none"."""
    bad = [each for each in attended if each.status == "failed"]
    tried = [each for each in attended if each.status != "skipped"]
    if not bad or fail_on == "none" or (fail_on == "all" and len(bad) < len(tried)):
        return None
    named = [f"{each.guest.name} ({each.outcome.error.code})" for each in bad[:_NAMED_FAILURES] if each.outcome.error]
    more = f" and {len(bad) - len(named)} more" if len(bad) > len(named) else ""
    return GuestsFailedError(f"{len(bad)} of {len(attended)} guests failed: {', '.join(named)}{more}")
