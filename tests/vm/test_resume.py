"""The service ``resync_on_resume`` with a real libvirt and real guests that are suspended and resumed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.correction import is_right
from tests.support.resync_service import Line, ServiceProcess, beside_libvirt
from tests.support.until import until
from tests.vm import libvirtd
from tests.vm.guest import Guest
from tests.vm.naps import ASLEEP_S, Nap, save_and_restore, save_managed_and_start, suspend_and_resume

TIMES = 2
SNAPSHOT = "before"


@pytest.fixture(scope="module")
def service(extended_guest: Guest, guest: Guest) -> Iterator[ServiceProcess]:
    with beside_libvirt([extended_guest.uri], agent_patience=10) as running:
        running.wait_for("watching")
        for each in (extended_guest, guest):
            running.wait_for("resync", guest=each.name, cause="watch_began")
        yield running


@pytest.fixture(params=["extended", "stock"])
def sleeper(request: pytest.FixtureRequest, extended_guest: Guest, guest: Guest) -> Guest:
    return extended_guest if request.param == "extended" else guest


def take(service: ServiceProcess, guest: Guest, nap: Nap, cause: str) -> Line:
    """Suspend and resume the guest, and return the log line of its resync."""
    since = service.length()
    nap(guest)
    line = service.wait_for("resync", since=since, guest=guest.name)[0]
    assert line.has(cause=cause), line
    return line


@pytest.mark.parametrize(
    ("nap", "cause"),
    [
        (suspend_and_resume, "resumed"),
        (save_and_restore, "restored"),
        pytest.param(save_managed_and_start, "restored", marks=pytest.mark.thorough),
    ],
)
def test_a_guest_is_corrected_once_after_each_nap(
    service: ServiceProcess, sleeper: Guest, nap: Nap, cause: str
) -> None:
    since = service.length()
    for _time in range(TIMES):
        line = take(service, sleeper, nap, cause)
        assert line.has(result="corrected"), line
        assert int(line.fields["offset_before_ns"]) < -ASLEEP_S * 500_000_000
        assert is_right(sleeper)
    assert len(service.lines("resync", since, guest=sleeper.name)) == TIMES


def test_a_guest_is_corrected_once_after_each_revert(service: ServiceProcess, extended_guest: Guest) -> None:
    line = take(service, extended_guest, lambda guest: guest.snapshot(SNAPSHOT), "resumed")
    assert line.fields["result"] in ("corrected", "unchanged")
    since = service.length()
    try:
        for _time in range(TIMES):
            line = take(service, extended_guest, lambda guest: guest.revert(SNAPSHOT), "reverted")
            assert line.has(result="corrected")
            assert is_right(extended_guest)
    finally:
        extended_guest.delete_snapshot(SNAPSHOT)
    assert len(service.lines("resync", since, guest=extended_guest.name)) == TIMES


def test_a_guest_is_right_after_several_quick_naps(service: ServiceProcess, extended_guest: Guest) -> None:
    extended_guest.witness.step(-7_000_000_000)
    since = service.length()
    for _time in range(5):
        extended_guest.suspend()
        extended_guest.resume()
    service.wait_for("resync", since=since, guest=extended_guest.name, result="corrected")
    # The result of one more nap proves that no earlier resync is running.
    since = service.length()
    suspend_and_resume(extended_guest)
    service.wait_for("resync", since=since, guest=extended_guest.name, result="corrected")
    assert is_right(extended_guest)


def test_a_guest_paused_while_its_agent_is_away_is_resynced_when_it_runs_again(
    service: ServiceProcess, guest: Guest, extended_guest: Guest
) -> None:
    """Another guest is corrected meanwhile."""
    with guest.agent_away():
        since = service.length()
        suspend_and_resume(guest)
        guest.suspend()
        line = service.wait_for("resync", since=since, guest=guest.name)[0]
        assert line.has(cause="resumed", result="withdrawn", became="paused"), line
        guest.resume()
        guest.witness.wait(30.0)
        assert take(service, extended_guest, suspend_and_resume, "resumed").has(result="corrected")
        # Nothing in the guest answers now: the service logs that when the patience ends.
        line = service.wait_for("resync", since=since, count=2, guest=guest.name, seconds=90.0)[1]
        assert line.has(cause="resumed", result="failed", error="not_connected"), line
    guest.wait_for_agent()


def test_all_guests_are_scanned_after_the_daemon_was_killed(service: ServiceProcess, extended_guest: Guest) -> None:
    since = service.length()
    extended_guest.witness.step(-3_000_000_000)
    libvirtd.restart()
    service.wait_for("lost", since=since, error="hypervisor_unavailable")
    service.wait_for("watching", since=since)
    line = service.wait_for("resync", since=since, guest=extended_guest.name)[0]
    assert line.has(cause="watch_resumed", result="corrected"), line
    assert is_right(extended_guest)
    assert len(service.lines("lost", since)) == 1


@pytest.mark.thorough
def test_a_reset_needs_no_resync(service: ServiceProcess, extended_guest: Guest) -> None:
    since = service.length()
    subprocess.run(["virsh", "--connect", extended_guest.uri, "--quiet", "reset", extended_guest.name], check=True)
    line = service.wait_for("resync", since=since, guest=extended_guest.name)[0]
    assert line.has(cause="reset", result="not_needed"), line
    extended_guest.wait_for_agent()
    extended_guest.witness.wait(60.0)
    # The RTC counts whole seconds.
    assert abs(extended_guest.witness.offset().offset_ns) < 1_500_000_000
    assert len(service.lines("resync", since, guest=extended_guest.name)) == 1


def test_the_metrics_count_every_log_line(service: ServiceProcess) -> None:
    def counted() -> int:
        lines = Path(service.metrics_file).read_text().splitlines()
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith("qga_resync_total{"))

    # A guest that could not be resynced while the daemon was away may still be pending.
    until(lambda: counted() == len(service.lines("resync")), "the metrics differ from the log")
