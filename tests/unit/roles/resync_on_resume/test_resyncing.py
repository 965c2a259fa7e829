"""Seeing to one guest: what of the module's resync the service chooses for it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.domains import Definition
from tests.fakes.libvirt import FakeHypervisor
from tests.support.resync_service import module

resyncing, config = module("resyncing"), module("config")
news, waiting = module("_watch.notices", "guest_agent"), module("_event_loop.tasks", "guest_agent")

URI = "qemu:///system"
SECOND_NS = 1_000_000_000

Make = Callable[[str], Any]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """With that in the configuration, before a hypervisor with one guest."""
    hypervisor = FakeHypervisor([Definition("web1")])
    monkeypatch.setattr(module("_hypervisor.connections", "guest_agent"), "import_libvirt", hypervisor.modules)

    def make(text: str) -> Any:
        (tmp_path / "conf").write_text(text)
        log = module("log").Log(io.StringIO(), for_journal=False)
        return resyncing.Resyncing(config.read(str(tmp_path / "conf")), module("host_clock").HostClock(log))

    return make


def stale(seconds_ago: float = 0.0) -> Any:
    since_ns = time.monotonic_ns() - round(seconds_ago * SECOND_NS)
    return news.Stale(news.WatchedGuest(URI, Definition("web1").uuid, "web1"), "resumed", since_ns)


@pytest.mark.parametrize(
    ("patience", "waited", "least", "most"),
    [
        (120, 0, 110, 120),
        (120, 100, 10, 20),
        (120, 120, 5, 5),  # the watcher has waited in vain, and it is asked once
        (120, 3600, 5, 5),
        (3, 0, 3, 3),
        (0, 0, 0, 0),
    ],
)
def test_an_agent_is_waited_for_only_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, patience: float, waited: float, least: float, most: float
) -> None:
    attended: list[Any] = []

    async def run(_runner: object, _guest: object, _work: object, attendance: Any) -> None:
        attended.append(attendance)
        raise module("_errors", "guest_agent").OptedOutError("enough is known")

    monkeypatch.setattr(resyncing.Runner, "run", run)
    made = make(f"[watch]\nagent_patience = {patience}\n")
    waiting.run(made.see_to(stale(waited)))
    made.close()
    (attendance,) = attended
    assert least <= attendance.wait_timeout <= most
    assert (attendance.timeout, attendance.touches_clock) == (5.0, True)


def test_the_options_are_those_of_the_configuration(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []

    async def resync(_agent: object, _reference: object, options: Any) -> None:
        chosen.append(options)
        raise module("_errors", "guest_agent").NotConvergedError("enough is known")

    monkeypatch.setattr(resyncing, "resync", resync)
    made = make("[resync]\ntolerance = 0.25\nmethod = set_time\nattempts = 2\nsamples = 7\nbackward = leave\n")
    waiting.run(made.see_to(stale()))
    made.close()
    assert chosen == [
        module("_clock.resync", "guest_agent").ResyncOptions(
            tolerance_ns=250_000_000, method="set_time", attempts=2, samples=7, backward="leave"
        )
    ]


def test_a_host_that_has_to_be_synchronised_and_is_not_steps_nobody(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = module("_clock.options", "guest_agent")
    monkeypatch.setattr(resyncing, "reference_of", lambda params: options.reference_of(params, lambda: False))
    made = make("[resync]\nrequire_synchronized_host = yes\n")
    record = waiting.run(made.see_to(stale()))
    made.close()
    assert (record.result, record.code) == ("failed", "host_clock_unsynchronized")


@pytest.mark.parametrize("in_call", [False, True])
def test_a_break_that_is_not_found_out_to_be_the_guests_doing_is_to_be_done_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, in_call: bool
) -> None:
    broken = module("_errors", "guest_agent").HypervisorUnavailableError("it broke", in_call=in_call)

    report = module("_clock.resync", "guest_agent").ResyncReport(
        False, None, None, 0, before=None, after=None, guest_time_before_ns=0, guest_time_after_ns=0, duration_ns=0
    )

    async def resync(*_arguments: object) -> Any:
        return replace(report, error=broken)

    monkeypatch.setattr(resyncing, "resync", resync)
    made = make("")
    record = waiting.run(made.see_to(stale()))
    made.close()
    assert record.code == "hypervisor_unavailable"
    assert record.is_to_be_done_again
