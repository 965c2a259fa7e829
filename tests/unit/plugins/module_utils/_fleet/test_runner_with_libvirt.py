"""The runner over the channels of libvirt, at a hypervisor with many guests."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import fleet_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.opt_out import NAMESPACE
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import Guest, RunOptions, run_all
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.suspects import USUAL, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition
from tests.fakes.libvirt import FakeHypervisor, threads_of_lines

FOREVER = 60.0  # s; no test waits for it


OPTED_OUT = f'<resync xmlns="{NAMESPACE}" enabled="no"/>'


GUESTS = 200


SILENT = frozenset(f"guest{number}" for number in range(5, GUESTS, 10))


PARAMS: dict[str, Any] = {
    "uri": "qemu:///system",
    "timeout": 3.0,
    "exclude": [],
    "skip_unusable": False,
    "allow_empty": False,
}


def code(each: GuestResult) -> str | None:
    """Of the error or of the reason, whichever it has."""
    found = [each.entry[member] for member in ("error", "reason") if member in each.entry]
    assert len(found) <= 1
    return found[0]["code"] if found else None


async def ask_several_times(agent: GuestAgent) -> GuestResult:
    for command in ("guest-get-time", "guest-get-osinfo", "guest-get-time"):
        await agent.call(command)
    return GuestResult({})


@dataclasses.dataclass
class Watched:
    """The results of the domains of a hypervisor, and the names of the guests in the order in which they ended."""

    order: list[str] = dataclasses.field(default_factory=list)
    results: dict[str, GuestResult] = dataclasses.field(default_factory=dict)

    def run(
        self,
        domains: list[str],
        options: RunOptions,
        concurrency: int = 20,
        deadline: float = math.inf,
        timings: Timings = USUAL,
    ) -> None:
        with fleet_of({**PARAMS, "domains": domains}, Limits()) as found:
            guests = [dataclasses.replace(guest, open=self._watching(guest)) for guest in found.guests]
            ended = run_all(guests, ask_several_times, options, concurrency, Deadline(deadline), timings)
        self.results = {each.name: each for each in ended}

    def _watching(self, guest: Guest) -> Callable[[], Channel]:
        def open_watched() -> Channel:
            channel = guest.open()
            close = channel.close

            async def close_watched() -> None:
                await close()
                self.order.append(guest.name)

            channel.close = close_watched  # type: ignore[method-assign]
            return channel

        return open_watched

    def of(self, status: str) -> set[str]:
        return {name for name, each in self.results.items() if each.status == status}

    def codes(self) -> set[str | None]:
        return {code(each) for each in self.results.values()}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    fake = FakeHypervisor([Definition(f"guest{number}") for number in range(1, GUESTS + 1)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()
    fake.wait_until_all_is_given_back()


# Of a class, but no methods of it: on Python 3.9, pytest takes no static ones.
@pytest.fixture(scope="class")
def silent_hypervisor() -> Iterator[FakeHypervisor]:
    """Every tenth guest's agent hangs."""
    fake = FakeHypervisor(
        [Definition(f"guest{number}", is_silent=f"guest{number}" in SILENT) for number in range(1, GUESTS + 1)]
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(connections, "import_libvirt", fake.modules)
        yield fake


@pytest.fixture(scope="class")
def silent_run(silent_hypervisor: FakeHypervisor) -> Watched:  # noqa: ARG001  # in place before the run
    watched = Watched()
    watched.run(["*"], RunOptions(3.0))
    return watched


@pytest.mark.slow
class TestSilentDomains:
    """A hypervisor of which every tenth guest's agent hangs. These tests look at one run, which takes a while."""

    def test_they_fail_and_the_others_are_done(self, silent_run: Watched) -> None:
        assert silent_run.of("failed") == SILENT
        assert len(silent_run.of("done")) == GUESTS - len(SILENT)
        assert silent_run.codes() == {"unresponsive", None}

    def test_the_others_are_done_while_they_are_still_waited_for(self, silent_run: Watched) -> None:
        healthy = GUESTS - len(SILENT)
        assert not SILENT & set(silent_run.order[:healthy])
        assert set(silent_run.order[healthy:]) == SILENT

    def test_each_is_begun_once(self, silent_run: Watched) -> None:
        assert len(silent_run.order) == len(set(silent_run.order)) == GUESTS

    def test_the_daemon_is_never_asked_more_than_it_can_work_on(
        self, silent_hypervisor: FakeHypervisor, silent_run: Watched
    ) -> None:
        assert len(silent_run.results) == GUESTS
        assert silent_hypervisor.most_calls < 20
        assert silent_hypervisor.most_calls_of_a_connection <= 5
        assert len(silent_hypervisor.connections) <= 3 + 4

    def test_what_is_said_once_is_not_asked_twice(self, silent_hypervisor: FakeHypervisor, silent_run: Watched) -> None:
        asked = [domain for domain, _command in silent_hypervisor.commands]
        # A ping to see whether it answers, and then the work.
        assert all(asked.count(name) <= 4 for name in silent_run.of("done"))
        assert all(asked.count(name) <= 2 for name in SILENT)
        # Once, and again for those that were asked over another connection while silent ones held theirs.
        assert GUESTS <= silent_hypervisor.calls["lookupByName"] == silent_hypervisor.calls["state"] < 2 * GUESTS

    @pytest.mark.usefixtures("silent_run")
    def test_nothing_stays_behind(self, silent_hypervisor: FakeHypervisor) -> None:
        silent_hypervisor.wait_until_all_is_given_back()


class TestThroughLibvirt:
    def test_a_thousand_at_once_take_three_connections(self, fake: FakeHypervisor) -> None:
        watched = Watched()
        watched.run(["*"], RunOptions(3.0, touches_clock=True), concurrency=1000)
        assert len(watched.of("done")) == GUESTS
        assert len(fake.connections) == 3
        assert fake.most_calls <= 15
        assert fake.most_calls_of_a_connection <= 5

    def test_a_connection_that_breaks_in_the_middle_costs_no_guest(self, fake: FakeHypervisor) -> None:
        fake.at_agent_command = dict.fromkeys((100, 101, 350), fake.break_connections)
        watched = Watched()
        watched.run(["*"], RunOptions(3.0))
        assert len(watched.of("done")) == GUESTS
        assert len(fake.connections) > 3

    def test_a_daemon_that_is_away_for_a_while_costs_no_guest(self, fake: FakeHypervisor) -> None:
        fake.at_agent_command = {300: lambda: fake.go_away(attempts=50)}
        watched = Watched()
        watched.run(["*"], RunOptions(3.0))
        assert len(watched.of("done")) == GUESTS

    @pytest.mark.slow
    def test_a_daemon_that_stays_away_costs_those_that_were_not_done(self, fake: FakeHypervisor) -> None:
        fake.at_agent_command = {300: fake.go_away}
        watched = Watched()
        watched.run(["*"], RunOptions(3.0), timings=Timings(restart=0.2, retry=0.1))
        done, lost = watched.of("done"), watched.of("failed")
        assert done
        assert lost
        assert done | lost == {each.name for each in fake.definitions}
        assert {code(watched.results[name]) for name in lost} == {"hypervisor_unavailable"}

    def test_guests_that_a_pattern_matched_and_that_cannot_be_used_are_skipped(self, fake: FakeHypervisor) -> None:
        fake.definitions = [
            Definition("good"),
            Definition("off", state=SHUT_OFF),
            Definition("paused", state=PAUSED),
            Definition("bare", channel_state=None),
            Definition("without", channel_state="disconnected"),
            Definition("kept", metadata=OPTED_OUT),
        ]
        reasons = {
            "good": None,
            "off": "not_running",
            "paused": "not_running",
            "bare": "not_configured",
            "without": "not_connected",
            "kept": "opted_out",
        }
        for domains, status in ((["*"], "skipped"), ([*reasons, "gone"], "failed")):
            watched = Watched()
            watched.run(domains, RunOptions(3.0, touches_clock=True))
            expected = reasons if status == "skipped" else {**reasons, "gone": "not_found"}
            assert {name: code(each) for name, each in watched.results.items()} == expected
            assert watched.of("done") == {"good"}
            assert watched.of(status) == set(expected) - {"good"}
        assert all(domain in ("good", "bare", "without") for domain, _command in fake.commands)

    def test_one_that_was_shut_off_meanwhile_is_skipped_too(self, fake: FakeHypervisor) -> None:
        fake.definitions = [Definition("web1"), Definition("web2")]
        with fleet_of({**PARAMS, "domains": ["*"]}, Limits()) as found:
            fake.definitions[0].state = SHUT_OFF
            fake.definitions.pop()
            results = run_all(found.guests, ask_several_times, RunOptions(5.0), 20, Deadline(math.inf))
        assert [(each.status, code(each)) for each in results] == [
            ("skipped", "not_running"),
            ("skipped", "not_found"),
        ]

    @pytest.mark.slow
    def test_calls_that_hang_are_left_behind_at_the_deadline(self, fake: FakeHypervisor) -> None:
        silent = {each.name for each in fake.definitions[:: GUESTS // 4]}
        for each in fake.definitions:
            each.is_silent = each.name in silent
        watched = Watched()
        watched.run(["*"], RunOptions(FOREVER), deadline=5.0)
        assert threads_of_lines(), "they still wait for the hypervisor"
        assert watched.of("failed") == silent
        assert watched.codes() == {"deadline", None}
        fake.release()
        fake.wait_until_all_is_given_back()
