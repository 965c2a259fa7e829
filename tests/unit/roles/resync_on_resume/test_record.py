"""What came of a guest: in one word, in its fields for the log, and in its code for the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.resync_service import module

record, log = module("record"), module("log")
causes, errors, news = (module(name, "guest_agent") for name in ("_watch.causes", "_errors", "_watch.notices"))

GUEST = news.WatchedGuest("qemu:///system", "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b", "web1")
SINCE_NS = 5_000_000_000
STEPPED_NS = 5_081_234_567
NAMED = "guest=web1 uuid=1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b uri=qemu:///system"


def stale(cause: str = "restored") -> Any:
    return news.Stale(GUEST, cause, SINCE_NS)


class Report:
    """Of a resync, as far as a record looks at it."""

    status = module("_clock.report", "guest_agent").ResyncReport.status

    def __init__(self, **figures: Any) -> None:
        self.changed = True
        self.within_tolerance: bool | None = True
        self.slewing_ns = 0
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


def line(made: Any) -> str:
    return str(log.line("resync", made.fields()))


def test_a_guest_that_was_corrected() -> None:
    made = record.of_stale(stale(), Report(), None)
    assert line(made) == (
        f"resync {NAMED} cause=restored result=corrected method=extended offset_before_ns=-20973581442 "
        "uncertainty_before_ns=571223 offset_after_ns=-48211 uncertainty_after_ns=516873 attempts=1 "
        "duration_ns=41234567 since_resume_ns=81234567"
    )
    assert (made.code, made.priority, made.resume_to_step_ns) == ("", log.INFO, STEPPED_NS - SINCE_NS)


def test_a_guest_that_was_right() -> None:
    made = record.of_stale(stale("resumed"), Report(changed=False, stepped_at_ns=None), None)
    assert made.result == "unchanged"
    assert made.resume_to_step_ns is None
    assert "since_resume_ns" not in line(made)
    assert "offset_after_ns" not in line(made)


@pytest.mark.parametrize("changed", [True, False])
def test_a_guest_whose_clock_glides(changed: bool) -> None:
    given = {"changed": changed, "within_tolerance": False, "slewing_ns": -200_000_000, "stepped_at_ns": None}
    made = record.of_stale(stale("resumed"), Report(**given), None)
    assert (made.result, made.priority, made.resume_to_step_ns) == ("slewing", log.INFO, None)
    assert line(made).endswith(" slewing_ns=-200000000")


def test_a_guest_whose_clock_glides_within_tolerance_is_right() -> None:
    made = record.of_stale(stale("resumed"), Report(changed=False, slewing_ns=-200_000_000), None)
    assert made.result == "unchanged"


@pytest.mark.parametrize("cause", sorted(causes.OF_A_PASS))
def test_of_a_pass_nobody_knows_when_the_guest_was_resumed(cause: str) -> None:
    made = record.of_stale(stale(cause), Report(), None)
    assert (made.result, made.resume_to_step_ns) == ("corrected", None)


def test_warnings_are_said_at_the_end() -> None:
    made = record.of_stale(stale(), Report(warnings=("it is coarse", "it was left so")), None)
    assert line(made).endswith(' since_resume_ns=81234567 warning="it is coarse; it was left so"')


def test_a_guest_whose_clock_did_not_come_right_has_figures_and_error() -> None:
    error = errors.NotConvergedError("the clock is still off", "Stop ntpd.")
    made = record.of_stale(stale(), Report(error=error), error)
    assert line(made).endswith(
        'since_resume_ns=81234567 error=not_converged message="the clock is still off" hint="Stop ntpd."'
    )
    assert (made.result, made.code, made.priority) == ("failed", "not_converged", log.WARNING)


def test_a_guest_that_could_not_be_asked_has_none() -> None:
    made = record.of_stale(stale("resumed"), None, errors.UnresponsiveError("it keeps silent", ""))
    assert line(made) == f'resync {NAMED} cause=resumed result=failed error=unresponsive message="it keeps silent"'


@pytest.mark.parametrize(
    ("kind", "of_an_event", "of_a_pass"),
    [
        ("OptedOutError", "skipped", "skipped"),
        ("NotConfiguredError", "skipped", "skipped"),
        ("NotRunningError", "skipped", "skipped"),
        ("NotFoundError", "skipped", "skipped"),
        ("GuestReplacedError", "skipped", "skipped"),
        ("NotConnectedError", "failed", "skipped"),
        ("UnresponsiveError", "failed", "failed"),
        ("ExchangeTimeoutError", "failed", "failed"),
        ("HypervisorUnavailableError", "failed", "failed"),
        ("HostClockUnsynchronizedError", "failed", "failed"),
        ("CommandDisabledError", "failed", "failed"),
        ("QgaError", "failed", "failed"),
    ],
)
def test_what_is_nobodys_fault_is_skipped(kind: str, of_an_event: str, of_a_pass: str) -> None:
    error = getattr(errors, kind)("why")
    assert record.of_stale(stale("resumed"), None, error).result == of_an_event
    for cause in causes.OF_A_PASS:
        assert record.of_stale(stale(cause), None, error).result == of_a_pass
    expected = log.WARNING if of_an_event == "failed" else log.INFO
    assert record.of_stale(stale("resumed"), None, error).priority == expected


def test_a_guest_that_was_paused_or_stopped_before_it_could_be_asked() -> None:
    made = record.of_withdrawn(news.Withdrawn(GUEST, "restored", "paused"))
    assert line(made) == f"resync {NAMED} cause=restored result=withdrawn became=paused"
    assert made.priority == log.INFO


def test_a_guest_that_needs_nothing() -> None:
    made = record.of_not_needed(news.NotNeeded(GUEST, "reset"))
    assert line(made) == f"resync {NAMED} cause=reset result=not_needed"


def test_its_error_holds_nothing_but_what_it_says() -> None:
    def fail() -> None:
        try:
            raise ValueError("a long text")
        except ValueError as error:
            raise errors.CommandFailedError("nonsense") from error

    with pytest.raises(errors.CommandFailedError) as caught:
        fail()
    error = record.of_stale(stale(), None, caught.value).error
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_only_what_no_guest_did_is_to_be_done_again() -> None:
    away = errors.HypervisorUnavailableError("cannot connect")
    broken = errors.HypervisorUnavailableError("the connection broke at its answer", in_call=True)
    for error, is_to_be_done_again in ((away, True), (broken, False), (errors.UnresponsiveError("why"), False)):
        assert record.of_stale(stale("resumed"), None, error).is_to_be_done_again == is_to_be_done_again
