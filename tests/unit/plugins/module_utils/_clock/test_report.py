from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotConvergedError

from tests.fakes.guest import MILLISECOND, SECOND, SimulatedGuest, TimeLine, says
from tests.support.resyncs import extended, run, stock


def on_its_way(guest: SimulatedGuest, microseconds: int) -> SimulatedGuest:
    guest.delays = lambda _command: (microseconds * 1_000, microseconds * 1_000)
    return guest


@pytest.mark.parametrize(
    ("make", "ahead_ns", "options", "status", "sentence"),
    [
        (stock, -8 * SECOND, {}, "corrected", "was 8.000 s behind; its clock is now right to +"),
        (stock, 90 * SECOND, {}, "corrected", "was 1 min 30 s ahead; its clock is now right to "),
        (stock, 0, {}, "unchanged", "is right ("),
        (stock, -8 * SECOND, {"dry_run": True}, "would_correct", "is 8.000 s behind; its clock would be stepped"),
        (stock, 0, {"dry_run": True}, "unchanged", "is right ("),
        (stock, 0, {"tolerance_ns": 0}, "corrected", "; its clock is now right to +"),
        (stock, 0, {"tolerance_ns": 0, "backward": "leave"}, "unchanged", "is right within its uncertainty ("),
        (stock, 3 * SECOND, {"backward": "leave"}, "unchanged", "is off by +3.000 s ±1.0 ms and was left alone"),
        (
            extended,
            200 * MILLISECOND,
            {"backward": "slew"},
            "slewing",
            "is 200.0 ms ahead; its clock is being slewed back by 199.5 ms, which takes 6 min 39 s",
        ),
        (
            extended,
            200 * MILLISECOND,
            {"backward": "slew", "dry_run": True},
            "would_correct",
            "is 200.0 ms ahead; its clock would be slewed back by 199.5 ms, which takes 6 min 39 s",
        ),
    ],
)
def test_a_sentence_says_what_was_found_and_what_is_left(
    line: TimeLine, make: Any, ahead_ns: int, options: dict[str, Any], status: str, sentence: str
) -> None:
    report = run(on_its_way(make(line, ahead_ns), 1_000), **options)
    assert (report.error, report.status) == (None, status)
    assert report.sentence is not None
    assert sentence in report.sentence


def test_an_error_takes_the_place_of_the_sentence(line: TimeLine) -> None:
    guest = stock(line, -8 * SECOND)
    says(guest, "guest-set-time", {})
    report = run(guest)
    assert isinstance(report.error, NotConvergedError)
    assert report.sentence is None
