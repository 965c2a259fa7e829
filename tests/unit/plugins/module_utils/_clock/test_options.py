from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.options import (
    nanoseconds,
    reference_of,
    require_consistent,
    resync_options,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import StatedReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HostClockUnsynchronizedError,
    InvalidOptionError,
)

from tests.fakes.guest import MONOTONIC_NS, SECOND, TimeLine

DEFAULTS: dict[str, Any] = {
    "tolerance": 0.1,
    "utc_offset": 0.0,
    "method": "auto",
    "attempts": 3,
    "samples": 16,
    "backward": "step",
    "update_rtc": False,
    "require_synchronized_host": False,
    "time": None,
}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, 0), (0.1, 100_000_000), (-0.1, -100_000_000), (1e-9, 1), (0.3, 300_000_000), (3600.0, 3600 * SECOND)],
)
def test_seconds_become_nanoseconds(seconds: float, expected: int) -> None:
    assert nanoseconds(seconds) == expected


class TestOptionsThatContradictEachOther:
    @pytest.mark.parametrize("backward", ["slew", "leave"])
    def test_a_hardware_clock_is_not_taken_where_a_step_back_is_forbidden(self, backward: str) -> None:
        with pytest.raises(InvalidOptionError, match=f"rtc.*backward={backward}"):
            require_consistent({**DEFAULTS, "method": "rtc", "backward": backward})

    @pytest.mark.parametrize(
        ("method", "backward"), [("rtc", "step"), ("set_time", "leave"), ("extended", "leave"), ("set_time", "slew")]
    )
    def test_all_else_may_be_combined(self, method: str, backward: str) -> None:
        require_consistent({**DEFAULTS, "method": method, "backward": backward})


class TestTheReference:
    def test_the_hosts_clock(self, line: TimeLine) -> None:
        chosen = reference_of(DEFAULTS, lambda: True)
        assert chosen.warning is None
        assert chosen.reference.base_ns() == line.realtime_base_ns

    @pytest.mark.parametrize(("synchronized", "warns"), [(True, False), (None, False), (False, True)])
    def test_an_unsynchronised_host_is_a_warning(self, line: TimeLine, synchronized: bool | None, warns: bool) -> None:
        chosen = reference_of(DEFAULTS, lambda: synchronized)
        assert (chosen.warning is not None) is warns
        assert chosen.reference.base_ns() == line.realtime_base_ns

    @pytest.mark.parametrize(("synchronized", "why"), [(False, "is not synchronised"), (None, "does not tell")])
    def test_or_a_failure_if_it_is_required(self, synchronized: bool | None, why: str) -> None:
        with pytest.raises(HostClockUnsynchronizedError, match=why):
            reference_of({**DEFAULTS, "require_synchronized_host": True}, lambda: synchronized)

    def test_a_synchronised_host_passes(self) -> None:
        assert reference_of({**DEFAULTS, "require_synchronized_host": True}, lambda: True).warning is None

    @pytest.mark.parametrize("offset", [3600.0, -5400.5])
    def test_utc_offset(self, line: TimeLine, offset: float) -> None:
        chosen = reference_of({**DEFAULTS, "utc_offset": offset}, lambda: True)
        assert chosen.reference.base_ns() - line.realtime_base_ns == nanoseconds(offset)

    @pytest.mark.parametrize("text", ["2026-11-23T04:05:06Z", "1795406706"])
    def test_a_stated_time_runs_on_and_needs_no_synchronised_host(self, line: TimeLine, text: str) -> None:
        params = {**DEFAULTS, "time": text, "require_synchronized_host": True, "utc_offset": 1.5}
        chosen = reference_of(params, lambda: False)
        assert chosen.reference == StatedReference(1_795_406_707_500_000_000, MONOTONIC_NS)
        assert chosen.warning is None
        line.now_ns += 10 * SECOND
        assert line.now_ns + chosen.reference.base_ns() == 1_795_406_717_500_000_000

    @pytest.mark.parametrize("text", ["", "now", "2026-11-23T04:05:06", "-1", "nan"])
    def test_a_time_that_is_none(self, text: str) -> None:
        with pytest.raises(InvalidOptionError, match="time "):
            reference_of({**DEFAULTS, "time": text}, lambda: True)


def test_the_options_of_a_resync() -> None:
    assert resync_options(DEFAULTS, dry_run=False) == ResyncOptions()
    params = {
        **DEFAULTS,
        "tolerance": 0.01,
        "method": "rtc",
        "attempts": 5,
        "samples": 2,
        "backward": "slew",
        "update_rtc": True,
    }
    assert resync_options(params, dry_run=True) == ResyncOptions(10_000_000, "rtc", 5, 2, "slew", True, True)
