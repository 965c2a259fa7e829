from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.codes import HINTS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import UNKNOWN
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import (
    STATUSES,
    WORST_FIRST,
    HostClock,
    Offset,
    Problem,
    ReportedGuest,
    read_fleet,
    tally,
    worst_first,
)

from tests.support.fleet_results import corrected, host, host_clock, left_beyond

CORRECTED = corrected("web1", uuid="1e1a6f0c")
BEFORE = Offset(-20_973_581_442, 571_223)
ERROR = {"code": "not_running", "message": "domain 'web1' is shut off", "hint": "Start it."}


def unreadable(message: str) -> Problem:
    return Problem("unreadable_result", message, HINTS["unreadable_result"])


def read(**entry: Any) -> ReportedGuest:
    """Return the guest that is read from one entry."""
    return read_all(entry)[0]


def read_all(*entries: Any) -> tuple[ReportedGuest, ...]:
    (hypervisor,) = read_fleet([{"host": "hv1", "guests": list(entries), "error": None}])
    return hypervisor.guests


def test_a_good_entry_keeps_all_its_figures() -> None:
    assert read(**CORRECTED) == ReportedGuest(
        target="web1",
        name="web1",
        address="",
        vm_name_from="",
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
    assert guest.problem == unreadable("its result has no known status")


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
def test_a_failed_guest_has_an_error_and_a_skipped_one_a_reason(entry: dict[str, Any], problem: Problem) -> None:
    assert read(**entry).problem == problem


@pytest.mark.parametrize("results", [None, "hosts", {"host": "hv1"}, 5, b"x"])
def test_results_that_are_not_a_list_are_refused(results: object) -> None:
    with pytest.raises(TypeError, match=r"^the results must be a list with a dict for each hypervisor, not "):
        read_fleet(results)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("hv1", unreadable("its results are of type str, not a dict")),
        (None, unreadable("its results are nothing, not a dict")),
        ({"host": "hv1", "guests": "web1"}, unreadable("its guests are of type str, not a list")),
        ({"host": "hv1", "guests": None, "error": None}, None),
    ],
)
def test_a_hypervisor_that_cannot_be_read_is_a_problem(item: object, problem: Problem | None) -> None:
    (hypervisor,) = read_fleet([item])
    assert (hypervisor.guests, hypervisor.problem) == ((), problem)


def test_the_largest_offset_keeps_its_sign() -> None:
    counts = tally([read(**{**CORRECTED, "offset_before_ns": ns, "offset_after_ns": -ns}) for ns in (5, -9, 7)])
    assert (counts.largest_before[1].ns, counts.largest_left[1].ns) == (-9, 9)
    assert tally([]).largest_before is None


def test_the_largest_offset_left_may_be_of_a_clock_that_was_not_stepped() -> None:
    assert tally([read(**CORRECTED), read(**left_beyond("web2"))]).largest_left[1].ns == 90_000_000_000


def test_a_clock_that_was_left_alone_ends_where_it_was() -> None:
    alone = {**CORRECTED, "offset_after_ns": None, "uncertainty_after_ns": None}
    ends = {status: read(**{**alone, "status": status}).at_the_end for status in STATUSES}
    assert ends == {
        **dict.fromkeys(("would_correct", "unchanged", "slewing", "skipped"), BEFORE),
        **dict.fromkeys(("corrected", "failed")),
    }


def test_the_most_urgent_guests_come_first() -> None:
    guests = [
        read(**{**CORRECTED, "status": status, "name": name, "offset_before_ns": ns})
        for status in STATUSES
        for name, ns in (("b", 1), ("a", 1), ("c", -2), ("d", None))
    ]
    ordered = worst_first(guests)
    assert [guest.status for guest in ordered[::4]] == list(WORST_FIRST)
    assert [guest.name for guest in ordered[:4]] == ["c", "a", "b", "d"]
    assert worst_first([*guests, read(**left_beyond("web"))])[0].name == "web"


SOCKET = "/var/run/qemu-server/100.qga"


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"name": "web1"}, ("web1", "", "web1", "1e1a6f0c")),
        ({"name": SOCKET}, ("100", "", "100", f"{SOCKET}\n1e1a6f0c")),
        (
            {"name": SOCKET, "vm_name": "web1", "vm_name_from": "node"},
            ("web1", "100", "web1 (100)", f"{SOCKET}\n1e1a6f0c"),
        ),
        # The guest's own claim.
        *(
            (
                {"name": SOCKET, "vm_name": "web1", "vm_name_from": where},
                ("web1", "100", "web1 (100)", f"{SOCKET}\nThe guest's agent reports this name.\n1e1a6f0c"),
            )
            for where in ("agent", None, "elsewhere")
        ),
        ({"name": SOCKET, "vm_name": "100", "vm_name_from": "node"}, ("100", "", "100", f"{SOCKET}\n1e1a6f0c")),
        ({"name": SOCKET, "vm_name": ["web1"]}, ("100", "", "100", f"{SOCKET}\n1e1a6f0c")),
    ],
)
def test_a_guest_has_its_vms_name_beside_a_short_form_of_its_path(
    entry: dict[str, Any], shown: tuple[str, str, str, str]
) -> None:
    guest = read(**{**CORRECTED, **entry})
    assert (guest.name, guest.address, guest.label, guest.details) == shown
    assert guest.target == entry["name"]


@pytest.mark.parametrize(
    ("given", "clock"),
    [
        (host_clock(), HostClock(True, 1_530_000, "chronyd")),
        (host_clock(False, None), HostClock(False, None, "")),
        ({"synchronized": "yes", "max_error_ns": -1, "source": "\x1b"}, HostClock(None, None, "\\u001b")),
        *((nothing, None) for nothing in (None, {}, [], "synchronized", host_clock(None, None))),
    ],
)
def test_the_clock_of_a_hypervisor_may_be_unknown(given: object, clock: HostClock | None) -> None:
    (hypervisor,) = read_fleet([host("hv1", host_clock=given)])
    assert hypervisor.clock == clock
    assert hypervisor.is_unsynchronized == (clock is not None and clock.synchronized is False)


@pytest.mark.parametrize(
    ("given", "warnings"), [(["one", 2, "\x1b"], ("one", UNKNOWN, "\\u001b")), ("one", ()), (["x"] * 99, ("x",) * 10)]
)
def test_warnings_are_short_and_few(given: object, warnings: tuple[str, ...]) -> None:
    assert read(**{**CORRECTED, "warnings": given}).warnings == warnings
