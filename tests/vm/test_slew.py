"""Slewing by the Linux kernel in a real guest; a witness in it, independent of both agents, reads the clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping

import libvirt
import pytest

from tests.processes.ansible_run import run_playbook_of_collection
from tests.support.correction import TASK, entry_of, run_module
from tests.support.tiers import quick
from tests.support.until import until
from tests.vm.guest import Guest

SECOND_NS = 1_000_000_000
SLEW_PPM = 500
# The worst delay of a reading in an emulated guest on a busy machine.
NEAR_NS = 2_000_000

# Reads the clock continuously until SIGTERM, and writes the smallest difference between two readings.
WATCHER = """
import signal, sys, time
def end(*_):
    open("/run/growth", "w").write(str(least))
    sys.exit()
least = 10**9
signal.signal(signal.SIGTERM, end)
last = time.time_ns()
open("/run/watching", "w").close()
while True:
    now = time.time_ns()
    least, last = min(least, now - last), now
    time.sleep(0.002)
"""
# adjtimex(2) with ADJ_STATUS, as a time service enables the kernel's control loop (include/uapi/linux/timex.h).
SET_STATUS = (
    "import ctypes; b = (ctypes.c_long * 26)(0x10); ctypes.c_int.from_buffer(b, 40).value = {status}; "
    "assert ctypes.CDLL(None).adjtimex(b) >= 0"
)


@pytest.fixture(name="guest")
def _guest(extended_guest: Guest) -> Iterator[Guest]:
    """A guest that starts each test with the host's time and without a slew."""
    extended_guest.witness.step(-extended_guest.witness.offset().offset_ns)
    yield extended_guest
    extended_guest.witness.step(-extended_guest.witness.offset().offset_ns)


def slew(guest: Guest, delta_ns: int) -> int:
    """Slew the clock through the agent, and return the duration that it reports."""
    seconds, nanoseconds = divmod(delta_ns, SECOND_NS)
    reply = guest.ask("guest-update-time", seconds=seconds, nanoseconds=nanoseconds, relative=True, slew=True)
    assert 0 <= reply["after"] - reply["before"] < SECOND_NS // 10
    duration_ns: int = reply["duration"]
    return duration_ns


def slewing_ns(guest: Guest) -> int:
    left_ns: int = guest.ask("guest-get-clock")["slewing"]
    return left_ns


def begin_to_slew(guest: Guest) -> None:
    slew(guest, -200_000_000)
    until(lambda: -200_000_000 < slewing_ns(guest) < 0, "the slew does not begin")


def wait_since(since: float, seconds: float) -> None:
    until(lambda: time.monotonic() >= since + seconds, "the host's clock does not advance", seconds + 30)


def read(guest: Guest) -> tuple[float, int]:
    """Return the host's monotonic time and the guest's offset."""
    return time.monotonic(), guest.witness.offset().offset_ns


def rate_ppm(earlier: tuple[float, int], later: tuple[float, int]) -> float:
    return (later[1] - earlier[1]) / (later[0] - earlier[0]) / 1000


@pytest.mark.parametrize("delta_ms", quick([-200, 200, -10], [-10]))
def test_the_clock_slews_at_500_ppm_and_never_runs_backward(guest: Guest, delta_ms: int) -> None:
    guest.sh("rm -f /run/watching /run/growth")
    guest.witness.start(f"exec python3 -c '{WATCHER}' & echo $! >/run/watcher")
    until(lambda: guest.sh("ls /run/watching || true"), "the watcher does not start")
    delta_ns = delta_ms * 1_000_000
    begun, before_ns = read(guest)
    duration_ns = slew(guest, delta_ns)
    assert duration_ns == abs(delta_ns) * 1_000_000 // SLEW_PPM
    seconds = duration_ns / SECOND_NS
    taken = [read(guest)]
    while slewing_ns(guest):
        assert time.monotonic() < begun + seconds + 60, f"{slewing_ns(guest)} ns are left"
        wait_since(taken[-1][0], min(10.0, seconds / 10))
        taken.append(read(guest))
    # The kernel reports a second's share of the slew as done at the start of that second.
    ended = time.monotonic()
    wait_since(ended, 1.5)
    _now, after_ns = read(guest)
    guest.sh("kill -TERM $(cat /run/watcher)")
    until(lambda: guest.sh("cat /run/growth || true"), "the watcher does not end")
    assert int(guest.sh("cat /run/growth")) > 0
    # The slew may start up to a second late, and may end before the last reading.
    rate = rate_ppm(taken[1], taken[-2])
    assert rate * (1 if delta_ns > 0 else -1) == pytest.approx(SLEW_PPM, rel=0.05)
    assert abs(after_ns - before_ns - delta_ns) < NEAR_NS + abs(delta_ns) // 20
    assert seconds - 1 <= ended - begun


