from __future__ import annotations

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
    PermissionDeniedError,
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
from tests.fakes.hypervisors import HypervisorsByUri, stock_replies
from tests.fakes.libvirt import FakeHypervisor

HV1, HV2, NOWHERE = "qemu+tls://hv1/system", "qemu+tls://hv2/system", "qemu+tls://nowhere/system"
MACS = ("52:54:00:00:00:02", "52:54:00:00:00:01")
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


def by_name(**options: Any) -> dict[str, ListedGuest]:
    return {guest.name: guest for guest in asked(**options).guests}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[HypervisorsByUri]:
    first = [
        Definition("web1", replies=stock_replies(), macs=MACS),
        Definition("web10", channel_state=None, macs=MACS),
        Definition("web2", channel_state="disconnected"),
        Definition("db1", state=SHUT_OFF),
    ]
    second = [
        Definition("web3", replies=stock_replies(guest_get_host_name={"host-name": "third"})),
        Definition("db2", state=PAUSED),
    ]
    fake = HypervisorsByUri({HV1: FakeHypervisor(first), HV2: FakeHypervisor(second)})
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    for each in fake.by_uri.values():
        each.release()
        each.wait_until_all_is_released()


class TestGuests:
    def test_guests_are_listed_by_hypervisor_and_name_with_facts_or_a_reason(self, fake: HypervisorsByUri) -> None:
        found = asked()
        assert [
            (guest.uri, guest.name, guest.uuid, guest.state, guest.status, (guest.error or {}).get("code"), guest.macs)
            for guest in found.guests
        ] == [
            (HV1, "db1", uuid_of("db1"), "shutoff", "skipped", "not_running", ()),
            (HV1, "web1", uuid_of("web1"), "running", "ok", None, MACS),
            (HV1, "web2", uuid_of("web2"), "running", "skipped", "not_connected", ()),
            (HV1, "web10", uuid_of("web10"), "running", "skipped", "not_configured", ()),
            (HV2, "db2", uuid_of("db2"), "paused", "skipped", "not_running", ()),
            (HV2, "web3", uuid_of("web3"), "running", "ok", None, ()),
        ]
        assert (found.warnings, found.is_complete) == ((), True)
        facts = {guest.name: guest.facts for guest in found.guests if guest.facts}
        assert set(facts) == {"web1", "web3"}
        assert set(facts["web1"]) == {"agent", "hostname", "os", "timezone", "network", "errors"}
        assert facts["web3"]["hostname"] == "third"
        assert fake.by_uri[HV1].calls["XMLDesc"] <= 3  # for web1, and for those whose agent cannot be queried

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("error", [NotRunningError, PermissionDeniedError])
    def test_a_guest_keeps_its_facts_if_its_definition_cannot_be_read(
        self, monkeypatch: pytest.MonkeyPatch, error: type[QgaError]
    ) -> None:
        async def refuse(_channel: LibvirtChannel, _timeout: float) -> tuple[str, ...]:
            raise error("domain 'web1' is shut off")

        monkeypatch.setattr(LibvirtChannel, "macs", refuse)
        web1 = by_name(uris=(HV1,))["web1"]
        assert (web1.status, web1.macs, bool(web1.facts["network"])) == ("ok", (), True)

    def test_a_broken_connection_loses_neither_facts_nor_addresses(
        self, fake: HypervisorsByUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        describe = Domain.XMLDesc
        broken: list[Domain] = []

        def break_once(domain: Domain, flags: int) -> str:
            if not broken:
                broken.append(domain)
                fake.by_uri[HV1].break_connections()
            return describe(domain, flags)

        del fake.by_uri[HV1].definitions[1:]
        monkeypatch.setattr(Domain, "XMLDesc", break_once)
        (web1,) = asked(uris=(HV1,)).guests
        assert (web1.status, web1.macs, len(broken)) == ("ok", MACS, 1)

    @pytest.mark.parametrize("state", range(9))
    def test_running_and_blocked_guests_are_queried(self, fake: HypervisorsByUri, state: int) -> None:
        fake.by_uri[HV1].definitions[0].state = state
        web1 = by_name()["web1"]
        assert web1.state == (STATES[state] if state < len(STATES) else "nostate")
        assert web1.status == ("ok" if state in (1, 2) else "skipped")

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ({"states": ("paused", "shutoff")}, {"db1", "db2"}),
            ({"wanted": ("web*",), "excluded": ("web?",)}, {"web10"}),
            ({"wanted": ("web1", uuid_of("web3").upper())}, {"web1", "web3"}),
        ],
    )
    def test_only_selected_guests_in_selected_states_are_listed(self, options: dict[str, Any], names: set[str]) -> None:
        assert set(by_name(**options)) == names

    @pytest.mark.usefixtures("fake")
    def test_a_guest_that_is_listed_by_name_fails_where_a_pattern_would_skip_it(self) -> None:
        assert by_name(wanted=("web2", "*"))["web2"].status == "failed"

    @pytest.mark.usefixtures("fake")
    def test_entries_without_a_match_and_repeated_guests_are_warnings(self) -> None:
        assert asked(wanted=("web1", "web3", "db*")).warnings == ()
        uuid = uuid_of("web1")
        found = asked(wanted=("web1", "nosuch", "x*", uuid))
        assert [guest.name for guest in found.guests] == ["web1"]
        assert found.warnings == (
            f"The entry 'nosuch' of domains matches no domain at {HV1}, {HV2}.",
            f"The entry 'x*' of domains matches no domain at {HV1}, {HV2}.",
            f"'{uuid}' is listed more than once in domains; it becomes one host.",
        )

    def test_only_the_given_subsets_are_gathered(self, fake: HypervisorsByUri) -> None:
        with pytest.raises(InvalidOptionError):
            asked(gather_subset=("nosuch",))
        assert fake.by_uri[HV1].calls == {}
        assert by_name(gather_subset=("!all",))["web1"].status == "ok"
        assert fake.by_uri[HV1].commands == []
        assert by_name(gather_subset=("min",))["web1"].macs == ()


