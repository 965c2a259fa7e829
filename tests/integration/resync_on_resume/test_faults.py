"""Faults after a resumption: each is logged in one line, and the next guest is served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.domains import PAUSED
from tests.fakes.hypervisors import RESTORED, RESUMED, STARTED, UNPAUSED, SimulatedHypervisor
from tests.fakes.libvirt import settle
from tests.processes.served import BEHIND_NS, HERE, SECOND_NS, Serve, Served, simulated
from tests.support.resync_service import module
from tests.support.until import until

SUSPENDED = 3
STEP = "guest-update-time"
OPTED_OUT = '<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>'
LONGEST_LEFT_NS = SECOND_NS // 10


def resume(service: Served, name: str) -> dict[str, str]:
    """Resume the guest and return the fields of its log line."""
    service.wait_for("watching")
    service.hypervisor.resume([name])
    return service.record_of(name)


def assert_next_is_served(service: Served) -> None:
    record = resume(service, "next")
    assert record["result"] == "corrected", record
    assert is_off_by(service, 0, "next")


def is_off_by(service: Served, offset_ns: int, name: str = "web1") -> bool:
    return abs(service.hypervisor.truths()[name] - offset_ns) <= LONGEST_LEFT_NS


def steps(service: Served) -> int:
    return service.hypervisor.agents["web1"].commands.get(STEP, 0)


def until_it_is_asked(service: Served) -> None:
    until(lambda: service.hypervisor.calls["qemuAgentCommand"] > 0, "the first command")


def test_a_resumed_guest_is_corrected_and_all_figures_are_logged(serve: Serve) -> None:
    with serve("web1") as service:
        record = resume(service, "web1")
    assert list(record) == [
        *("guest", "uuid", "uri", "cause", "result", "method", "offset_before_ns", "uncertainty_before_ns"),
        *("offset_after_ns", "uncertainty_after_ns", "attempts", "duration_ns", "since_resume_ns"),
    ]
    assert (record["guest"], record["uri"], record["cause"]) == ("web1", HERE, "resumed")
    assert (record["result"], record["method"]) == ("corrected", "extended")
    assert abs(int(record["offset_before_ns"]) + BEHIND_NS) <= LONGEST_LEFT_NS
    assert is_off_by(service, 0)


def test_a_guest_that_is_ahead_is_slewed_if_configured(serve: Serve) -> None:
    with serve("web1", "next", backward="slew") as service:
        clock = service.hypervisor.agents["web1"].clock
        clock.step(BEHIND_NS + 200_000_000)
        record = resume(service, "web1")
        assert (record["result"], record["method"], record["attempts"]) == ("slewing", "extended", "1")
        assert abs(int(record["slewing_ns"]) + 200_000_000) <= LONGEST_LEFT_NS
        assert "since_resume_ns" not in record
        assert -200_000_000 - LONGEST_LEFT_NS < clock.slewing_ns < 0
        assert_next_is_served(service)


# --------------------------------------------------------------------------------------------------------------- guests


def pause_after_restore(hypervisor: SimulatedHypervisor) -> None:
    hypervisor.fire_lifecycle("web1", STARTED, RESTORED)
    hypervisor.fire_lifecycle("web1", SUSPENDED, 0)


def destroy_after_resume(hypervisor: SimulatedHypervisor) -> None:
    hypervisor.definitions.remove(hypervisor.definition("web1"))
    hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)


def resume_with(**definition: Any) -> Callable[[SimulatedHypervisor], None]:
    def resume(hypervisor: SimulatedHypervisor) -> None:
        vars(hypervisor.definition("web1")).update(definition)
        hypervisor.resume(["web1"])

    return resume


@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        (lambda hypervisor: hypervisor.restore(["web1"]), {"cause": "restored", "result": "corrected"}),
        (lambda hypervisor: hypervisor.fire_reboot("web1"), {"cause": "reset", "result": "not_needed"}),
        (pause_after_restore, {"cause": "restored", "result": "withdrawn", "became": "paused"}),
        (destroy_after_resume, {"result": "skipped", "error": "not_found"}),
        (resume_with(metadata=OPTED_OUT), {"result": "skipped", "error": "opted_out"}),
        (resume_with(channel_state=None), {"result": "skipped", "error": "not_configured"}),
        # These wait until the patience ends, and the next guest is served meanwhile.
        (resume_with(channel_state="disconnected"), {"result": "failed", "error": "not_connected"}),
        (resume_with(is_silent=True), {"result": "failed", "error": "unresponsive"}),
    ],
    ids=["restored", "reset", "paused", "destroyed", "opted out", "no port", "agent away", "agent silent"],
)
def test_one_line_is_logged_for_the_guest_and_the_next_guest_is_served(
    serve: Serve, happen: Callable[[SimulatedHypervisor], None], expected: dict[str, str]
) -> None:
    with serve("web1", "next", agent_patience=1) as service:
        service.wait_for("watching")
        happen(service.hypervisor)
        assert_next_is_served(service)
        record = service.record_of("web1")
        service.records(2)
    assert expected.items() <= record.items(), record
    assert expected["result"] != "failed" or record["hint"]
    if expected["result"] != "corrected":
        assert steps(service) == 0
        assert is_off_by(service, -BEHIND_NS)


def test_a_guest_paused_during_its_resync_is_skipped_and_corrected_when_it_is_resumed(serve: Serve) -> None:
    with serve("web1", "next") as service:
        hypervisor = service.hypervisor

        def pause() -> None:
            hypervisor.definition("web1").state = PAUSED
            hypervisor.fire_lifecycle("web1", SUSPENDED, 0)

        hypervisor.at_agent_command[2] = pause
        record = resume(service, "web1")
        assert (record["result"], record["error"]) == ("skipped", "not_running"), record
        assert "paused" in record["message"]
        assert_next_is_served(service)
        settle()
        hypervisor.resume(["web1"])
        assert service.records(3)[-1]["result"] == "corrected"


def test_a_guest_that_is_silent_because_it_was_paused_is_skipped(serve: Serve) -> None:
    with serve("web1", "next", agent_patience=0) as service:
        definition = service.hypervisor.definition("web1")

        def pause() -> None:
            # The guest still runs when it is checked; its agent is silent from then on.
            definition.is_silent = True
            service.hypervisor.at_agent_command.clear()

        service.hypervisor.at_agent_command[2] = pause
        service.wait_for("watching")
        service.hypervisor.resume(["web1"])
        until(lambda: definition.is_silent, "the second command")
        definition.state = PAUSED
        record = service.record_of("web1")
        assert (record["result"], record["error"]) == ("skipped", "not_running"), record
        assert_next_is_served(service)


def test_an_internal_error_affects_only_one_guest(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    resyncer = module("resyncer")
    usual = resyncer.resync

    async def resync(*_arguments: Any) -> Any:
        monkeypatch.setattr(resyncer, "resync", usual)
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(resyncer, "resync", resync)
    with serve("web1", "next") as service:
        record = resume(service, "web1")
        assert (record["result"], record["error"]) == ("failed", "internal_error")
        assert "ZeroDivisionError: unforeseen" in record["message"]
        assert_next_is_served(service)


def test_a_guest_resumed_during_its_resync_is_resynced_again_after_it(serve: Serve) -> None:
    may_go_on = threading.Event()
    with serve("web1", "next") as service:
        service.hypervisor.at_agent_command[1] = lambda: may_go_on.wait(10)
        service.wait_for("watching")
        service.hypervisor.resume(["web1"])
        until_it_is_asked(service)
        service.hypervisor.fire_lifecycle("web1", SUSPENDED, 0)
        service.hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        settle()
        assert_next_is_served(service)
        may_go_on.set()
        results = [(each["guest"], each["result"]) for each in service.records(3)]
    assert results[1:] == [("web1", "corrected"), ("web1", "unchanged")]


# ---------------------------------------------------------------------------------------------------------- hypervisors


def test_the_service_waits_for_a_daemon_that_is_absent_at_the_start(serve: Serve) -> None:
    hypervisor = simulated("web1")
    hypervisor.stop_daemon()
    with serve(hypervisors={HERE: hypervisor}, look_at_start="yes") as service:
        service.wait_for("lost")
        hypervisor.start_daemon()
        service.wait_for("watching")
        record = service.record_of("web1")
    assert (record["cause"], record["result"]) == ("watch_began", "corrected")
    assert len(service.lines("lost")) == 1


def test_a_resync_fails_if_the_daemon_stops_and_is_repeated_when_it_is_back(serve: Serve) -> None:
    with serve("web1") as service:
        service.hypervisor.at_agent_command[3] = service.hypervisor.stop_daemon
        failed = resume(service, "web1")
        assert (failed["result"], failed["error"]) == ("failed", "hypervisor_unavailable")
        service.hypervisor.start_daemon()
        _failed, corrected = service.records(2)
    assert (corrected["cause"], corrected["result"]) == ("watch_resumed", "corrected")


def test_an_absent_hypervisor_does_not_affect_the_others(serve: Serve) -> None:
    there = "qemu+unix:///system?socket=/there"
    hypervisors = {HERE: simulated("next"), there: simulated("web1")}
    with serve(hypervisors=hypervisors, uris=f"qemu:///absent {HERE}\n  {there}") as service:
        service.wait_for("watching", 2)
        (lost,) = service.wait_for("lost")
        assert lost["uri"] == "qemu:///absent"
        assert_next_is_served(service)


def test_an_unsynchronized_host_is_logged_when_it_changes_and_not_for_every_guest(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_synchronized: list[int] = []
    options = module("_clock.options", "guest_agent")
    usual = options.reference_of
    monkeypatch.setattr(
        module("resyncer"),
        "reference_of",
        lambda params: usual(params, lambda: options.HostClock(bool(is_synchronized))),
    )
    names = [f"web{number}" for number in range(4)]
    with serve(*names) as service:
        service.wait_for("watching")
        service.hypervisor.resume(names[:2])
        service.records(2)
        is_synchronized.append(True)
        service.hypervisor.resume(names[2:])
        service.records(4)
    assert [line.fields["message"] for line in service.lines("host_clock")] == [
        "the host's own clock is not synchronized; guests are compared with it anyway",
        "the host's own clock is synchronized again",
    ]
