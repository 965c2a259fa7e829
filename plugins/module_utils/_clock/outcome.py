# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a resync comes to, for whoever attends to one guest or to many."""

from __future__ import annotations

from .._fleet.results import Outcome
from .._linux.timex import slew_duration_ns
from .report import ResyncReport
from .timestamps import SECOND_NS, format_instant

CORRECTED = "corrected"
UNCHANGED = "unchanged"
SLEWING = "slewing"


def status_of(report: ResyncReport) -> str:
    """In one word, for a report without an error."""
    if report.slewing_ns and not report.within_tolerance:
        return SLEWING
    return CORRECTED if report.changed else UNCHANGED


def message_of(report: ResyncReport) -> str | None:
    """The slew that is under way, or would be begun in a dry run; None if there is none."""
    if not report.slewing_ns or report.error is not None:
        return None
    is_planned = report.changed and report.after is None
    verb = "would glide" if is_planned else "glides"
    way = "back" if report.slewing_ns < 0 else "forward"
    seconds, duration = (ns / SECOND_NS for ns in (abs(report.slewing_ns), slew_duration_ns(report.slewing_ns)))
    return f"its clock {verb} {way} by {seconds:.3f} s within {duration:.0f} s"


def outcome_of(report: ResyncReport) -> Outcome:
    return Outcome(
        entry=report.as_dict(),
        status=status_of(report),
        changed=report.changed,
        diff={
            "before": f"{format_instant(report.guest_time_before_ns)}\n",
            "after": f"{format_instant(report.guest_time_after_ns)}\n",
        },
        message=message_of(report),
        warnings=report.warnings,
        error=report.error,
    )
