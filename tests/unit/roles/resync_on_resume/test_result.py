"""The result of a resync: its status, its fields for the log, and its code for the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.resync_service import module

result, log = module("result"), module("log")
causes, errors, notices = (module(name, "guest_agent") for name in ("_watch.causes", "_errors", "_watch.notices"))

GUEST = notices.WatchedGuest("qemu:///system", "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b", "web1")
SINCE_NS = 5_000_000_000
STEPPED_NS = 5_081_234_567
NAMED = "resync guest=web1 uuid=1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b uri=qemu:///system"


class Report:
    """The parts of a resync's report that a result reads."""

    status = module("_clock.report", "guest_agent").ResyncReport.status

    def __init__(self, **figures: Any) -> None:
        self.changed = True
        self.within_tolerance: bool | None = True
        self.slewing_ns = 0
        self.is_planned = False
        self.error = None
        self.warnings: tuple[str, ...] = ()
        self.stepped_at_ns: int | None = STEPPED_NS
        self.__dict__.update(figures)

    def as_dict(self) -> Mapping[str, object]:
        return {
            "method": "extended",
            "offset_before_ns": -20973581442,
            "uncertainty_before_ns": 571223,
            "offset_after_ns": -48211 if self.changed else None,
            "uncertainty_after_ns": 516873 if self.changed else None,
            "attempts": 1,
            "duration_ns": 41234567,
            "round_trip_ns": 1012904,
        }


def of(cause: str = "resumed", report: Report | None = None, error: Any = None) -> Any:
    return result.result_of(notices.Stale(GUEST, cause, SINCE_NS), report, error)


def line(made: Any) -> str:
    return str(log.line("resync", made.fields()))


def test_a_corrected_guest_is_logged_with_all_figures() -> None:
    made = of("restored", Report(warnings=("it is coarse", "it was left so")))
    assert line(made) == (
        f"{NAMED} cause=restored result=corrected method=extended offset_before_ns=-20973581442 "
        "uncertainty_before_ns=571223 offset_after_ns=-48211 uncertainty_after_ns=516873 attempts=1 "
        'duration_ns=41234567 since_resume_ns=81234567 warning="it is coarse; it was left so"'
    )
    assert (made.code, made.priority, made.resume_to_step_ns) == ("", log.INFO, STEPPED_NS - SINCE_NS)


def test_an_unchanged_guest_is_logged_without_a_step() -> None:
    made = of("resumed", Report(changed=False, stepped_at_ns=None, slewing_ns=-200_000_000))
    assert (made.status, made.resume_to_step_ns) == ("unchanged", None)
    assert "since_resume_ns" not in line(made)
    assert "offset_after_ns" not in line(made)


@pytest.mark.parametrize("changed", [True, False])
def test_a_slewed_guest_is_logged_with_what_is_left(changed: bool) -> None:
    made = of(report=Report(changed=changed, within_tolerance=False, slewing_ns=-200_000_000, stepped_at_ns=None))
    assert (made.status, made.priority, made.resume_to_step_ns) == ("slewing", log.INFO, None)
    assert line(made).endswith(" slewing_ns=-200000000")


@pytest.mark.parametrize("cause", sorted(causes.SCAN_CAUSES))
def test_the_time_of_the_resumption_is_unknown_after_a_scan(cause: str) -> None:
    made = of(cause, Report())
    assert (made.status, made.resume_to_step_ns) == ("corrected", None)


def test_a_guest_whose_clock_is_still_off_has_figures_and_an_error() -> None:
    error = errors.NotConvergedError("the clock is still off", "Stop ntpd.")
    made = of(report=Report(error=error), error=error)
    assert line(made).endswith(
        'since_resume_ns=81234567 error=not_converged message="the clock is still off" hint="Stop ntpd."'
    )
    assert (made.status, made.code, made.priority) == ("failed", "not_converged", log.WARNING)


def test_a_guest_that_did_not_answer_has_no_figures_and_its_error_keeps_no_traceback() -> None:
    def fail() -> None:
        try:
            raise ValueError("a long text")
        except ValueError as cause:
            raise errors.UnresponsiveError("it keeps silent", "") from cause

    with pytest.raises(errors.UnresponsiveError) as raised:
        fail()
    assert raised.value.__context__ is not None
    made = of(error=raised.value)
    assert line(made) == f'{NAMED} cause=resumed result=failed error=unresponsive message="it keeps silent"'
    assert (made.error.__traceback__, made.error.__cause__, made.error.__context__) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "after_event", "after_scan"),
    [
        *((f"{kind}Error", "skipped", "skipped") for kind in ("OptedOut", "NotConfigured", "NotRunning", "NotFound")),
        ("GuestReplacedError", "skipped", "skipped"),
        ("NotConnectedError", "failed", "skipped"),
        *((f"{kind}Error", "failed", "failed") for kind in ("Unresponsive", "HypervisorUnavailable", "Qga")),
    ],
)
def test_a_guest_that_cannot_be_resynced_is_skipped(kind: str, after_event: str, after_scan: str) -> None:
    error = getattr(errors, kind)("why")
    made = of(error=error)
    assert (made.status, made.priority) == (after_event, log.WARNING if after_event == "failed" else log.INFO)
    assert {of(cause, error=error).status for cause in causes.SCAN_CAUSES} == {after_scan}


def test_a_guest_that_was_paused_before_its_resync_or_needs_none() -> None:
    withdrawn = result.ResyncResult(GUEST, "restored", result.WITHDRAWN, became="paused")
    assert line(withdrawn) == f"{NAMED} cause=restored result=withdrawn became=paused"
    assert withdrawn.priority == log.INFO
    assert line(result.ResyncResult(GUEST, "reset", result.NOT_NEEDED)) == f"{NAMED} cause=reset result=not_needed"


def test_only_failures_that_the_guest_did_not_cause_are_retried() -> None:
    away = errors.HypervisorUnavailableError("cannot connect")
    broken = errors.HypervisorUnavailableError("the connection broke at its answer", in_call=True)
    for error, should_retry in ((away, True), (broken, False), (errors.UnresponsiveError("why"), False)):
        assert of(error=error).should_retry == should_retry
