# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as data for programs. Its form is documented with the filter ``fleet_report_json``.

Keys are only added. A change of any other kind needs another ``schema``.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ...module_utils._clock.figures import with_twins
from .format import UNKNOWN, utc
from .model import (
    STATUSES,
    Fleet,
    Header,
    Hypervisor,
    Offset,
    Problem,
    ReportedGuest,
    Settings,
    Tally,
    tally,
)
from .overview import verdict

SCHEMA = 1

Document = Dict[str, Any]


def document(fleet: Fleet, header: Header) -> Document:
    made = verdict(fleet)
    return {
        "schema": SCHEMA,
        "header": _header(header),
        "settings": _settings(fleet.settings),
        "summary": {
            **totals(fleet),
            "verdict": " ".join(sentence.text for sentence in made.sentences),
        },
        "hypervisors": [_hypervisor(each) for each in fleet.hypervisors],
        "guests": [_guest(each) for each in fleet.guests],
        "not_found": list(fleet.not_found),
    }


def totals(fleet: Fleet, statuses: tuple[str, ...] = STATUSES) -> dict[str, int]:
    """Return the numbers of guests and hypervisors, and of each kind of failure."""
    beyond = {"beyond_tolerance": sum(guest.is_beyond for guest in fleet.guests)} if statuses == STATUSES else {}
    return {
        **_counts(fleet.tally, statuses),
        **beyond,
        "not_found": len(fleet.not_found),
        "hypervisors": fleet.size,
        "hypervisors_failed": fleet.lost,
        "hypervisors_unsynchronized": sum(each.is_unsynchronized for each in fleet.hypervisors),
    }


def _counts(total: Tally, statuses: tuple[str, ...] = STATUSES) -> dict[str, int]:
    return {"total": total.total, **{status: total.by_status[status] for status in statuses}}


def _header(header: Header) -> Document:
    return {
        "title": header.title,
        "play": _known(header.play),
        "collection": _known(header.collection),
        "collection_version": _known(header.version),
        "core": _known(header.core),
        "controller": _known(header.controller),
        "inventory": list(header.inventory),
        "started_at": None if header.started_ns is None else utc(header.started_ns, "T", "Z"),
        "made_at": utc(header.made_ns, "T", "Z"),
        **with_twins({"duration_ns": header.duration_ns}),
    }


def _settings(settings: Settings) -> Document:
    return {**with_twins({"tolerance_ns": settings.tolerance_ns}), "check_mode": settings.check_mode}


def _hypervisor(hypervisor: Hypervisor) -> Document:
    clock = hypervisor.clock
    return {
        "host": hypervisor.host,
        "error": _problem(hypervisor.problem),
        "host_clock": None
        if clock is None
        else {
            "synchronized": clock.synchronized,
            **with_twins({"max_error_ns": clock.max_error_ns}),
            "source": _known(clock.source),
        },
        "summary": _counts(tally(hypervisor.guests)),
    }


def _guest(guest: ReportedGuest) -> Document:
    return {
        "hypervisor": guest.host,
        "name": guest.target,
        "label": guest.label,
        "vm_name": guest.name if guest.vm_name_from else None,
        "vm_name_from": guest.vm_name_from or None,
        "uuid": _known(guest.uuid),
        "status": guest.status,
        "within_tolerance": guest.within,
        "method": _known(guest.method),
        "attempts": guest.attempts,
        **_offset("_before", guest.before),
        **_offset("_after", guest.after),
        **_offset("", guest.at_the_end),
        **with_twins({"round_trip_ns": guest.round_trip_ns, "duration_ns": guest.duration_ns}),
        "error": _problem(guest.problem) if guest.status == "failed" else None,
        "reason": _problem(guest.problem) if guest.status == "skipped" else None,
        "warnings": list(guest.warnings),
    }


def _offset(when: str, offset: Offset | None) -> Mapping[str, object]:
    ns, uncertainty_ns = (None, None) if offset is None else (offset.ns, offset.uncertainty_ns)
    return with_twins({f"offset{when}_ns": ns, f"uncertainty{when}_ns": uncertainty_ns})


def _problem(problem: Problem | None) -> Document | None:
    if problem is None:
        return None
    return {"code": _known(problem.code), "message": _known(problem.message), "hint": problem.hint}


def _known(text: str) -> str | None:
    return None if text in ("", UNKNOWN) else text