STEPS: Mapping[str, Callable[[Guest], object]] = {
    "by a difference": lambda guest: guest.ask("guest-update-time", seconds=1, relative=True),
    "to a time": lambda guest: guest.ask("guest-update-time", seconds=int(time.time())),
    "by the stock agent": lambda guest: guest.ask("guest-set-time", time=time.time_ns()),
    "by another program": lambda guest: guest.witness.step(SECOND_NS),
}


@pytest.mark.parametrize("way", quick(STEPS, ["by a difference", "to a time"]))
def test_a_step_ends_a_slew(guest: Guest, way: str) -> None:
    begin_to_slew(guest)
    STEPS[way](guest)
    assert slewing_ns(guest) == 0
    earlier = read(guest)
    wait_since(earlier[0], 6.0)
    assert abs(rate_ppm(earlier, read(guest))) < SLEW_PPM / 2


@pytest.mark.parametrize("status", [0x0001, 0x0008])
def test_a_clock_that_a_time_service_controls_is_not_slewed(guest: Guest, status: int) -> None:
    guest.sh(f"python3 -c '{SET_STATUS.format(status=status | 0x40)}'")
    assert guest.ask("guest-get-clock")["slewable"] is False
    with pytest.raises(libvirt.libvirtError, match="another time service disciplines it"):
        slew(guest, -1_000_000)
    assert slewing_ns(guest) == 0
    guest.sh(f"python3 -c '{SET_STATUS.format(status=0x40)}'")
    assert guest.ask("guest-get-clock")["slewable"] is True


# ----------------------------------------------------------------------------------------------------- with our module


def test_a_guest_that_is_ahead_slews_back_and_a_second_run_changes_nothing(guest: Guest) -> None:
    guest.witness.step(200_000_000)
    foretold = entry_of(guest, "--check", backward="slew")
    assert (foretold["changed"], foretold["status"], foretold["attempts"]) == (True, "would_correct", 0)
    assert slewing_ns(guest) == 0

    before = read(guest)
    result = run_module(guest, backward="slew").result(TASK)
    entry = result["guest"]
    assert (entry["changed"], entry["status"], entry["within_tolerance"]) == (True, "slewing", False)
    assert (entry["method"], entry["attempts"]) == ("extended", 1)
    assert "error" not in entry
    assert entry["slewing"]["left_ns"] == pytest.approx(-200_000_000, abs=NEAR_NS)
    assert entry["slewing"]["duration"] == pytest.approx(400, abs=5)
    assert re.search(r"its clock is being slewed back by (19\d|200)\.\d ms, which takes 6 min \d\d s", result["msg"])

    until(lambda: slewing_ns(guest) > -198_000_000, "the slew does not begin")
    again = entry_of(guest, backward="slew")
    assert (again["changed"], again["status"], again["attempts"]) == (False, "slewing", 0)
    assert entry["slewing"]["left_ns"] < again["slewing"]["left_ns"] < 0
    assert -SLEW_PPM * 1.1 < rate_ppm(before, read(guest)) < 0

    # A run that may step the clock back ends the slew.
    stepped = entry_of(guest)
    assert (stepped["changed"], stepped["status"], stepped["slewing"]) == (True, "corrected", None)
    assert slewing_ns(guest) == 0


def test_a_resumed_guest_that_slews_does_not_fail_the_playbook(guest: Guest) -> None:
    guest.witness.step(200_000_000)
    given = ("-e", f"qga_domain={guest.name}", "-e", f"qga_uri={guest.uri}", "-e", "qga_backward=slew")
    run = run_playbook_of_collection("resync_resumed_guest", *given, inventory="localhost,")
    assert run.status == 0, run.output
    assert run.result("Verify the clock")["msg"] == run.result("Resync the clock")["msg"]
    assert slewing_ns(guest) < 0
