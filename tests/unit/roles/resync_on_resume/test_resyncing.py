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
errors, notices, options, resyncs, tasks = (
    module(name, "guest_agent")
    for name in ("_errors", "_watch.notices", "_clock.options", "_clock.resync", "_event_loop.tasks")
)

# Of a resuming so many seconds ago, with that in the configuration.
SeeTo = Callable[..., Any]


@pytest.fixture
def see_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeeTo:
    """The record of the one guest that a hypervisor has."""
    web1 = Definition("web1")
    hypervisor = FakeHypervisor([web1])
    monkeypatch.setattr(module("_hypervisor.connections", "guest_agent"), "import_libvirt", hypervisor.modules)

    def see_to(text: str = "", seconds_ago: float = 0.0) -> Any:
        (tmp_path / "conf").write_text(text)
        log = module("log").Log(io.StringIO(), for_journal=False)
        made = resyncing.Resyncing(config.read(str(tmp_path / "conf")), log)
        guest = notices.WatchedGuest("qemu:///system", web1.uuid, "web1")
        stale = notices.Stale(guest, "resumed", time.monotonic_ns() - round(seconds_ago * 1e9))
        record = tasks.run(made.see_to(stale))
        made.close()
        return record

    return see_to


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
    see_to: SeeTo, monkeypatch: pytest.MonkeyPatch, patience: float, waited: float, least: float, most: float
) -> None:
    chosen: list[Any] = []

    async def run(_runner: object, _guest: object, _work: object, options: Any) -> None:
        chosen.append(options)
        raise errors.OptedOutError("enough is known")

    monkeypatch.setattr(resyncing.Runner, "run", run)
    see_to(f"[watch]\nagent_patience = {patience}\n", waited)
    assert least <= chosen[0].wait_timeout <= most
    assert (chosen[0].timeout, chosen[0].touches_clock) == (5.0, True)


def test_the_options_are_those_of_the_configuration(see_to: SeeTo, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []

    async def resync(_agent: object, _reference: object, options: Any) -> None:
        chosen.append(options)
        raise errors.NotConvergedError("enough is known")

    monkeypatch.setattr(resyncing, "resync", resync)
    see_to("[resync]\ntolerance = 0.25\nmethod = set_time\nattempts = 2\nsamples = 7\nbackward = leave\n")
    expected = {"tolerance_ns": 250_000_000, "method": "set_time", "attempts": 2, "samples": 7, "backward": "leave"}
    assert chosen == [resyncs.ResyncOptions(**expected)]


def test_a_host_that_has_to_be_synchronized_and_is_not_steps_nobody(
    see_to: SeeTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        resyncing, "reference_of", lambda params: options.reference_of(params, lambda: options.HostClock(False))
    )
    record = see_to("[resync]\nrequire_synchronized_host = yes\n")
    assert (record.result, record.code) == ("failed", "host_clock_unsynchronized")


@pytest.mark.parametrize("in_call", [False, True])
def test_a_break_that_is_not_found_out_to_be_the_guests_doing_is_to_be_done_again(
    see_to: SeeTo, monkeypatch: pytest.MonkeyPatch, in_call: bool
) -> None:
    report = resyncs.ResyncReport(
        False, None, None, 0, before=None, after=None, guest_time_before_ns=0, guest_time_after_ns=0, duration_ns=0
    )

    async def resync(*_arguments: object) -> Any:
        return replace(report, error=errors.HypervisorUnavailableError("it broke", in_call=in_call))

    monkeypatch.setattr(resyncing, "resync", resync)
    record = see_to()
    assert (record.code, record.is_to_be_done_again) == ("hypervisor_unavailable", True)
