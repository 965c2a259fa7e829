from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import UNKNOWN
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import (
    STATUSES,
    WORST_FIRST,
    Offset,
    Problem,
    ReportedGuest,
    read_fleet,
    tally,
    worst_first,
)

from tests.support.fleet_results import corrected

CORRECTED = corrected("web1", uuid="1e1a6f0c")
BEFORE = Offset(-20_973_581_442, 571_223)
ERROR = {"code": "not_running", "message": "domain web1 is shut off", "hint": "Start it."}


def read(**entry: Any) -> ReportedGuest:
    """The guest that comes of one entry."""
    return read_all(entry)[0]


def read_all(*entries: Any) -> tuple[ReportedGuest, ...]:
    (hypervisor,) = read_fleet([{"host": "hv1", "guests": list(entries), "error": None}])
    return hypervisor.guests


def test_a_good_entry_keeps_all_its_figures() -> None:
    assert read(**CORRECTED) == ReportedGuest(
        name="web1",
        host="hv1",
        uuid="1e1a6f0c",
        status="corrected",
        within=True,
        method="set_time",
        attempts=1,
        before=BEFORE,
        after=Offset(-48_211, 516_873),
        round_trip_ns=1_012_904,
        duration_ns=981_235_887,
        problem=None,
    )


@pytest.mark.parametrize(
    "value",
    [None, "5", 5.0, math.nan, math.inf, True, [], {}, b"5", 2**63, -(2**63), 10**5000],
    ids=lambda value: f"{type(value).__name__}",
)
def test_a_figure_of_a_wrong_type_is_unknown(value: object) -> None:
    figures = {name: value for name in CORRECTED if name.endswith("_ns")}
    guest = read(**{**CORRECTED, **figures, "attempts": value, "within_tolerance": 1, "method": 7, "name": value})
    assert (guest.before, guest.after, guest.round_trip_ns, guest.duration_ns) == (None, None, None, None)
    assert (guest.attempts, guest.within, guest.method) == (None, None, UNKNOWN)
    assert read(**{**CORRECTED, "uncertainty_before_ns": -1}).before == Offset(BEFORE.ns, None)


@pytest.mark.parametrize(
    "entry", [None, 7, "web1", [], {}, {"name": "web1"}, {"status": "fine"}, {"status": ["failed"]}]
)
def test_an_entry_without_status_counts_as_failed(entry: object) -> None:
    (guest,) = read_all(entry)
    assert guest.status == "failed"
    assert guest.problem == Problem("unreadable_result", "its result has no status that is known")


UNKNOWN_PROBLEM = Problem(UNKNOWN, UNKNOWN)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"status": "failed", "error": ERROR}, Problem(*ERROR.values())),
        ({"status": "skipped", "reason": ERROR}, Problem(*ERROR.values())),
        ({"status": "failed", "reason": ERROR}, UNKNOWN_PROBLEM),
        ({**CORRECTED, "error": None}, None),
        *(
            ({"status": "failed", "error": error}, UNKNOWN_PROBLEM)
            for error in ("not_running", 5, ["code"], {"code": 5, "message": None, "hint": []}, {})
        ),
    ],
)
def test_the_error_is_of_the_failed_and_the_reason_of_the_skipped(entry: dict[str, Any], problem: Problem) -> None:
    assert read(**entry).problem == problem


@pytest.mark.parametrize("results", [None, "hosts", {"host": "hv1"}, 5, b"x"])
def test_what_is_no_list_is_refused_in_a_sentence(results: object) -> None:
    with pytest.raises(TypeError, match=r"^the results of a fleet are a list with one dict per hypervisor, not "):
        read_fleet(results)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("hv1", Problem("unreadable_result", "its results are of type str, not a dict")),
        (None, Problem("unreadable_result", "its results are nothing, not a dict")),
        ({"host": "hv1", "guests": "web1"}, Problem("unreadable_result", "its guests are of type str, not a list")),
        ({"host": "hv1", "guests": None, "error": None}, None),
    ],
)
def test_a_hypervisor_that_cannot_be_read_is_a_problem(item: object, problem: Problem | None) -> None:
    (hypervisor,) = read_fleet([item])
    assert (hypervisor.guests, hypervisor.problem) == ((), problem)


def test_the_largest_offset_keeps_its_sign() -> None:
    counts = tally([read(**{**CORRECTED, "offset_before_ns": ns, "offset_after_ns": -ns}) for ns in (5, -9, 7)])
    assert (counts.largest_before[1].ns, counts.largest_after[1].ns) == (-9, 9)
    assert tally([]).largest_before is None


def test_a_clock_that_was_left_alone_stands_where_it_stood() -> None:
    alone = {**CORRECTED, "offset_after_ns": None, "uncertainty_after_ns": None}
    ends = {status: read(**{**alone, "status": status}).at_the_end for status in STATUSES}
    assert ends == {"corrected": None, "unchanged": BEFORE, "slewing": BEFORE, "skipped": BEFORE, "failed": None}


def test_what_needs_a_look_comes_first() -> None:
    guests = [
        read(**{**CORRECTED, "status": status, "name": name, "offset_before_ns": ns})
        for status in STATUSES
        for name, ns in (("b", 1), ("a", 1), ("c", -2), ("d", None))
    ]
    ordered = worst_first(guests)
    assert [guest.status for guest in ordered[::4]] == list(WORST_FIRST)
    assert [guest.name for guest in ordered[:4]] == ["c", "a", "b", "d"]
