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
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import Fleet, fleet_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections, virsh
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import FLEET_CONNECTIONS
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition, uuid_of
from tests.fakes.libvirt import FakeHypervisor, threads_of_lines
from tests.support.blocking import Blocking

URI = "qemu:///system"
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
    return [os.path.basename(guest.name) for guest in found(**options).guests]


def refused(kind: type[QgaError], **options: Any) -> QgaError:
    with pytest.raises(kind) as caught:
        found(**options)
    return caught.value


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    running = [Definition(name) for name in ("web10", "web2", "web1", "odd[1]*")]
    fake = FakeHypervisor([*running, Definition("db1", state=SHUT_OFF), Definition("db2", state=PAUSED)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()
    fake.wait_until_all_is_released()


@pytest.mark.usefixtures("fake")
class TestDomains:
    def test_each_has_a_uuid_and_its_problem_and_is_optional_unless_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(virsh, "default_uri", lambda: URI)
        guests = found(domains=["web*", "db1", "d*", "nosuch", "web2"]).guests
        assert [
            (guest.name, guest.uuid, guest.is_optional, guest.problem and (guest.problem.code, guest.problem.message))
            for guest in guests
        ] == [
            ("web1", uuid_of("web1"), True, None),
            ("web2", uuid_of("web2"), False, None),
            ("web10", uuid_of("web10"), True, None),
            ("db1", uuid_of("db1"), False, ("not_running", f"domain 'db1' at {URI} is shut off")),
            ("db2", uuid_of("db2"), True, ("not_running", f"domain 'db2' at {URI} is paused")),
            ("nosuch", None, False, ("not_found", f"there is no domain 'nosuch' at {URI}")),
        ]
        assert all(guest.is_optional for guest in found(domains=["web1", "db1", "nosuch"], skip_unusable=True).guests)
        hints = [guest.problem.hint for guest in guests if guest.problem]
        for hint, command in zip(hints, ("virsh start db1", "virsh resume db2", "virsh list --all"), strict=True):
            assert f"`{command}`" in hint

    @pytest.mark.parametrize(
        "text", [uuid_of("web1"), uuid_of("web1").upper(), uuid_of("web1").replace("-", ""), uuid_of("web1").title()]
    )
    def test_a_uuid_in_any_spelling_selects_its_domain(self, text: str) -> None:
        (guest,) = found(domains=[text]).guests
        assert (guest.name, guest.uuid, guest.is_optional) == ("web1", uuid_of("web1"), False)
        assert names(domains=["web*", "!" + text]) == ["web2", "web10"]
        assert names(domains=["web*"], exclude=[text]) == ["web2", "web10"]

    def test_a_domain_that_is_named_twice_is_done_once_with_a_warning(self) -> None:
        fleet = found(domains=["web1", uuid_of("web1")])
        assert [guest.name for guest in fleet.guests] == ["web1"]
        assert fleet.warnings == (f"'{uuid_of('web1')}' is listed more than once; it is processed once",)

    @pytest.mark.parametrize("count", [1, 500])
    def test_the_number_of_calls_does_not_grow_with_that_of_domains(self, fake: FakeHypervisor, count: int) -> None:
        fake.definitions = [Definition(f"web{number}") for number in range(1, count + 1)]
        found(domains=["web1", uuid_of("web2"), "nosuch", "*"])
        assert fake.calls == {"listAllDomains": 4}
        assert len(fake.connections) == 1

    def test_channels_reach_their_domains_and_share_connections(self, fake: FakeHypervisor) -> None:
        with fleet_of({**NONE_GIVEN, "domains": ["web*", uuid_of("odd[1]*")]}, LIMITS) as fleet:
            for guest in fleet.guests:
                with Blocking(guest.open()) as channel:
                    assert str(channel) == f"domain '{guest.name}' at {URI}"
                    channel.call(Request("guest-get-time"), 5.0)
        asked = [domain for domain, command in fake.commands if command == "guest-get-time"]
        assert asked == ["web1", "web2", "web10", "odd[1]*"]
        assert len(fake.connections) <= FLEET_CONNECTIONS

    def test_a_missing_library_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "libvirt", None)
        refused(MissingLibraryError, domains=["*"])


class TestThatTheHypervisorIsClosed:
    """The fixture checks that everything is released."""

    @pytest.mark.usefixtures("fake")
    def test_after_an_error_in_the_body_of_the_with_statement(self) -> None:
        with pytest.raises(ZeroDivisionError), fleet_of({**NONE_GIVEN, "domains": ["*"]}, LIMITS):
            raise ZeroDivisionError

    def test_when_the_connection_fails(self, fake: FakeHypervisor) -> None:
        fake.go_away()
        refused(HypervisorUnavailableError, domains=["*"])

    def test_when_it_does_not_answer(self, fake: FakeHypervisor) -> None:
        fake.open_waits_for = threading.Event()
        refused(HypervisorUnavailableError, domains=["*"], timeout=0.05)
        fake.open_waits_for.set()

    @pytest.mark.parametrize("domains", [[], [""]])
    def test_it_is_not_opened_for_invalid_options(self, fake: FakeHypervisor, domains: list[str]) -> None:
        refused(InvalidOptionError, domains=domains)
        assert fake.connections == []
        assert threads_of_lines() == []


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory with three sockets, and three paths that are not sockets: a file, a directory, a dangling link."""
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


class TestSockets:
    def test_sockets_that_match_a_pattern_are_optional_unless_named(self, run_dir: Path) -> None:
        guests = found(sockets=[f"{run_dir}/*.qga", f"{run_dir}/9.qga"]).guests
        assert [(guest.name, guest.is_optional) for guest in guests] == [
            (f"{run_dir}/9.qga", False),
            (f"{run_dir}/100.qga", True),
            (f"{run_dir}/101.qga", True),
        ]
        assert [guest.is_optional for guest in found(sockets=[f"{run_dir}/9.qga"], skip_unusable=True).guests] == [True]

    def test_a_named_path_is_tried_whatever_is_there(self, run_dir: Path) -> None:
        paths = [f"{run_dir}/{name}.qga" for name in ("nosuch", "notes", "gone")]
        guests = found(sockets=paths).guests
        assert [guest.name for guest in guests] == paths
        # A missing socket is known without connecting; for an existing path, only the kernel knows of a listener.
        assert [guest.problem and guest.problem.message for guest in guests] == [
            f"there is no socket '{paths[0]}'",
            None,
            f"there is no socket '{paths[2]}'",
        ]
        with Blocking(guests[0].open()) as channel, pytest.raises(NotFoundError, match=r"nosuch\.qga"):
            channel.call(Request("guest-ping"), 1.0)

    def test_a_path_with_pattern_characters_can_be_named_exactly(self, run_dir: Path) -> None:
        (run_dir / "[1].qga").symlink_to(run_dir / "9.qga")
        (run_dir / "1.qga").symlink_to(run_dir / "100.qga")
        assert names(sockets=[f"{run_dir}/[1].qga"]) == ["[1].qga"]

    def test_links_to_one_socket_are_one_guest(self, run_dir: Path) -> None:
        (run_dir / "web1.qga").symlink_to(run_dir / "100.qga")
        (run_dir / "also.qga").symlink_to("web1.qga")
        (run_dir / "dir").symlink_to(run_dir)
        sockets = [f"{run_dir}/w*.qga", f"{run_dir}/100.qga", f"{run_dir}/dir/1*.qga"]
        assert names(sockets=sockets) == ["100.qga", "101.qga"]
        fleet = found(sockets=[f"{run_dir}/web1.qga", f"{run_dir}/also.qga"])
        assert [guest.name for guest in fleet.guests] == [f"{run_dir}/web1.qga"]
        assert fleet.warnings == (f"'{run_dir}/also.qga' is listed more than once; it is processed once",)

    @pytest.mark.parametrize(
        ("sockets", "entry"),
        [
            *(("1*.qga", entry) for entry in ("{}/100.qga", "100.qga", "{}/100*", "1*0.qga")),
            *(("1*.qga", entry) for entry in ("{}/dir/100.qga", "{}/link.qga")),
            # Ansible expands only the entries of `sockets` that are not exclusions.
            *(("1*.qga", f"{home}/100.qga") for home in ("~", "$HOME", "${{HOME}}")),
            *(("elsewhere/100.qga", entry) for entry in ("100.qga", "10?.qga", "{}/100.qga", "{}/10[02-9].qga")),
            *(("nosuch.qga", entry) for entry in ("{}/nosuch.qga", "nosuch.qga", "no*.qga")),
        ],
    )
    def test_a_socket_is_excluded_by_any_path_or_by_its_file_name(
        self, run_dir: Path, monkeypatch: pytest.MonkeyPatch, sockets: str, entry: str
    ) -> None:
        monkeypatch.setenv("HOME", str(run_dir))
        (run_dir / "dir").symlink_to(run_dir)
        (run_dir / "link.qga").symlink_to(run_dir / "100.qga")
        (run_dir / "elsewhere").mkdir()
        (run_dir / "elsewhere" / "100.qga").symlink_to(run_dir / "100.qga")
        wanted = [f"{run_dir}/9.qga", f"{run_dir}/{sockets}"]
        left = ["9.qga", "101.qga"] if "*" in sockets else ["9.qga"]
        assert names(sockets=[*wanted, "!" + entry.format(run_dir)]) == left
        assert names(sockets=wanted, exclude=[entry.format(run_dir)]) == left


@pytest.mark.usefixtures("fake")
class TestEmptiness:
    @pytest.mark.parametrize("option", ["domains", "sockets"])
    def test_an_empty_list_is_accepted_if_allowed(self, option: str) -> None:
        assert found(**{option: []}, allow_empty=True) == Fleet(())

    @pytest.mark.parametrize(
        ("options", "says", "rest"),
        [
            ({"domains": ["web?", "x*", "y?"]}, f"no domain at {URI} matches 'x*', 'y?'", ["web1", "web2"]),
            ({"sockets": ["{}/notes*", "{}/9.qga"]}, "no socket matches '{}/notes*'", ["9.qga"]),
        ],
    )
    def test_patterns_that_match_nothing_are_an_error_unless_allowed(
        self, run_dir: Path, options: dict[str, list[str]], says: str, rest: list[str]
    ) -> None:
        given = {option: [entry.format(run_dir) for entry in entries] for option, entries in options.items()}
        error = refused(NotFoundError, **given)
        assert error.message == says.format(run_dir)
        assert "allow_empty" in error.hint
        assert names(**given, allow_empty=True) == rest

    def test_a_hypervisor_without_domains_is_an_error_unless_allowed(self, fake: FakeHypervisor) -> None:
        fake.definitions = []
        assert refused(NotFoundError, domains=["!web1"]).message == f"no domain at {URI} matches '*'"
        assert names(domains=["!web1"], allow_empty=True) == []
