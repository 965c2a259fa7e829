"""The metrics' text, read back as Prometheus does, and held against the rules of ``promtool check metrics``."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.resync_service import module

metrics, record = module("metrics"), module("record")
errors, news = module("_errors", "guest_agent"), module("_watch.notices", "guest_agent")

GUEST = news.WatchedGuest("qemu:///system", "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b", "web1")


def report(before_ns: int, after_ns: int | None) -> Any:
    after = None if after_ns is None else SimpleNamespace(ns=after_ns)
    return SimpleNamespace(before=SimpleNamespace(ns=before_ns), after=after)


def record_of(result: str, **others: Any) -> Any:
    return record.Record(GUEST, "restored", result, **others)


def read(counted: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the sample's name, and by the values of its labels in their order."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(counted.text()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_what_came_of_guests_is_counted_by_cause_result_and_code() -> None:
    counted = metrics.Metrics(())
    counted.add(record_of("corrected"))
    counted.add(record_of("corrected"))
    counted.add(record_of("failed", error=errors.UnresponsiveError("why")))
    assert read(counted)["qga_resync_total"] == {
        ("restored", "corrected", ""): 2,
        ("restored", "failed", "unresponsive"): 1,
    }


def test_offsets_and_residuals_count_whatever_their_sign() -> None:
    counted = metrics.Metrics(())
    counted.add(record_of("corrected", report=report(-20_000_000_000, -50_000), resume_to_step_ns=80_000_000))
    counted.add(record_of("unchanged", report=report(2_000_000, None)))
    counted.add(record_of("skipped"))
    found = read(counted)
    assert found["qga_resync_offset_found_seconds_count"][()] == 2
    assert found["qga_resync_offset_found_seconds_sum"][()] == pytest.approx(20.002)
    assert found["qga_resync_offset_found_seconds_bucket"][("10",)] == 1
    assert found["qga_resync_offset_found_seconds_bucket"][("60",)] == 2
    assert found["qga_resync_residual_seconds_count"][()] == 1
    assert found["qga_resync_residual_seconds_sum"][()] == pytest.approx(0.00005)
    assert found["qga_resync_resume_to_corrected_seconds_count"][()] == 1
    assert found["qga_resync_resume_to_corrected_seconds_sum"][()] == pytest.approx(0.08)


CENTURY_NS = 100 * 365 * 86400 * 10**9


@pytest.mark.parametrize("claimed_ns", [CENTURY_NS, -2 * CENTURY_NS, 2**62])
def test_what_one_guest_claims_is_not_all_that_is_seen_of_the_sums(claimed_ns: int) -> None:
    counted = metrics.Metrics(())
    for _guest in range(99):
        counted.add(record_of("corrected", report=report(-20_000_000_000, 50_000), resume_to_step_ns=80_000_000))
    honest = read(counted)
    error = errors.NotConvergedError("why")
    counted.add(record_of("failed", report=report(claimed_ns, claimed_ns), error=error, resume_to_step_ns=1))
    counted.add(record_of("corrected", report=report(1, 1), resume_to_step_ns=abs(claimed_ns)))
    found = read(counted)
    for name, most in (
        ("qga_resync_offset_found_seconds", 2592000),
        ("qga_resync_residual_seconds", 1),
        ("qga_resync_resume_to_corrected_seconds", 120),
    ):
        assert found[f"{name}_sum"][()] - honest[f"{name}_sum"][()] <= most + 0.001
        # It is seen where it belongs.
        last_bound = f"{most:.10g}"
        beyond = found[f"{name}_bucket"]["+Inf",] - found[f"{name}_bucket"][last_bound,]
        assert beyond == 1
        assert honest[f"{name}_bucket"]["+Inf",] == honest[f"{name}_bucket"][last_bound,]


def test_a_guest_that_was_stepped_and_is_not_right_is_not_corrected() -> None:
    counted = metrics.Metrics(())
    error = errors.NotConvergedError("why")
    counted.add(record_of("failed", report=report(10**9, 10**9), error=error, resume_to_step_ns=1))
    found = read(counted)
    assert found["qga_resync_resume_to_corrected_seconds_count"][()] == 0
    assert found["qga_resync_residual_seconds_count"][()] == 1


def test_a_guest_that_is_being_slewed_has_no_residual() -> None:
    counted = metrics.Metrics(())
    counted.add(record_of("slewing", report=report(200_000_000, 199_000_000)))
    found = read(counted)
    assert found["qga_resync_total"] == {("restored", "slewing", ""): 1}
    assert found["qga_resync_offset_found_seconds_count"][()] == 1
    assert found["qga_resync_residual_seconds_count"][()] == 0


def test_hypervisors_and_what_is_in_progress_are_told() -> None:
    counted = metrics.Metrics(["test:///default"])
    uri = 'qemu+ssh://a/system?x="\\\n'
    counted.set_connected(uri, True)
    counted.set_connected("qemu:///system", True)
    counted.set_connected("qemu:///system", False)
    counted.begin()
    counted.begin()
    counted.end()
    found = read(counted)
    assert found["qga_resync_hypervisor_connected"] == {
        (uri,): 1,
        ("qemu:///system",): 0,
        ("test:///default",): 0,
    }
    assert found["qga_resync_in_progress"] == {(): 1}
    assert abs(found["qga_resync_start_time_seconds"][()] - time.time()) < 3600


def test_names_types_and_helps_are_as_promtool_wants_them() -> None:
    counted = metrics.Metrics(())
    counted.add(record_of("corrected", report=report(1, 1), resume_to_step_ns=1))
    counted.set_connected("qemu:///system", True)
    text = counted.text()
    assert text.endswith("\n")
    families = list(text_string_to_metric_families(text))
    assert len(families) == 7
    for family in families:
        assert family.documentation
        assert family.samples
        # The parser takes a counter's ending from its name.
        declared = f"{family.name}_total" if family.type == "counter" else family.name
        assert text.count(f"# TYPE {declared} ") == text.count(f"# HELP {declared} ") == 1
        # A counter's name ends in _total, and no other's; units are base units; no name tells its type.
        assert declared.endswith("_total") == (family.type == "counter")
        assert not any(word in declared for word in ("_ns", "_ms", "_count", "_bucket", "histogram", "gauge"))
        if family.type == "histogram":
            bounds = [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]
            assert bounds[-1] == "+Inf"
            assert bounds == sorted(bounds, key=float)


def test_a_value_counts_for_its_bound_and_all_above() -> None:
    counted = metrics.Histogram((0.00001, 0.1, 1, 2592000))
    for value in (0.0, 0.1, 0.5, 5.0, 1e9):
        counted.observe(value)
    assert list(counted.cumulative()) == [("1e-05", 1), ("0.1", 2), ("1", 3), ("2592000", 4), ("+Inf", 5)]
    assert counted.count == 5


@pytest.mark.parametrize("claimed", [2592001.0, 1e9, 1e300, math.inf])
def test_in_the_sum_a_value_above_all_bounds_counts_as_the_last_bound(claimed: float) -> None:
    counted = metrics.Histogram((0.1, 1, 2592000))
    counted.observe(0.5)
    counted.observe(claimed)
    assert counted.sum == 2592000.5
    assert list(counted.cumulative()) == [("0.1", 0), ("1", 1), ("2592000", 1), ("+Inf", 2)]


def test_without_values_all_are_zero() -> None:
    assert list(metrics.Histogram((1,)).cumulative()) == [("1", 0), ("+Inf", 0)]
