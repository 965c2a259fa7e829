from __future__ import annotations

from contextlib import nullcontext

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.options import (
    reference_of,
    require_consistent,
    resync_options,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostClock, StatedReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HostClockUnsynchronizedError,
    InvalidOptionError,
)

from tests.fakes.guest import MONOTONIC_NS, SECOND, TimeLine


@pytest.mark.parametrize(
    ("method", "backward", "is_refused"),
    [
        ("rtc", "slew", True),
        ("rtc", "leave", True),
        ("rtc", "step", False),
        ("set_time", "leave", False),
        ("set_time", "slew", False),
    ],
)
def test_method_rtc_is_rejected_if_stepping_back_is_forbidden(method: str, backward: str, is_refused: bool) -> None:
    refused = pytest.raises(InvalidOptionError, match=f"rtc.*backward={backward}")
    with refused if is_refused else nullcontext():
        require_consistent({"method": method, "backward": backward})


class TestTheReference:
    @pytest.mark.parametrize(("synchronized", "warns"), [(True, False), (None, False), (False, True)])
    @pytest.mark.parametrize(("utc_offset", "offset_ns"), [(None, 0), (3600.0, 3600 * SECOND), (-0.1, -100_000_000)])
    def test_it_is_the_hosts_clock_with_a_warning_if_that_is_unsynchronized(
        self, line: TimeLine, synchronized: bool | None, warns: bool, utc_offset: float | None, offset_ns: int
    ) -> None:
        chosen = reference_of({"utc_offset": utc_offset}, lambda: HostClock(synchronized))
        assert (chosen.warning is not None) is warns
        assert chosen.reference.base_ns() - line.realtime_base_ns == offset_ns

    @pytest.mark.parametrize(("synchronized", "why"), [(False, "is not synchronized"), (None, "does not report")])
    def test_an_unsynchronized_host_is_an_error_if_the_option_says_so(
        self, synchronized: bool | None, why: str
    ) -> None:
        required = {"require_synchronized_host": True}
        with pytest.raises(HostClockUnsynchronizedError, match=why):
            reference_of(required, lambda: HostClock(synchronized))
        assert reference_of(required, lambda: HostClock(True)).warning is None

    def test_a_given_time_advances_and_does_not_need_a_synchronized_host(self, line: TimeLine) -> None:
        params = {"time": "2026-11-23T04:05:06Z", "require_synchronized_host": True, "utc_offset": 1.5}
        chosen = reference_of(params, lambda: HostClock(False))
        assert chosen == (StatedReference(1_795_406_707_500_000_000, MONOTONIC_NS), None)
        line.now_ns += 10 * SECOND
        assert line.now_ns + chosen.reference.base_ns() == 1_795_406_717_500_000_000

    def test_an_empty_time_is_an_error(self) -> None:
        with pytest.raises(InvalidOptionError, match="time "):
            reference_of({"time": ""}, lambda: HostClock(True))


def test_module_parameters_become_options_of_the_resync() -> None:
    params = {
        "tolerance": 0.3,
        "method": "rtc",
        "attempts": 5,
        "samples": 2,
        "backward": "slew",
        "update_rtc": True,
    }
    assert resync_options(params, dry_run=True) == ResyncOptions(300_000_000, "rtc", 5, 2, "slew", True, True)
