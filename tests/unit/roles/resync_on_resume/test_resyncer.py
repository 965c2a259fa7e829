"""The resync of one guest: the options that the service chooses."""

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

resyncer, config = module("resyncer"), module("config")
errors, notices, options, resyncs, tasks = (
    module(name, "guest_agent")
    for name in ("_errors", "_watch.notices", "_clock.options", "_clock.resync", "_event_loop.tasks")
)

# Takes the text of the configuration, and how many seconds ago the guest was resumed.
ResyncGuest = Callable[..., Any]


@pytest.fixture
def resync_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResyncGuest:
    """A function that resyncs the one guest of a hypervisor and returns the result."""
    web1 = Definition("web1")
    hypervisor = FakeHypervisor([web1])
    monkeypatch.setattr(module("_hypervisor.connections", "guest_agent"), "import_libvirt", hypervisor.modules)

    def resync_guest(text: str = "", seconds_ago: float = 0.0) -> Any:
        (tmp_path / "conf").write_text(text)
        log = module("log").Log(io.StringIO(), for_journal=False)
        made = resyncer.Resyncer(config.read(str(tmp_path / "conf")), log)
        guest = notices.WatchedGuest("qemu:///system", web1.uuid, "web1")
        stale = notices.Stale(guest, "resumed", time.monotonic_ns() - round(seconds_ago * 1e9))
        result = tasks.run(made.resync_guest(stale))
        made.close()
        return result

    return resync_guest


@pytest.mark.parametrize(
    ("patience", "waited", "least", "most"),
    [
        (120, 0, 110, 120),
        (120, 100, 10, 20),
        (120, 120, 5, 5),  # waiting has timed out, and the agent is asked once
        (120, 3600, 5, 5),
        (3, 0, 3, 3),
        (0, 0, 0, 0),
    ],
)
def test_the_patience_is_not_spent_twice(
    resync_guest: ResyncGuest,
    monkeypatch: pytest.MonkeyPatch,
    patience: float,
    waited: float,
    least: float,
    most: float,
) -> None:
    chosen: list[Any] = []

    async def run(_runner: object, _guest: object, _work: object, options: Any) -> None:
        chosen.append(options)
        raise errors.OptedOutError("enough is known")

    monkeypatch.setattr(resyncer.Runner, "run", run)
    resync_guest(f"[watch]\nagent_patience = {patience}\n", waited)
    assert least <= chosen[0].wait_timeout <= most
    assert (chosen[0].timeout, chosen[0].touches_clock) == (5.0, True)


def test_the_options_are_those_of_the_configuration(resync_guest: ResyncGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []

    async def resync(_agent: object, _reference: object, options: Any) -> None:
        chosen.append(options)
        raise errors.NotConvergedError("enough is known")

    monkeypatch.setattr(resyncer, "resync", resync)
    resync_guest("[resync]\ntolerance = 0.25\nmethod = set_time\nattempts = 2\nsamples = 7\nbackward = leave\n")
    expected = {"tolerance_ns": 250_000_000, "method": "set_time", "attempts": 2, "samples": 7, "backward": "leave"}
    assert chosen == [resyncs.ResyncOptions(**expected)]


def test_no_guest_is_stepped_if_the_host_must_be_synchronized_and_is_not(
    resync_guest: ResyncGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        resyncer, "reference_of", lambda params: options.reference_of(params, lambda: options.HostClock(False))
    )
    result = resync_guest("[resync]\nrequire_synchronized_host = yes\n")
    assert (result.status, result.code) == ("failed", "host_clock_unsynchronized")


@pytest.mark.parametrize("in_call", [False, True])
def test_a_broken_connection_that_the_guest_did_not_cause_is_retried(
    resync_guest: ResyncGuest, monkeypatch: pytest.MonkeyPatch, in_call: bool
) -> None:
    report = resyncs.ResyncReport(
        False, None, None, 0, before=None, after=None, guest_time_before_ns=0, guest_time_after_ns=0, duration_ns=0
    )

    async def resync(*_arguments: object) -> Any:
        return replace(report, error=errors.HypervisorUnavailableError("it broke", in_call=in_call))

    monkeypatch.setattr(resyncer, "resync", resync)
    result = resync_guest()
    assert (result.code, result.should_retry) == ("hypervisor_unavailable", True)
