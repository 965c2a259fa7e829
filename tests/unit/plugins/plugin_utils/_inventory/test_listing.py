from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    InvalidOptionError,
    NotRunningError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import (
    STATES,
    ListedGuest,
    Listing,
    Query,
    failure_of,
    list_guests,
)

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition, Domain, uuid_of
from tests.fakes.hypervisors import HypervisorsByUri, telling
from tests.fakes.libvirt import FakeHypervisor
from tests.fakes.libvirt_replies import LibvirtError

HV1, HV2, NOWHERE = "qemu+tls://hv1/system", "qemu+tls://hv2/system", "qemu+tls://nowhere/system"


ANYTHING: dict[str, Any] = {
    "uris": (HV1, HV2),
    "wanted": ("*",),
    "excluded": (),
    "states": STATES,
    "gather_subset": ("min", "network"),
    "timeout": 5.0,
    "concurrency": 20,
}


def asked(**options: Any) -> Listing:
    return list_guests(Query(**{**ANYTHING, **options}))


def by_name(found: Listing) -> dict[str, ListedGuest]:
    guests = {guest.name: guest for guest in found.guests}
    assert len(guests) == len(found.guests)
    return guests


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[HypervisorsByUri]:
    fake = HypervisorsByUri(
        {
            HV1: FakeHypervisor(
                [
                    Definition("web1", replies=telling()),
                    Definition("web10", channel_state=None),
                    Definition("web2", channel_state="disconnected"),
                    Definition("db1", state=SHUT_OFF),
                ]
            ),
            HV2: FakeHypervisor(
                [
                    Definition("web3", replies=telling(guest_get_host_name={"host-name": "third"})),
                    Definition("db2", state=PAUSED),
                ]
            ),
        }
    )
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    for each in fake.by_uri.values():
        each.release()
        each.wait_until_all_is_given_back()


