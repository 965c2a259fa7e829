"""Resyncs of simulated guests, each compared with the truth; and guests whose steps fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import resync as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import HypervisorUnavailableError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply

from tests.fakes.clock import Clock
from tests.fakes.guest import EXTENDED_COMMANDS, MICROSECOND, Handler, SimulatedGuest, TimeLine
from tests.support.blocking import blocking

resync = blocking(module.resync)
_FIGURES_NS = {
    *("offset_ns", "uncertainty_ns", "resolution_ns", "round_trip_ns", "duration_ns"),
    *(f"{figure}_{when}_ns" for figure in ("offset", "uncertainty", "guest_time") for when in ("before", "after")),
}
FIGURES = {
    *("changed", "within_tolerance", "method", "attempts", "slewing"),
    *_FIGURES_NS,
    *(name[: -len("_ns")] for name in _FIGURES_NS),
}

# The transit times there and back of a guest that is slow but constant.
WAYS = (5_000 * MICROSECOND, 1_500 * MICROSECOND)


def stock(line: TimeLine, ahead_ns: int, **clock: int) -> SimulatedGuest:
    return SimulatedGuest(line, Clock(ahead_ns, host=line, **clock))


def extended(line: TimeLine, ahead_ns: int, **clock: int) -> SimulatedGuest:
    return SimulatedGuest(line, Clock(ahead_ns, host=line, **clock), EXTENDED_COMMANDS)


def run(guest: SimulatedGuest, utc_offset_ns: int = 0, **options: Any) -> ResyncReport:
    report = resync(GuestAgent(guest, 5.0), guest.line.reference(utc_offset_ns), ResyncOptions(**options))
    assert_honest(guest, report, utc_offset_ns)
    return report


def assert_honest(guest: SimulatedGuest, report: ResyncReport, utc_offset_ns: int = 0) -> None:
    """Check that the last measurement contains the truth, and that the dictionary has exactly the documented keys."""
    result = report.as_dict()
    assert set(result) == (FIGURES if report.error is None else FIGURES | {"error"})
    assert all(value.__class__ is int for name, value in result.items() if name.endswith("_ns") and value is not None)
    if report.after is not None or not report.attempts:
        latest = report.after or report.before
        truth_ns = guest.clock.offset_ns() - utc_offset_ns
        assert abs(latest.ns - truth_ns) <= latest.uncertainty_ns


def is_set(guest: SimulatedGuest) -> bool:
    return bool(guest.asked("guest-set-time") or guest.asked("guest-update-time"))


def steps(guest: SimulatedGuest) -> int:
    return len(guest.asked("guest-set-time")) + len(guest.asked("guest-update-time"))


def slews(guest: SimulatedGuest) -> int:
    return sum("slew" in arguments for arguments in guest.asked("guest-update-time"))


def figures(report: ResyncReport) -> tuple[bool, bool | None, str | None, int]:
    return report.changed, report.within_tolerance, report.method, report.attempts


def change(guest: SimulatedGuest, command: str, act: Callable[[Handler, Any], Reply]) -> None:
    """Replace the guest's handler of a command. ``act`` gets the original handler and the request's arguments."""
    usual = guest.handlers[command]
    guest.handlers[command] = lambda arguments: act(usual, arguments)


def never_back(guest: SimulatedGuest, *left_ns: int) -> None:
    """Fail if a step sets the clock back. After each step, the clock is moved by the next of ``left_ns``."""
    left = iter(left_ns)

    def watched(usual: Handler, arguments: Any) -> Reply:
        before_ns, began_ns = guest.clock.true_ns(), guest.line.now_ns
        reply = usual(arguments)
        assert guest.clock.true_ns() - before_ns >= guest.line.now_ns - began_ns, "the clock was set back"
        guest.clock.step(next(left))
        return reply

    for command in ("guest-set-time", "guest-update-time"):
        change(guest, command, watched)


def skewed(guest: SimulatedGuest, by_ns: list[int]) -> Handler:
    """Return a guest-set-time that is slow: each call leaves the next of these errors."""
    errors = iter(by_ns)

    def handle(arguments: Any) -> Reply:
        reply = guest.set_time(arguments)
        guest.clock.step(next(errors))
        return reply

    return handle


_BROKEN = HypervisorUnavailableError("the connection to libvirt broke")


def breaks(
    guest: SimulatedGuest,
    command: str,
    times: int,
    when: Callable[[], bool] = lambda: True,
    error: QgaError = _BROKEN,
) -> None:
    """Have the connection to the hypervisor break ``times`` times at that command, or raise another error."""
    usual = guest.handlers[command]
    left = [times]

    def handle(arguments: Any) -> Reply:
        if left[0] and when():
            left[0] -= 1
            raise error
        return usual(arguments)

    guest.handlers[command] = handle
