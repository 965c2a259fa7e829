from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    PermissionDeniedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.domains import Domain, list_domains
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition, uuid_of
from tests.fakes.libvirt import FakeHypervisor
from tests.fakes.libvirt_replies import SYSTEM_ERROR, LibvirtError
from tests.support.blocking import blocking

URI = "qemu:///system"
BLOCKED, CRASHED, SUSPENDED = 2, 6, 7

listed = blocking(list_domains)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHypervisor:
    fake = FakeHypervisor()
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    return fake


@pytest.fixture
def line(fake: FakeHypervisor) -> Iterator[Line]:  # noqa: ARG001  # in place before the line
    made = Line(URI, 5)
    yield made
    made.close()


class TestWhatIsListed:
    def test_all_with_their_names_their_uuids_and_their_states(self, fake: FakeHypervisor, line: Line) -> None:
        fake.definitions = [Definition("web1"), Definition("web2", state=PAUSED), Definition("web3", state=SHUT_OFF)]
        assert listed(line, 5.0) == (
            Domain("web1", uuid_of("web1"), 1),
            Domain("web2", uuid_of("web2"), PAUSED),
            Domain("web3", uuid_of("web3"), SHUT_OFF),
        )

    @pytest.mark.usefixtures("fake")
    def test_a_hypervisor_without_any(self, line: Line) -> None:
        assert listed(line, 5.0) == ()

    @pytest.mark.parametrize("state", range(9))
    def test_only_one_that_runs_is_running_and_a_blocked_one_does(self, state: int) -> None:
        assert Domain("web1", uuid_of("web1"), state).is_running is (state in (1, BLOCKED))

    @pytest.mark.parametrize("state", [BLOCKED, CRASHED, SUSPENDED])
    def test_those_in_rarer_states_are_asked_for_theirs(self, fake: FakeHypervisor, line: Line, state: int) -> None:
        fake.definitions = [Definition("web1", state=state), Definition("web2")]
        assert [domain.state for domain in listed(line, 5.0)] == [state, 1]
        assert fake.calls["state"] == 1


class TestWhatItTakes:
    @pytest.mark.parametrize("count", [0, 1, 1000])
    def test_as_many_calls_however_many_there_are(self, fake: FakeHypervisor, line: Line, count: int) -> None:
        fake.definitions = [Definition(f"web{number}") for number in range(count)]
        assert len(listed(line, 5.0)) == count
        assert fake.calls == {"listAllDomains": 4}

    def test_the_connection_is_the_lines_own_and_stays_open(self, fake: FakeHypervisor, line: Line) -> None:
        listed(line, 5.0)
        listed(line, 5.0)
        assert len(fake.connections) == 1
        assert fake.closed == []

    def test_with_the_real_library(self) -> None:
        line = Line("test:///default", 5)
        assert listed(line, 5.0) == (Domain("test", "6695eb01-f6a4-8304-79aa-97f2502e193f", 1),)
        line.close()


class TestTrouble:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (LibvirtError(SYSTEM_ERROR, "Verbindung verweigert", errno.ECONNREFUSED), HypervisorUnavailableError),
            (LibvirtError(SYSTEM_ERROR, "Keine Berechtigung", errno.EACCES), PermissionDeniedError),
        ],
    )
    def test_libvirt_cannot_be_connected_to(
        self, fake: FakeHypervisor, line: Line, error: LibvirtError, kind: type[QgaError]
    ) -> None:
        fake.open_error = error
        with pytest.raises(kind) as caught:
            listed(line, 5.0)
        assert URI in caught.value.message
        assert error.get_error_message() in caught.value.message

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (libvirt.VIR_ERR_INTERNAL_ERROR, HypervisorUnavailableError),
            (libvirt.VIR_ERR_ACCESS_DENIED, PermissionDeniedError),
        ],
    )
    def test_libvirt_refuses_to_list(self, fake: FakeHypervisor, line: Line, code: int, kind: type[QgaError]) -> None:
        fake.list_error = LibvirtError(code)
        with pytest.raises(kind, match=URI):
            listed(line, 5.0)

    def test_libvirt_is_there_again_for_the_next_one(self, fake: FakeHypervisor, line: Line) -> None:
        fake.definitions = [Definition("web1")]
        listed(line, 5.0)
        fake.go_away(attempts=1)
        with pytest.raises(HypervisorUnavailableError):
            listed(line, 5.0)
        assert [domain.name for domain in listed(line, 5.0)] == ["web1"]

    def test_libvirt_does_not_answer(self, fake: FakeHypervisor, line: Line) -> None:
        fake.open_waits_for = threading.Event()
        with pytest.raises(HypervisorUnavailableError, match=f"libvirt at {URI} did not answer within 0.05 s"):
            listed(line, 0.05)
        fake.open_waits_for.set()
