from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    InvalidOptionError,
    MissingLibraryError,
    NotFoundError,
    NotRunningError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import Fleet, fleet_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import FLEET_CONNECTIONS
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition, uuid_of
from tests.fakes.libvirt import FakeHypervisor, threads_of_lines
from tests.support.blocking import Blocking

URI = "qemu:///system"

# As AnsibleModule fills them in where the user gives none.
LIMITS = Limits(size=1000)
NONE_GIVEN: dict[str, Any] = {
    "domains": None,
    "uri": URI,
    "sockets": None,
    "timeout": 5.0,
    "exclude": [],
    "skip_unusable": False,
    "allow_empty": False,
}


def found(**options: Any) -> Fleet:
    with fleet_of({**NONE_GIVEN, **options}, LIMITS) as fleet:
        return fleet


def names(**options: Any) -> list[str]:
    return [guest.name for guest in found(**options).guests]


def refused(kind: type[QgaError], **options: Any) -> QgaError:
    with pytest.raises(kind) as caught, fleet_of({**NONE_GIVEN, **options}, LIMITS):
        pytest.fail("there is a fleet")
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    fake = FakeHypervisor(
        [
            Definition("web10"),
            Definition("web2"),
            Definition("web1"),
            Definition("db1", state=SHUT_OFF),
            Definition("db2", state=PAUSED),
            Definition("odd[1]*"),
        ]
    )
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()


class TestDomains:
    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize(
        ("domains", "guests"),
        [
            (["!db*", "!odd*"], ["web1", "web2", "web10"]),
            (["web1", "d*", "web2"], ["web1", "db1", "db2", "web2"]),
            (["odd[1]*"], ["odd[1]*"]),
        ],
    )
    def test_by_name_by_pattern_and_by_what_is_left_out(self, domains: list[str], guests: list[str]) -> None:
        assert names(domains=domains) == guests

    @pytest.mark.usefixtures("fake")
    def test_each_has_its_uuid(self) -> None:
        assert [guest.uuid for guest in found(domains=["web1", "db*", "nosuch"]).guests] == [
            *map(uuid_of, ("web1", "db1", "db2")),
            None,
        ]

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize(
        "text", [uuid_of("web1"), uuid_of("web1").upper(), uuid_of("web1").replace("-", ""), uuid_of("web1").title()]
    )
    def test_a_uuid_in_any_spelling_is_the_domain_of_that_name(self, text: str) -> None:
        (guest,) = found(domains=[text]).guests
        assert (guest.name, guest.uuid, guest.is_optional) == ("web1", uuid_of("web1"), False)
        assert names(domains=["web*", "!" + text]) == ["web2", "web10"]
        assert names(domains=["web*"], exclude=[text]) == ["web2", "web10"]

    @pytest.mark.usefixtures("fake")
    def test_one_that_is_named_twice_is_done_once_with_a_warning(self) -> None:
        fleet = found(domains=["web1", "web*", uuid_of("web1"), "web1"])
        assert [guest.name for guest in fleet.guests] == ["web1", "web2", "web10"]
        assert fleet.warnings == (
            f"{uuid_of('web1')} is named more than once; it is done once",
            "web1 is named more than once; it is done once",
        )

    @pytest.mark.parametrize(
        ("count", "domains"), [(1, ["web1"]), (500, ["*"]), (500, ["web1", uuid_of("web2"), "nosuch", "web*9"])]
    )
    def test_finding_them_takes_as_many_calls_however_many_there_are(
        self, fake: FakeHypervisor, count: int, domains: list[str]
    ) -> None:
        fake.definitions = [Definition(f"web{number}") for number in range(1, count + 1)]
        found(domains=domains)
        assert fake.calls == {"listAllDomains": 4}
        assert len(fake.connections) == 1

    @pytest.mark.usefixtures("fake")
    def test_one_that_does_not_run_carries_its_problem(self) -> None:
        off, paused, running = found(domains=["db1", "db2", "web1"]).guests
        assert isinstance(off.problem, NotRunningError)
        assert off.problem.message == f"domain db1 at {URI} is shut off"
        assert "virsh start db1" in off.problem.hint
        assert isinstance(paused.problem, NotRunningError)
        assert paused.problem.message == f"domain db2 at {URI} is paused"
        assert "virsh resume db2" in paused.problem.hint
        assert running.problem is None

    @pytest.mark.usefixtures("fake")
    def test_one_that_does_not_exist_carries_its_problem(self) -> None:
        (guest,) = found(domains=["nosuch"]).guests
        assert isinstance(guest.problem, NotFoundError)
        assert guest.problem.message == f"there is no domain nosuch at {URI}"

    @pytest.mark.usefixtures("fake")
    def test_those_that_are_matched_are_optional_and_those_that_are_named_are_not(self) -> None:
        guests = found(domains=["web*", "db1", "web2"]).guests
        assert {guest.name: guest.is_optional for guest in guests} == {
            "web1": True,
            "web2": False,
            "web10": True,
            "db1": False,
        }

    @pytest.mark.usefixtures("fake")
    def test_skip_unusable_makes_all_optional(self) -> None:
        guests = found(domains=["web*", "db1", "nosuch"], skip_unusable=True).guests
        assert all(guest.is_optional for guest in guests)

    def test_a_channel_is_to_the_domain_and_shares_the_connections(self, fake: FakeHypervisor) -> None:
        with fleet_of({**NONE_GIVEN, "domains": ["web*", uuid_of("odd[1]*")]}, LIMITS) as fleet:
            for guest in fleet.guests:
                with Blocking(guest.open()) as channel:
                    assert str(channel) == f"domain {guest.name} at {URI}"
                    channel.call(Request("guest-get-time"), 5.0)
        asked = [domain for domain, command in fake.commands if command == "guest-get-time"]
        assert asked == ["web1", "web2", "web10", "odd[1]*"]
        assert len(fake.connections) <= FLEET_CONNECTIONS
        fake.wait_until_all_is_given_back()

    def test_the_library_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "libvirt", None)
        error = refused(MissingLibraryError, domains=["*"])
        assert error.code == "missing_library"


