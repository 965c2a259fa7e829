"""The text of the metrics, read back as Prometheus does and checked by the rules of ``promtool check metrics``."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.resync_service import module

metrics, result = module("metrics"), module("result")
errors, notices = module("_errors", "guest_agent"), module("_watch.notices", "guest_agent")

GUEST = notices.WatchedGuest("qemu:///system", "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b", "web1")
OFFSET, RESIDUAL, UNTIL_CORRECTED = (
    f"qga_resync_{name}_seconds" for name in ("offset_found", "residual", "resume_to_corrected")
)
NOT_CONVERGED = errors.NotConvergedError("why")


def result_of(status: str, before_ns: int | None = None, after_ns: int | None = None, **others: Any) -> Any:
    after = None if after_ns is None else SimpleNamespace(ns=after_ns)
    report = None if before_ns is None else SimpleNamespace(before=SimpleNamespace(ns=before_ns), after=after)
    return result.ResyncResult(GUEST, "restored", status, report=report, **others)


def read(counted: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values by the sample's name and its label values, in order."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(counted.text()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def counted_of(*results: Any) -> dict[str, dict[tuple[str, ...], float]]:
    counted = metrics.Metrics(())
    for each in results:
        counted.add(each)
    return read(counted)


def test_resyncs_are_counted_by_cause_result_and_code() -> None:
    failed = result_of("failed", error=errors.UnresponsiveError("why"))
    assert counted_of(result_of("corrected"), result_of("corrected"), failed)["qga_resync_total"] == {
        ("restored", "corrected", ""): 2,
        ("restored", "failed", "unresponsive"): 1,
    }


def test_offsets_and_residuals_count_by_their_absolute_value() -> None:
    found = counted_of(
        result_of("corrected", -20_000_000_000, -50_000, resume_to_step_ns=80_000_000),
        result_of("unchanged", 2_000_000),
        result_of("skipped"),
    )
    counts = {name: found[f"{name}_count"][()] for name in (OFFSET, RESIDUAL, UNTIL_CORRECTED)}
    assert counts == {OFFSET: 2, RESIDUAL: 1, UNTIL_CORRECTED: 1}
    sums = {name: found[f"{name}_sum"][()] for name in counts}
    assert sums == pytest.approx({OFFSET: 20.002, RESIDUAL: 0.00005, UNTIL_CORRECTED: 0.08})
    assert [found[f"{OFFSET}_bucket"][bound,] for bound in ("10", "60")] == [1, 2]


@pytest.mark.parametrize("claimed_ns", [100 * 365 * 86400 * 10**9, -(2**62)])
def test_one_guests_claim_does_not_dominate_the_sums(claimed_ns: int) -> None:
    usual = [result_of("corrected", -20_000_000_000, 50_000, resume_to_step_ns=80_000_000)] * 99
    honest = counted_of(*usual)
    found = counted_of(
        *usual,
        result_of("failed", claimed_ns, claimed_ns, error=NOT_CONVERGED, resume_to_step_ns=1),
        result_of("corrected", 1, 1, resume_to_step_ns=abs(claimed_ns)),
    )
    for name, most in ((OFFSET, 2592000), (RESIDUAL, 1), (UNTIL_CORRECTED, 120)):
        assert found[f"{name}_sum"][()] - honest[f"{name}_sum"][()] <= most + 0.001

        beyond = [each[f"{name}_bucket"]["+Inf",] - each[f"{name}_bucket"][f"{most}",] for each in (found, honest)]
        assert beyond == [1, 0]


def test_only_corrected_guests_have_a_duration_and_only_stepped_guests_a_residual() -> None:
    failed = result_of("failed", 10**9, 10**9, error=NOT_CONVERGED, resume_to_step_ns=1)
    found = counted_of(failed, result_of("slewing", 200_000_000, 199_000_000))
    assert found["qga_resync_total"] == {("restored", "failed", "not_converged"): 1, ("restored", "slewing", ""): 1}
    counts = [found[f"{name}_count"][()] for name in (OFFSET, RESIDUAL, UNTIL_CORRECTED)]
    assert counts == [2, 1, 0]


def test_hypervisors_and_running_resyncs_are_reported() -> None:
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


def test_names_types_and_help_texts_follow_the_rules_of_promtool() -> None:
    counted = metrics.Metrics(())
    counted.add(result_of("corrected", 1, 1, resume_to_step_ns=1))
    counted.connected["qemu:///system"] = True
    text = counted.text()
    assert text.endswith("\n")
    families = list(text_string_to_metric_families(text))
    assert len(families) == 7
    for family in families:
        assert family.documentation
        assert family.samples
        # The parser removes a counter's suffix from its name.
        declared = f"{family.name}_total" if family.type == "counter" else family.name
        assert text.count(f"# TYPE {declared} ") == text.count(f"# HELP {declared} ") == 1
        # Only a counter's name ends in _total; units are base units; no name contains its type.
        assert declared.endswith("_total") == (family.type == "counter")
        assert not any(word in declared for word in ("_ns", "_ms", "_count", "_bucket", "histogram", "gauge"))
        bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
        assert bounds == sorted(bounds)


def test_a_value_counts_in_its_bucket_and_all_larger_ones() -> None:
    counted = metrics.Histogram((0.00001, 0.1, 1, 2592000))
    assert {count for _bound, count in counted.cumulative()} == {0}
    for value in (0.0, 0.1, 0.5, 5.0, 1e9):
        counted.observe(value)
    assert list(counted.cumulative()) == [("1e-05", 1), ("0.1", 2), ("1", 3), ("2592000", 4), ("+Inf", 5)]
    assert counted.count == 5
