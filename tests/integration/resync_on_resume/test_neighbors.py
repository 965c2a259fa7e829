"""Guests whose replies make libvirt's daemon close the connection or exit: all others are corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.fleet import Profile
from tests.fakes.libvirt import Connection
from tests.processes.served import BEHIND_NS, Serve
from tests.support.resync_service import ServiceProcess, module
from tests.support.tiers import quick
from tests.support.until import until

LATER = "[watch]\nlook_at_start = no\n"
HONEST = tuple(f"web{number}" for number in range(8))
BREAKERS = ("evil0", "evil1", "evil2")
BEHIND = Profile(offset_ns=-BEHIND_NS)
LONGEST_LEFT_NS = 100_000_000
# Slow enough that a reply is always pending when a connection breaks.
IN_FLIGHT_SECONDS = 0.02
# In the order of a resync.
PHASES = ("guest-info", "guest-get-clock", "guest-update-time")
CAUSES = ("resumed", "watch_resumed")


def results_of(service: ServiceProcess, names: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the results of each guest, in the order of the log."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for line in service.lines("resync"):
        if line.fields["guest"] in found:
            found[line.fields["guest"]].append(line.fields["result"])
    return found


def wait_until_corrected(service: ServiceProcess, names: tuple[str, ...], seconds: float = 30.0) -> None:
    until(
        lambda: all(set(each) & {"corrected", "unchanged"} for each in results_of(service, names).values()),
        lambda: f"not all are corrected: {service.read_log()}",
        seconds,
    )
    truths = service.ask("truths")
    assert max(abs(truths[name]) for name in names) <= LONGEST_LEFT_NS


@contextmanager
def beside(directory: Path, breakers: Sequence[str], phase: str, is_deadly: bool = False) -> Iterator[ServiceProcess]:
    """Run the service with honest guests, and with guests that break the connection in that phase."""
    with ServiceProcess(directory, LATER, dict.fromkeys((*breakers, *HONEST), BEHIND)) as service:
        service.wait_for("watching")
        service.ask("break_at", breakers, phase, is_deadly)
        service.ask("slow_down", HONEST, IN_FLIGHT_SECONDS)
        yield service


@pytest.mark.parametrize("is_deadly", [False, True])
@pytest.mark.parametrize("breakers", [1, 3])
@pytest.mark.parametrize("phase", quick(PHASES, PHASES[1:2]))
def test_guests_resumed_together_with_breakers_are_all_corrected(
    tmp_path: Path, phase: str, breakers: int, is_deadly: bool
) -> None:
    evil = BREAKERS[:breakers]
    with beside(tmp_path, evil, phase, is_deadly) as service:
        service.ask("resume", [*evil, *HONEST])
        wait_until_corrected(service, HONEST)
        until(lambda: all(results_of(service, evil).values()), service.read_log)
        assert service.stop() == 0
        if not is_deadly:  # a repeated exchange is not logged
            assert "failed" not in {each for found in results_of(service, HONEST).values() for each in found}
        assert all(line.fields["cause"] in CAUSES for line in service.lines("resync"))


def test_a_breaker_that_is_resumed_repeatedly_does_not_affect_others(tmp_path: Path) -> None:
    evil = BREAKERS[0]
    with beside(tmp_path, (evil,), "guest-get-clock") as service:
        for time, name in enumerate(HONEST, 1):
            service.ask("suspend", [evil])
            service.ask("resume", [evil, name])
            until(
                lambda time=time: len(results_of(service, (evil,))[evil]) >= time,
                lambda: f"it was not resynced: {service.read_log()}",
            )
        wait_until_corrected(service, HONEST)
        assert service.stop() == 0
        assert results_of(service, HONEST) == {name: ["corrected"] for name in HONEST}
        assert set(results_of(service, (evil,))[evil]) == {"failed"}


def test_breakers_do_not_spoil_the_scan_of_all_guests(tmp_path: Path) -> None:
    """The breakers break the connection at any request."""
    with beside(tmp_path, BREAKERS, "guest-info", True) as service:
        # The daemon comes back, and all guests are scanned.
        service.ask("break_connections")
        wait_until_corrected(service, HONEST)
        # The daemon exits at a few replies of each: together with others, apart, and alone at most three times.
        until(lambda: all(results_of(service, BREAKERS).values()), service.read_log)
        service.ask("resume", ["web0"])
        until(lambda: len(results_of(service, HONEST)["web0"]) > 1, service.read_log)
        assert len(service.lines("lost")) <= 1 + 5 * len(BREAKERS)
        assert service.stop() == 0


def hang_up_on(connection: Connection) -> None:
    connection.hypervisor.hang_up(connection)


@pytest.mark.parametrize(
    ("what", "breaks_at", "hang_up", "looks_at_start"),
    [
        ("XMLDesc", (3,), lambda connection: connection.hypervisor.break_connections(), "yes"),
        ("metadata", (1, 2, 4), hang_up_on, "no"),
    ],
    ids=["during the scan", "at the mark of each guest"],
)
def test_a_connection_broken_by_others_fails_no_guest(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    breaks_at: tuple[int, ...],
    hang_up: Callable[[Connection], None],
    looks_at_start: str,
) -> None:
    usual, calls = Connection.call, Counter[str]()

    def call(connection: Connection, name: str) -> object:
        calls[name] += 1
        if name == what and calls[name] in breaks_at:
            hang_up(connection)
        return usual(connection, name)

    monkeypatch.setattr(Connection, "call", call)
    with serve(*HONEST, look_at_start=looks_at_start) as service:
        service.wait_for("watching")
        if looks_at_start == "no":
            service.hypervisor.resume(HONEST)
        records = service.wait_for("resync", len(HONEST))
    assert {(each["guest"], each["result"]) for each in records} == {(name, "corrected") for name in HONEST}


def test_a_resync_that_could_not_connect_is_repeated_without_another_event(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch stays connected, but the daemon accepts no other connection for a while."""
    runner, suspects = module("_fleet.runner", "guest_agent"), module("_fleet.suspects", "guest_agent")
    watcher, states = module("_watch.watcher", "guest_agent"), module("_watch.states", "guest_agent")
    soon = partial(runner.Runner, timings=suspects.Timings(restart=0.2, retry=0.05))
    monkeypatch.setattr(module("resyncer"), "Runner", soon)
    again = partial(watcher.Watcher, timings=states.Timings(unreached=300_000_000))
    monkeypatch.setattr(module("service"), "Watcher", again)
    with serve("web1") as service:
        service.wait_for("watching")
        service.hypervisor.refuse()
        service.hypervisor.resume(["web1"])
        failed = service.wait_for("resync")[0]
        assert (failed["cause"], failed["result"], failed["error"]) == ("resumed", "failed", "hypervisor_unavailable")
        service.hypervisor.start_daemon()
        until(lambda: service.lines("resync")[-1].fields["result"] == "corrected", "the resync was not repeated")
        assert service.lines("resync")[-1].fields["cause"] == "resumed"
    assert service.lines("lost") == []


@pytest.mark.parametrize("seconds", [0.9, 4.0])
def test_slow_guests_resumed_at_the_same_time_delay_no_other_guest(tmp_path: Path, seconds: float) -> None:
    slow = tuple(f"slow{number}" for number in range(15))
    with ServiceProcess(tmp_path, LATER, dict.fromkeys((*slow, *HONEST), BEHIND)) as service:
        service.wait_for("watching")
        service.ask("slow_down", slow, seconds)
        service.ask("resume", [*slow, *HONEST])
        wait_until_corrected(service, HONEST, 4.0)
        # The slow guests are not finished yet.
        assert not any(map(len, results_of(service, slow).values()))