@pytest.mark.usefixtures("fake")
class TestHypervisors:
    def test_an_unreachable_hypervisor_is_a_warning_and_does_not_hide_other_guests(self) -> None:
        found = asked(uris=(NOWHERE, HV2, HV2))
        assert [guest.name for guest in found.guests] == ["db2", "web3"]
        assert not found.is_complete
        (warning,) = found.warnings
        assert warning.startswith(f"The guests of {NOWHERE} are missing: cannot connect")

    @pytest.mark.parametrize("options", [{"uris": (NOWHERE,)}, {"uris": (HV1, NOWHERE), "is_strict": True}])
    def test_it_is_an_error_if_no_hypervisor_or_not_every_required_one_is_reachable(
        self, fake: HypervisorsByUri, options: dict[str, Any]
    ) -> None:
        with pytest.raises(HypervisorUnavailableError, match="nowhere"):
            asked(**options)
        assert fake.by_uri[HV1].commands == []

    def test_an_internal_error_at_one_hypervisor_does_not_affect_others(
        self, fake: HypervisorsByUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = fake.by_uri[HV1].open

        def open_broken(uri: str) -> Any:
            connection = opened(uri)
            connection.listAllDomains = None
            return connection

        monkeypatch.setattr(fake.by_uri[HV1], "open", open_broken)
        found = asked()
        assert {guest.uri for guest in found.guests} == {HV2}
        assert "internal error" in found.warnings[0]

    @pytest.mark.parametrize("states", [STATES, ("shutoff",), ("running",)])
    def test_a_definition_that_a_migration_left_on_the_old_hypervisor_is_left_out(
        self, fake: HypervisorsByUri, states: tuple[str, ...]
    ) -> None:
        fake.by_uri[HV1].definitions = [Definition("web1", state=SHUT_OFF)]
        fake.by_uri[HV2].definitions = [Definition("web1", replies=stock_replies())]
        found = asked(states=states)
        assert [(guest.uri, guest.status) for guest in found.guests] == [(HV2, "ok")] * ("running" in states)
        assert found.warnings == (
            f"Domain 'web1' runs at {HV2}; the domain at {HV1} has the same UUID, does not run, and is left out.",
        )

    @pytest.mark.parametrize("state", [1, SHUT_OFF])
    def test_two_domains_with_one_uuid_are_two_guests_if_both_run_or_neither_does(
        self, fake: HypervisorsByUri, state: int
    ) -> None:
        for each in fake.by_uri.values():
            each.definitions = [Definition("web1", state=state, replies=stock_replies())]
        found = asked()
        assert ([guest.uri for guest in found.guests], found.warnings) == ([HV1, HV2], ())


@pytest.mark.slow
def test_many_unresponsive_guests_together_cost_one_timeout(fake: HypervisorsByUri) -> None:
    names = [f"web{number}" for number in range(200)]
    silent = set(names[::10])
    fake.by_uri[HV1].definitions = [
        Definition(name, is_silent=name in silent, replies=stock_replies()) for name in names
    ]
    started = time.monotonic()
    found = by_name(uris=(HV1,), timeout=4.0)
    duration = time.monotonic() - started
    assert {name: (guest.status, (guest.error or {}).get("code")) for name, guest in found.items()} == {
        name: ("failed", "unresponsive") if name in silent else ("ok", None) for name in names
    }
    # The daemon never gets more calls than it can handle.
    assert fake.by_uri[HV1].most_calls < 20
    assert fake.by_uri[HV1].most_calls_of_a_connection <= 5
    assert len(fake.by_uri[HV1].connections) <= 3 + 4
    # The limit is 4 s, plus half a second for 200 guests. In turns, they would take 11 s. A busy machine may be slow.
    assert duration < 10.0


GUEST = ListedGuest(HV1, "web1", uuid_of("web1"), "running", "failed", {}, {"code": "timeout"}, MACS[:1])


def test_failures_of_guests_are_one_sentence() -> None:
    error = failure_of([replace(GUEST, name=f"web{number}") for number in range(7)])
    named = ", ".join(f"web{number} (timeout)" for number in range(5))
    assert error is not None
    assert error.message == f"7 of 7 guests returned no facts: {named} and 2 more"
    assert failure_of([replace(GUEST, status="ok")]) is None


class Text(str):
    """Like Ansible's own subclasses of str."""

    __slots__ = ()


class TestCache:
    def test_a_listing_is_read_back_in_plain_types(self) -> None:
        listing = Listing((replace(GUEST, facts={"hostname": Text("web1")}),), ("Look out.",))
        found = Listing.of_dict(listing.as_dict())
        assert found == listing
        assert found.guests[0].facts["hostname"].__class__ is str

    @pytest.mark.parametrize(
        "kept",
        [
            *(None, 5, [], {}),
            {"version": 2, "guests": [], "warnings": []},
            *({"version": 1, "guests": guests, "warnings": []} for guests in ({"a": 1}, [{}], [object()])),
            {"version": 1, "guests": []},
            *(
                {"version": 1, "guests": [{**vars(GUEST), **change}], "warnings": []}
                for change in (
                    *({"uri": 1}, {"name": None}, {"uuid": "{{ x }}"}, {"state": "{{ x }}"}, {"status": "done"}),
                    *({"facts": []}, {"error": "x"}, {"macs": None}, {"macs": [1]}, {"more": 1}),
                )
            ),
        ],
    )
    def test_invalid_content_is_not_read(self, kept: Any) -> None:
        assert Listing.of_dict(kept) is None

    def test_every_query_has_its_own_digest(self) -> None:
        query = Query(**ANYTHING)
        texts = ("uris", "wanted", "excluded", "states", "gather_subset")
        others = [replace(query, timeout=6.0), *(replace(query, **{name: ("x",)}) for name in texts)]
        digests = [each.digest() for each in (query, *others)]
        assert len(set(digests)) == len(digests)
        assert Query(**ANYTHING).digest() == query.digest()
