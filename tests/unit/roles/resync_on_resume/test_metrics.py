"""The metrics' text, read back as Prometheus does, and held against the rules of ``promtool check metrics``."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.resync_service import module

metrics, record = module("metrics"), module("record")
errors, notices = module("_errors", "guest_agent"), module("_watch.notices", "guest_agent")

GUEST = notices.WatchedGuest("qemu:///system", "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b", "web1")
OFFSET, RESIDUAL, UNTIL_CORRECTED = (
    f"qga_resync_{name}_seconds" for name in ("offset_found", "residual", "resume_to_corrected")
)
NOT_CONVERGED = errors.NotConvergedError("why")


def record_of(result: str, before_ns: int | None = None, after_ns: int | None = None, **others: Any) -> Any:
    after = None if after_ns is None else SimpleNamespace(ns=after_ns)
    report = None if before_ns is None else SimpleNamespace(before=SimpleNamespace(ns=before_ns), after=after)
    return record.Record(GUEST, "restored", result, report=report, **others)


def read(counted: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the sample's name, and by the values of its labels in their order."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(counted.text()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def counted_of(*records: Any) -> dict[str, dict[tuple[str, ...], float]]:
    counted = metrics.Metrics(())
    for each in records:
        counted.add(each)
    return read(counted)


def test_what_came_of_guests_is_counted_by_cause_result_and_code() -> None:
    failed = record_of("failed", error=errors.UnresponsiveError("why"))
    assert counted_of(record_of("corrected"), record_of("corrected"), failed)["qga_resync_total"] == {
        ("restored", "corrected", ""): 2,
        ("restored", "failed", "unresponsive"): 1,
    }


def test_offsets_and_residuals_count_whatever_their_sign() -> None:
    found = counted_of(
        record_of("corrected", -20_000_000_000, -50_000, resume_to_step_ns=80_000_000),
        record_of("unchanged", 2_000_000),
        record_of("skipped"),
    )
    counts = {name: found[f"{name}_count"][()] for name in (OFFSET, RESIDUAL, UNTIL_CORRECTED)}
    assert counts == {OFFSET: 2, RESIDUAL: 1, UNTIL_CORRECTED: 1}
    sums = {name: found[f"{name}_sum"][()] for name in counts}
    assert sums == pytest.approx({OFFSET: 20.002, RESIDUAL: 0.00005, UNTIL_CORRECTED: 0.08})
    assert [found[f"{OFFSET}_bucket"][bound,] for bound in ("10", "60")] == [1, 2]


@pytest.mark.parametrize("claimed_ns", [100 * 365 * 86400 * 10**9, -(2**62)])
def test_what_one_guest_claims_is_not_all_that_is_seen_of_the_sums(claimed_ns: int) -> None:
    usual = [record_of("corrected", -20_000_000_000, 50_000, resume_to_step_ns=80_000_000)] * 99
    honest = counted_of(*usual)
    found = counted_of(
        *usual,
        record_of("failed", claimed_ns, claimed_ns, error=NOT_CONVERGED, resume_to_step_ns=1),
        record_of("corrected", 1, 1, resume_to_step_ns=abs(claimed_ns)),
    )
    for name, most in ((OFFSET, 2592000), (RESIDUAL, 1), (UNTIL_CORRECTED, 120)):
        assert found[f"{name}_sum"][()] - honest[f"{name}_sum"][()] <= most + 0.001
        # It is seen where it belongs.
        beyond = [each[f"{name}_bucket"]["+Inf",] - each[f"{name}_bucket"][f"{most}",] for each in (found, honest)]
        assert beyond == [1, 0]


def test_only_a_guest_that_is_right_counts_as_corrected_and_only_one_that_was_stepped_has_a_residual() -> None:
    failed = record_of("failed", 10**9, 10**9, error=NOT_CONVERGED, resume_to_step_ns=1)
    found = counted_of(failed, record_of("slewing", 200_000_000, 199_000_000))
    assert found["qga_resync_total"] == {("restored", "failed", "not_converged"): 1, ("restored", "slewing", ""): 1}
    counts = [found[f"{name}_count"][()] for name in (OFFSET, RESIDUAL, UNTIL_CORRECTED)]
    assert counts == [2, 1, 0]


def test_hypervisors_and_what_is_in_progress_are_told() -> None:
    counted = metrics.Metrics(["test:///default"])
    uri = 'qemu+ssh://a/system?x="\\\n'
    counted.connected[uri] = True
    counted.connected["qemu:///system"] = True
    counted.connected["qemu:///system"] = False
    counted.in_progress = 1
    found = read(counted)
    links = {(uri,): 1, ("qemu:///system",): 0, ("test:///default",): 0}
    assert found["qga_resync_hypervisor_connected"] == links
    assert found["qga_resync_in_progress"] == {(): 1}
    assert abs(found["qga_resync_start_time_seconds"][()] - time.time()) < 3600


def test_names_types_and_helps_are_as_promtool_wants_them() -> None:
    counted = metrics.Metrics(())
    counted.add(record_of("corrected", 1, 1, resume_to_step_ns=1))
    counted.connected["qemu:///system"] = True
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
        # A counter's name ends in _total, and no other's; units are base units; no name has its type in it.
        assert declared.endswith("_total") == (family.type == "counter")
        assert not any(word in declared for word in ("_ns", "_ms", "_count", "_bucket", "histogram", "gauge"))
        bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
        assert bounds == sorted(bounds)


def test_a_value_counts_for_its_bound_and_all_above() -> None:
    counted = metrics.Histogram((0.00001, 0.1, 1, 2592000))
    assert {count for _bound, count in counted.cumulative()} == {0}
    for value in (0.0, 0.1, 0.5, 5.0, 1e9):
        counted.observe(value)
    assert list(counted.cumulative()) == [("1e-05", 1), ("0.1", 2), ("1", 3), ("2592000", 4), ("+Inf", 5)]
    assert counted.count == 5
