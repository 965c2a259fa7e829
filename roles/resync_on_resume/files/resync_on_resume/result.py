# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a resync of one guest, as the log and the metrics show it."""

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

# Neither the service nor the agent is at fault: the guest must not be resynced, or does not exist.
_SKIPPED_ERRORS = (OptedOutError, NotConfiguredError, NotRunningError, NotFoundError, GuestReplacedError)

_FIGURES = (
    "method",
    "offset_before_ns",
    "uncertainty_before_ns",
    "offset_after_ns",
    "uncertainty_after_ns",
    "attempts",
    "duration_ns",
)


class ResyncResult(NamedTuple):
    """``cause`` is one of those in ``guest_agent._watch.causes``. ``status`` is logged as ``result``.

    ``resume_to_step_ns``: from libvirt's event to the last step; None if there was no step, or no event.
    ``became``: what happened to a withdrawn guest.
    """

    guest: WatchedGuest
    cause: str
    status: str
    report: ResyncReport | None = None
    error: QgaError | None = None
    resume_to_step_ns: int | None = None
    became: str | None = None

    @property
    def should_retry(self) -> bool:
        """Return whether the hypervisor could not be reached, and not because of this guest."""
        return isinstance(self.error, HypervisorUnavailableError) and not self.error.in_call

    @property
    def code(self) -> str:
        """The error's code; empty without an error."""
        return "" if self.error is None else self.error.code

    @property
    def priority(self) -> int:
        return WARNING if self.status == FAILED else INFO

    def fields(self) -> Iterator[tuple[str, object]]:
        """Yield the fields of the log line, in order."""
        yield from (("guest", self.guest.name), ("uuid", self.guest.uuid), ("uri", self.guest.uri))
        yield from (("cause", self.cause), ("result", self.status), ("became", self.became))
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


def result_of(stale: Stale, report: ResyncReport | None, error: QgaError | None) -> ResyncResult:
    """``report``: None if the guest's clock could not be read. ``error``: None if the resync succeeded."""
    stepped_at_ns = None if report is None or stale.cause in causes.SCAN_CAUSES else report.stepped_at_ns
    return ResyncResult(
        stale.guest,
        stale.cause,
        report.status if error is None and report is not None else _failed(stale.cause, error),
        report,
        None if error is None else detached(error),
        None if stepped_at_ns is None else stepped_at_ns - stale.since_ns,
    )


def _failed(cause: str, error: QgaError | None) -> str:
    """A scan finds guests without an agent, too. Those are skipped."""
    has_no_agent = cause in causes.SCAN_CAUSES and isinstance(error, NotConnectedError)
    return SKIPPED if has_no_agent or isinstance(error, _SKIPPED_ERRORS) else FAILED
