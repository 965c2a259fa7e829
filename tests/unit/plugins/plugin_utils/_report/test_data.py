from __future__ import annotations

from typing import Any

from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.data import document
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Fleet, Header, Settings, read_fleet

from tests.support.fleet_results import corrected, failed, host, host_clock, left_beyond, skipped, small_fleet

PROBLEM = {"code": "not_connected", "message": "no agent", "hint": "Install it."}


def made(*hypervisors: Any) -> dict[str, Any]:
    return document(Fleet.of(read_fleet(hypervisors), Settings(100_000_000, False)), Header("Clocks", 0))


def test_a_guest_has_its_figures_in_both_units() -> None:
    socket = "/var/run/qemu-server/100.qga"
    (guest,) = made(host("hv1", corrected(socket, vm_name="web1", vm_name_from="agent", warnings=["slow"])))["guests"]
    assert guest == {
        "hypervisor": "hv1",
        "name": socket,
        "label": "web1 (100)",
        "vm_name": "web1",
        "vm_name_from": "agent",
        "uuid": None,
        "status": "corrected",
        "within_tolerance": True,
        "method": "set_time",
        "attempts": 1,
        "offset_before": -20.973581442,
        "offset_before_ns": -20_973_581_442,
        "uncertainty_before": 0.000571223,
        "uncertainty_before_ns": 571_223,
        "offset_after": -0.000048211,
        "offset_after_ns": -48_211,
        "uncertainty_after": 0.000516873,
        "uncertainty_after_ns": 516_873,
        "offset": -0.000048211,
        "offset_ns": -48_211,
        "uncertainty": 0.000516873,
        "uncertainty_ns": 516_873,
        "round_trip": 0.001012904,
        "round_trip_ns": 1_012_904,
        "duration": 0.981235887,
        "duration_ns": 981_235_887,
        "error": None,
        "reason": None,
        "warnings": ["slow"],
    }


def test_an_error_or_a_reason_says_why() -> None:
    one, other = made(host("hv1", failed("a"), skipped("b")))["guests"]
    assert (one["error"], one["reason"], one["offset_before"], one["method"]) == (PROBLEM, None, None, None)
    assert (other["error"], other["reason"]["code"]) == (None, "not_running")


def test_the_summary_counts_guests_and_hypervisors() -> None:
    content = made(*small_fleet(), {**host("hv9", error=PROBLEM), "not_found": ["gone"]})
    assert content["summary"] == {
        "total": 24,
        "corrected": 15,
        "would_correct": 0,
        "unchanged": 6,
        "slewing": 0,
        "skipped": 2,
        "failed": 1,
        "beyond_tolerance": 1,
        "not_found": 1,
        "hypervisors": 4,
        "hypervisors_failed": 1,
        "hypervisors_unsynchronized": 1,
        "verdict": "1 guest is beyond tolerance: mail6 on hv3, 1 min 30 s ahead. 1 of 4 hypervisors failed. "
        "Not found on any hypervisor that answered: gone. 1 of 24 guests failed. 2 of 24 guests were skipped. "
        "The clock of hypervisor hv3 is not synchronized.",
    }
    assert content["not_found"] == ["gone"]
    clocks = {each["host"]: each["host_clock"] for each in content["hypervisors"]}
    assert clocks["hv1"] == {"synchronized": True, "max_error": 0.00153, "max_error_ns": 1_530_000, "source": "chronyd"}
    assert clocks["hv9"] is None
    assert content["hypervisors"][3]["error"] == PROBLEM


def test_unknown_values_are_null() -> None:
    content = made(host("hv1", left_beyond("a"), host_clock=host_clock(None, 5)))
    assert content["hypervisors"][0]["host_clock"]["source"] is None
    assert content["header"]["started_at"] is None
    assert content["header"]["collection_version"] is None