@pytest.mark.usefixtures("fake")
class TestGuests:
    def test_those_that_answer_have_their_facts_and_others_a_reason(self) -> None:
        guests = by_name(asked())
        assert {name: (guest.status, (guest.error or {}).get("code")) for name, guest in guests.items()} == {
            "web1": ("ok", None),
            "web2": ("skipped", "not_connected"),
            "web10": ("skipped", "not_configured"),
            "db1": ("skipped", "not_running"),
            "web3": ("ok", None),
            "db2": ("skipped", "not_running"),
        }
        assert set(guests["web1"].facts) == {"agent", "hostname", "os", "timezone", "network", "errors"}
        assert guests["web3"].facts["hostname"] == "third"
        assert guests["db2"].facts == {}

    def test_those_with_facts_on_their_network_have_the_macs_of_their_definition(self, fake: HypervisorsByUri) -> None:
        macs = ("52:54:00:00:00:02", "52:54:00:00:00:01")
        for each in fake.by_uri[HV1].definitions:
            each.macs = macs
        assert {name: guest.macs for name, guest in by_name(asked()).items() if guest.macs} == {"web1": macs}
        assert fake.by_uri[HV1].calls["XMLDesc"] <= 3  # of the one, and of those whose agent cannot be asked
        assert by_name(asked(gather_subset=("min",)))["web1"].macs == ()

    def test_a_definition_that_may_not_be_seen_costs_no_facts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_domain: Any, _flags: int) -> str:
            raise LibvirtError(88, "access denied")

        monkeypatch.setattr(Domain, "XMLDesc", refuse)
        web1 = by_name(asked(uris=(HV1,)))["web1"]
        assert (web1.status, web1.macs) == ("ok", ())
        assert web1.facts["network"]

    def test_a_connection_that_breaks_meanwhile_costs_neither_facts_nor_addresses(
        self, fake: HypervisorsByUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hv1, macs, describe = fake.by_uri[HV1], ("52:54:00:00:00:01",), Domain.XMLDesc
        hv1.definitions = [Definition("web1", replies=telling(), macs=macs)]
        broken: list[Domain] = []

        def break_once(domain: Domain, flags: int) -> str:
            if not broken:
                broken.append(domain)
                hv1.break_connections()
            return describe(domain, flags)

        monkeypatch.setattr(Domain, "XMLDesc", break_once)
        (web1,) = asked(uris=(HV1,)).guests
        assert (web1.status, web1.macs, len(broken)) == ("ok", macs, 1)

    def test_a_guest_that_is_stopped_meanwhile_keeps_its_facts(
        self, fake: HypervisorsByUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def stopped(_channel: LibvirtChannel, _timeout: float) -> tuple[str, ...]:
            raise NotRunningError("domain web1 is shut off")

        fake.by_uri[HV1].definitions = [Definition("web1", replies=telling())]
        monkeypatch.setattr(LibvirtChannel, "macs", stopped)
        (web1,) = asked(uris=(HV1,)).guests
        assert (web1.status, web1.macs) == ("ok", ())
        assert web1.facts["network"]

    def test_they_are_listed_by_hypervisor_and_name(self) -> None:
        assert [guest.name for guest in asked().guests] == ["db1", "web1", "web2", "web10", "db2", "web3"]

    def test_each_has_its_place_and_state(self) -> None:
        found = by_name(asked())
        assert {name: (guest.uri, guest.state) for name, guest in found.items() if name.startswith("db")} == {
            "db1": (HV1, "shutoff"),
            "db2": (HV2, "paused"),
        }
        assert found["web1"].uuid == uuid_of("web1")

    @pytest.mark.parametrize("state", range(9))
    def test_one_that_runs_or_is_blocked_is_asked(self, fake: HypervisorsByUri, state: int) -> None:
        fake.by_uri[HV1].definitions[0].state = state
        web1 = by_name(asked())["web1"]
        assert web1.state == (STATES[state] if state < len(STATES) else "nostate")
        assert web1.status == ("ok" if state in (1, 2) else "skipped")

    def test_only_those_in_one_of_the_states(self) -> None:
        assert {guest.name for guest in asked(states=("paused", "shutoff")).guests} == {"db1", "db2"}

    @pytest.mark.parametrize(
        ("wanted", "excluded", "names"),
        [
            (("web*",), ("web?",), {"web10"}),
            (("!db*",), (), {"web1", "web2", "web3", "web10"}),
            (("web1", uuid_of("web3").upper()), (), {"web1", "web3"}),
        ],
    )
    def test_only_those_that_are_selected(self, wanted: Any, excluded: Any, names: set[str]) -> None:
        assert {guest.name for guest in asked(wanted=wanted, excluded=excluded).guests} == names

    def test_one_that_is_named_itself_has_failed_where_a_pattern_would_skip_it(self) -> None:
        assert by_name(asked(wanted=("web2", "*")))["web2"].status == "failed"

    def test_an_entry_that_fits_nowhere_is_warned_of(self) -> None:
        assert asked(wanted=("web1", "web3", "db*")).warnings == ()
        (first, second) = asked(wanted=("web1", "nosuch", "x*")).warnings
        assert "nosuch" in first
        assert "x*" in second

    def test_one_that_is_named_twice_is_one(self) -> None:
        found = asked(wanted=("web1", uuid_of("web1")))
        assert [guest.name for guest in found.guests] == ["web1"]
        assert len(found.warnings) == 1

    def test_without_subsets_nobody_is_asked(self, fake: HypervisorsByUri) -> None:
        assert by_name(asked(gather_subset=("!all",)))["web1"].status == "ok"
        assert fake.by_uri[HV1].commands == []

    def test_a_subset_that_there_is_not_is_refused_before_anybody_is_asked(self, fake: HypervisorsByUri) -> None:
        with pytest.raises(InvalidOptionError):
            asked(gather_subset=("nosuch",))
        assert fake.by_uri[HV1].calls == {}


@pytest.mark.usefixtures("fake")
class TestHypervisors:
    def test_one_that_cannot_be_reached_is_a_warning_and_hides_nobody(self) -> None:
        found = asked(uris=(NOWHERE, HV2))
        assert {guest.name for guest in found.guests} == {"web3", "db2"}
        assert not found.is_complete
        (warning,) = found.warnings
        assert NOWHERE in warning

    def test_with_all_of_them_there_it_is_complete(self) -> None:
        assert asked().is_complete

    def test_if_none_can_be_reached_that_is_an_error(self) -> None:
        with pytest.raises(HypervisorUnavailableError, match="nowhere"):
            asked(uris=(NOWHERE,))

    def test_if_all_are_required_one_is_an_error_before_any_guest_is_asked(self, fake: HypervisorsByUri) -> None:
        with pytest.raises(HypervisorUnavailableError, match="nowhere"):
            asked(uris=(HV1, NOWHERE), is_strict=True)
        assert fake.by_uri[HV1].commands == []

    def test_one_that_is_named_twice_is_one(self) -> None:
        assert len(asked(uris=(HV2, HV2)).guests) == 2

    def test_a_defect_met_with_one_costs_the_others_nothing(
        self, fake: HypervisorsByUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_flags: int) -> None:
            raise ZeroDivisionError

        opened = fake.by_uri[HV1].open

        def open_broken(uri: str) -> Any:
            connection = opened(uri)
            connection.listAllDomains = fail
            return connection

        monkeypatch.setattr(fake.by_uri[HV1], "open", open_broken)
        found = asked()
        assert {guest.uri for guest in found.guests} == {HV2}
        assert "defect" in found.warnings[0]


class TestDefinitionsLeftBehind:
    @pytest.mark.parametrize("states", [STATES, ("shutoff",), ("running",)])
    def test_of_a_guest_that_was_moved_only_the_one_that_runs_is_left(
        self, fake: HypervisorsByUri, states: tuple[str, ...]
    ) -> None:
        fake.by_uri[HV1].definitions = [Definition("web1", state=SHUT_OFF)]
        fake.by_uri[HV2].definitions = [Definition("web1", replies=telling())]
        found = asked(states=states)
        assert [(guest.uri, guest.status) for guest in found.guests] == [(HV2, "ok")] * ("running" in states)
        (warning,) = found.warnings
        assert HV1 in warning
        assert HV2 in warning

    @pytest.mark.parametrize("state", [1, SHUT_OFF])
    def test_if_both_run_or_none_does_they_are_two(self, fake: HypervisorsByUri, state: int) -> None:
        for uri in (HV1, HV2):
            fake.by_uri[uri].definitions = [Definition("web1", state=state, replies=telling())]
        found = asked()
        assert [guest.uri for guest in found.guests] == [HV1, HV2]
        assert found.warnings == ()


class TestSilentGuests:
    @pytest.mark.slow
    def test_more_of_them_than_may_be_asked_at_once_cost_one_time_limit(self, fake: HypervisorsByUri) -> None:
        names = [f"web{number}" for number in range(200)]
        silent = set(names[::10])
        fake.by_uri[HV1].definitions = [Definition(name, is_silent=name in silent, replies=telling()) for name in names]
        started = time.monotonic()
        found = by_name(asked(uris=(HV1,), timeout=4.0))
        duration = time.monotonic() - started
        assert {name for name, guest in found.items() if guest.status == "failed"} == silent
        assert {name for name, guest in found.items() if guest.status == "ok"} == set(names) - silent
        # The limit is 4 s, and half a second for so many. By turns, they would take 11 s; a busy machine may be late.
        assert duration < 10.0
        assert {(found[name].error or {})["code"] for name in silent} == {"unresponsive"}

    def test_what_to_say_of_those_that_failed_is_one_sentence(self) -> None:
        guests = [
            ListedGuest(HV1, f"web{number}", uuid_of("x"), "running", "failed", {}, {"code": "timeout"})
            for number in range(7)
        ]
        error = failure_of(guests)
        assert error is not None
        assert "7 of 7" in error.message
        assert error.message.endswith("web4 (timeout) and 2 more")
        assert failure_of([]) is None


GUEST = ListedGuest(HV1, "web1", uuid_of("web1"), "running", "failed", {}, {"code": "timeout"}, ("52:54:00:00:00:01",))


class Text(str):
    """As Ansible's own kinds of text."""

    __slots__ = ()


class TestKeeping:
    def test_what_is_read_back_is_what_was_kept_in_plain_types(self) -> None:
        guest = replace(GUEST, facts={"hostname": Text("web1")})
        listing = Listing((guest,), ("Look out.",))
        found = Listing.of_dict(listing.as_dict())
        assert found == listing
        assert not isinstance(found.guests[0].facts["hostname"], Text)

    @pytest.mark.parametrize(
        "kept",
        [
            *(None, 5, [], {}),
            {"version": 2, "guests": [], "warnings": []},
            {"version": 1, "guests": {}},
            {"version": 1, "guests": [{}], "warnings": []},
            {"version": 1, "guests": [object()], "warnings": []},
            *[
                {"version": 1, "guests": [{**GUEST.as_dict(), **change}], "warnings": []}
                for change in (
                    {"uri": 1},
                    {"name": None},
                    {"uuid": "{{ x }}"},
                    {"state": "{{ x }}"},
                    {"status": "done"},
                    {"facts": []},
                    {"error": "x"},
                    {"macs": None},
                    {"macs": [1]},
                    {"more": 1},
                )
            ],
            {
                "version": 1,
                "guests": [{name: v for name, v in GUEST.as_dict().items() if name != "macs"}],
                "warnings": [],
            },
        ],
    )
    def test_what_is_something_else_is_not_read(self, kept: Any) -> None:
        assert Listing.of_dict(kept) is None

    def test_queries_are_told_apart(self) -> None:
        query = Query(**ANYTHING)
        changes: tuple[dict[str, Any], ...] = (
            {"uris": ("x",)},
            {"wanted": ("x",)},
            {"excluded": ("x",)},
            {"states": ("running",)},
            {"gather_subset": ("all",)},
            {"timeout": 6.0},
        )
        digests = {replace(query, **change).digest() for change in ({}, *changes)}
        assert len(digests) == len(changes) + 1
        assert query.digest() in digests


def test_without_libvirts_library_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(QgaError) as caught:
        asked()
    assert caught.value.code == "missing_library"