class TestThatTheHypervisorIsClosed:
    def test_after_the_guests_were_found(self, fake: FakeHypervisor) -> None:
        found(domains=["*"])
        fake.wait_until_all_is_given_back()

    def test_after_an_error_of_whoever_works_with_them(self, fake: FakeHypervisor) -> None:
        with pytest.raises(ZeroDivisionError), fleet_of({**NONE_GIVEN, "domains": ["*"]}, LIMITS):
            raise ZeroDivisionError
        fake.wait_until_all_is_given_back()

    def test_after_a_pattern_that_matched_nothing(self, fake: FakeHypervisor) -> None:
        refused(NotFoundError, domains=["x*"])
        fake.wait_until_all_is_given_back()

    def test_when_it_cannot_be_connected_to(self, fake: FakeHypervisor) -> None:
        fake.go_away()
        assert refused(HypervisorUnavailableError, domains=["*"]).code == "hypervisor_unavailable"
        fake.wait_until_all_is_given_back()

    def test_when_it_does_not_answer(self, fake: FakeHypervisor) -> None:
        fake.open_waits_for = threading.Event()
        refused(HypervisorUnavailableError, domains=["*"], timeout=0.05)
        fake.open_waits_for.set()
        fake.wait_until_all_is_given_back()

    @pytest.mark.parametrize("domains", [[], [""]])
    def test_it_is_not_even_opened_for_bad_input(self, fake: FakeHypervisor, domains: list[str]) -> None:
        refused(InvalidOptionError, domains=domains)
        assert fake.connections == []
        assert threads_of_lines() == []


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Three sockets, and what is none: a file, a directory, a link to nowhere."""
    listeners = []
    for name in ("100.qga", "101.qga", "9.qga"):
        listeners.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listeners[-1].bind(str(tmp_path / name))
    (tmp_path / "notes.qga").touch()
    (tmp_path / "old.qga").mkdir()
    (tmp_path / "gone.qga").symlink_to(tmp_path / "nowhere")
    yield tmp_path
    for listener in listeners:
        listener.close()


def base_names(**options: Any) -> list[str]:
    return [os.path.basename(name) for name in names(**options)]


class TestSockets:
    def test_a_pattern_stands_for_the_sockets_that_fit_it(self, run_dir: Path) -> None:
        assert names(sockets=[f"{run_dir}/*.qga"]) == [f"{run_dir}/{name}.qga" for name in (9, 100, 101)]

    def test_by_path(self, run_dir: Path) -> None:
        fleet = found(sockets=[f"{run_dir}/101.qga", f"{run_dir}/9.qga"])
        assert [os.path.basename(guest.name) for guest in fleet.guests] == ["101.qga", "9.qga"]
        assert str(fleet.guests[0].open()) != str(fleet.guests[1].open())
        assert all(guest.uuid is None and guest.problem is None for guest in fleet.guests)

    def test_those_that_are_matched_are_optional_and_those_that_are_named_are_not(self, run_dir: Path) -> None:
        guests = found(sockets=[f"{run_dir}/*.qga", f"{run_dir}/9.qga"]).guests
        assert [guest.is_optional for guest in guests] == [False, True, True]
        guests = found(sockets=[f"{run_dir}/9.qga"], skip_unusable=True).guests
        assert [guest.is_optional for guest in guests] == [True]

    def test_a_path_that_is_named_is_tried_whatever_is_there(self, run_dir: Path) -> None:
        paths = [f"{run_dir}/{name}.qga" for name in ("nosuch", "notes", "gone")]
        guests = found(sockets=paths).guests
        assert [guest.name for guest in guests] == paths
        # What is not there is known before anybody is asked; of what is there, only the kernel knows who listens.
        assert [getattr(guest.problem, "code", None) for guest in guests] == ["not_found", None, "not_found"]
        with Blocking(guests[0].open()) as channel, pytest.raises(NotFoundError, match=r"nosuch\.qga"):
            channel.call(Request("guest-ping"), 1.0)

    def test_a_path_with_a_patterns_characters_in_it_may_be_named_exactly(self, run_dir: Path) -> None:
        (run_dir / "[1].qga").symlink_to(run_dir / "9.qga")
        (run_dir / "1.qga").symlink_to(run_dir / "100.qga")
        assert base_names(sockets=[f"{run_dir}/[1].qga"]) == ["[1].qga"]

    def test_links_to_one_socket_are_one_guest(self, run_dir: Path) -> None:
        (run_dir / "web1.qga").symlink_to(run_dir / "100.qga")
        (run_dir / "also.qga").symlink_to("web1.qga")
        (run_dir / "dir").symlink_to(run_dir)
        assert base_names(sockets=[f"{run_dir}/w*.qga", f"{run_dir}/100.qga", f"{run_dir}/dir/1*.qga"]) == [
            "100.qga",
            "101.qga",
        ]
        fleet = found(sockets=[f"{run_dir}/web1.qga", f"{run_dir}/also.qga"])
        assert [os.path.basename(guest.name) for guest in fleet.guests] == ["web1.qga"]
        assert fleet.warnings == (f"{run_dir}/also.qga is named more than once; it is done once",)

    @pytest.mark.parametrize("entry", ["{}/100.qga", "100.qga", "{}/100*", "1*0.qga", "{}/dir/100.qga", "{}/link.qga"])
    def test_what_is_left_out_is_told_by_path_or_by_the_files_name(self, run_dir: Path, entry: str) -> None:
        (run_dir / "dir").symlink_to(run_dir)
        (run_dir / "link.qga").symlink_to(run_dir / "100.qga")
        entry = entry.format(run_dir)
        for options in (
            {"sockets": [f"{run_dir}/1*.qga", "!" + entry]},
            {"sockets": [f"{run_dir}/1*.qga"], "exclude": [entry]},
            {"sockets": [f"{run_dir}/101.qga", f"{run_dir}/100.qga"], "exclude": [entry]},
        ):
            assert base_names(**options) == ["101.qga"]

    @pytest.mark.parametrize("entry", ["100.qga", "10?.qga", "{}/100.qga", "{}/10[0-9].qga"])
    def test_one_that_is_reached_by_a_link_is_left_out_all_the_same(
        self, run_dir: Path, tmp_path_factory: pytest.TempPathFactory, entry: str
    ) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "100.qga").symlink_to(run_dir / "100.qga")
        assert names(sockets=[f"{elsewhere}/100.qga"], exclude=[entry.format(run_dir)]) == []

    def test_one_that_is_left_out_need_not_exist(self, run_dir: Path) -> None:
        sockets = [f"{run_dir}/9.qga", f"{run_dir}/nosuch.qga"]
        for excluded in (f"{run_dir}/nosuch.qga", "nosuch.qga", "no*.qga"):
            assert base_names(sockets=sockets, exclude=[excluded]) == ["9.qga"]

    @pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
    def test_what_is_left_out_may_begin_in_the_home_directory(
        self, run_dir: Path, monkeypatch: pytest.MonkeyPatch, home: str
    ) -> None:
        # Of what is wanted, Ansible has expanded that before.
        monkeypatch.setenv("HOME", str(run_dir))
        assert base_names(sockets=[f"{run_dir}/1*.qga", f"!{home}/100.qga"]) == ["101.qga"]
        assert base_names(sockets=[f"{run_dir}/1*.qga"], exclude=[f"{home}/100.qga"]) == ["101.qga"]


class TestEmptiness:
    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("option", ["domains", "sockets"])
    def test_unless_it_may_be_empty(self, option: str) -> None:
        assert found(**{option: []}, allow_empty=True) == Fleet(())

    @pytest.mark.usefixtures("fake")
    def test_domains_that_match_nothing(self) -> None:
        error = refused(NotFoundError, domains=["web*", "x*", "y?"])
        assert error.code == "not_found"
        assert error.message == f"no domain at {URI} matches x*, y?"
        assert "allow_empty" in error.hint
        assert names(domains=["web?", "x*"], allow_empty=True) == ["web1", "web2"]

    def test_sockets_that_match_nothing(self, run_dir: Path) -> None:
        error = refused(NotFoundError, sockets=[f"{run_dir}/notes*"])
        assert error.message == f"no socket matches {run_dir}/notes*"
        assert names(sockets=[f"{run_dir}/notes*"], allow_empty=True) == []

    def test_a_hypervisor_without_domains(self, fake: FakeHypervisor) -> None:
        fake.definitions = []
        assert refused(NotFoundError, domains=["!web1"]).message == f"no domain at {URI} matches *"
        assert names(domains=["!web1"], allow_empty=True) == []
