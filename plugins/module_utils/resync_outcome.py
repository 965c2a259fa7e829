# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a resync comes to, for whoever attends to one guest or to many."""

from __future__ import annotations

from .fleet import Outcome
from .resync import ResyncReport
from .timestamps import format_instant

CORRECTED = "corrected"
UNCHANGED = "unchanged"


def status_of(report: ResyncReport) -> str:
    """In one word, for a report without an error."""
    return CORRECTED if report.changed else UNCHANGED


def outcome_of(report: ResyncReport) -> Outcome:
    return Outcome(
        entry=report.as_dict(),
        status=status_of(report),
        changed=report.changed,
        diff={
            "before": f"{format_instant(report.guest_time_before_ns)}\n",
            "after": f"{format_instant(report.guest_time_after_ns)}\n",
        },
        warnings=report.warnings,
        error=report.error,
    )
