# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came of one guest whose clock may have been stale."""

from __future__ import annotations

from typing import Iterator, Mapping, NamedTuple

from guest_agent._clock.report import ResyncReport
from guest_agent._errors import (
    GuestReplacedError,
    HypervisorUnavailableError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    OptedOutError,
    detached,
)
from guest_agent._protocol.errors import QgaError
from guest_agent._watch import causes
from guest_agent._watch.notices import Stale, WatchedGuest

from .log import INFO, WARNING

SKIPPED = "skipped"
FAILED = "failed"
WITHDRAWN = "withdrawn"
NOT_NEEDED = "not_needed"

# Nothing is wrong with the service or the guest's agent: the guest is not to be asked, or not there to be asked.
_NOT_TO_BE_ASKED = (OptedOutError, NotConfiguredError, NotRunningError, NotFoundError, GuestReplacedError)

_FIGURES = (
    "method",
    "offset_before_ns",
    "uncertainty_before_ns",
    "offset_after_ns",
    "uncertainty_after_ns",
    "attempts",
    "duration_ns",
)


class Record(NamedTuple):
    """``cause`` is one of those in ``guest_agent._watch.causes``.

    ``resume_to_step_ns`` is from when the cause was heard of to the last step; None without a step, and where nothing
    was heard of that happened to the guest. ``became``: what a guest did before it could be asked.
    """

    guest: WatchedGuest
    cause: str
    result: str
    report: ResyncReport | None = None
    error: QgaError | None = None
    resume_to_step_ns: int | None = None
    became: str | None = None

    @property
    def is_to_be_done_again(self) -> bool:
        """Whether it came to nothing for a reason that passes by itself, and is not the guest's."""
        return isinstance(self.error, HypervisorUnavailableError) and not self.error.in_call

    @property
    def code(self) -> str:
        """The error's, empty without one."""
        return "" if self.error is None else self.error.code

    @property
    def priority(self) -> int:
        return WARNING if self.result == FAILED else INFO

    def fields(self) -> Iterator[tuple[str, object]]:
        """For the log, in this order."""
        yield from (("guest", self.guest.name), ("uuid", self.guest.uuid), ("uri", self.guest.uri))
        yield from (("cause", self.cause), ("result", self.result), ("became", self.became))
        if self.report is not None:
            figures: Mapping[str, object] = self.report.as_dict()
            yield from ((name, figures[name]) for name in _FIGURES)
            yield "slewing_ns", self.report.slewing_ns or None
            yield "since_resume_ns", self.resume_to_step_ns
        if self.error is not None:
            yield from (("error", self.error.code), ("message", self.error.message))
            yield "hint", self.error.hint or None
        if self.report is not None and self.report.warnings:
            yield "warning", "; ".join(self.report.warnings)


def of_stale(stale: Stale, report: ResyncReport | None, error: QgaError | None) -> Record:
    """``report``: None, if the guest's clock could not be read. ``error``: None, if all went well."""
    stepped_at_ns = None if report is None or stale.cause in causes.OF_A_PASS else report.stepped_at_ns
    return Record(
        stale.guest,
        stale.cause,
        report.status if error is None and report is not None else _failed(stale.cause, error),
        report,
        None if error is None else detached(error),
        None if stepped_at_ns is None else stepped_at_ns - stale.since_ns,
    )


def _failed(cause: str, error: QgaError | None) -> str:
    """A guest without an agent is none of those that a pass is for."""
    is_of_no_use = cause in causes.OF_A_PASS and isinstance(error, NotConnectedError)
    return SKIPPED if is_of_no_use or isinstance(error, _NOT_TO_BE_ASKED) else FAILED
