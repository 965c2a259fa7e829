from __future__ import annotations

import errno
import threading

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    NotConfiguredError,
    PermissionDeniedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.domains import Domain, list_domains, macs_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.domains import BLOCKED, PAUSED, RUNNING, SHUT_OFF, Definition, uuid_of
from tests.fakes.libvirt_replies import SYSTEM_ERROR, LibvirtError
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import blocking
from tests.support.line_jobs import SHORT, URI

CRASHED, SUSPENDED = 6, 7

listed = blocking(list_domains)


@pytest.mark.parametrize("state", [*range(9), 99])
def test_only_running_and_blocked_domains_count_as_running(state: int) -> None:
    assert Domain("web1", uuid_of("web1"), state).is_running is (state in (RUNNING, BLOCKED))


class TestListing:
    def test_domains_are_listed_with_states_in_four_calls_and_one_more_for_each_rare_state(
        self, fake: FakeLibvirt, line: Line
    ) -> None:
        states = {"a": RUNNING, "b": PAUSED, "c": SHUT_OFF, "d": BLOCKED, "e": CRASHED, "f": SUSPENDED}
        fake.definitions = [Definition(name, state=state) for name, state in states.items()]
        assert listed(line, 5.0) == tuple(Domain(name, uuid_of(name), state) for name, state in states.items())
        assert fake.calls == {"listAllDomains": 4, "state": 3}
        fake.definitions = []
        assert listed(line, 5.0) == ()
        assert len(fake.connections) == 1
        assert fake.closes == 0

    def test_it_works_with_the_real_library(self) -> None:
        line = Line("test:///default", 5)
        assert listed(line, 5.0) == (Domain("test", "6695eb01-f6a4-8304-79aa-97f2502e193f", RUNNING),)
        line.close()

    @pytest.mark.parametrize(
        ("at", "error", "kind"),
        [
            ("open_error", LibvirtError(SYSTEM_ERROR, "nein", errno.ECONNREFUSED), HypervisorUnavailableError),
            ("open_error", LibvirtError(SYSTEM_ERROR, "nein", errno.EACCES), PermissionDeniedError),
            ("list_error", LibvirtError(libvirt.VIR_ERR_INTERNAL_ERROR, "nein"), HypervisorUnavailableError),
            ("list_error", LibvirtError(libvirt.VIR_ERR_ACCESS_DENIED, "nein"), PermissionDeniedError),
            ("list_error", LibvirtError(libvirt.VIR_ERR_NO_SUPPORT, "nein"), NotConfiguredError),
        ],
    )
    def test_an_error_of_libvirt_has_its_class(
        self, fake: FakeLibvirt, line: Line, at: str, error: LibvirtError, kind: type[QgaError]
    ) -> None:
        setattr(fake, at, error)
        with pytest.raises(kind, match=rf"{URI}.*: nein$"):
            listed(line, 5.0)

    def test_a_libvirt_that_does_not_answer_is_unavailable(self, fake: FakeLibvirt, line: Line) -> None:
        fake.open_waits_for = threading.Event()
        with pytest.raises(HypervisorUnavailableError, match=f"libvirt at {URI} did not answer within 0.05 s"):
            listed(line, SHORT)
        fake.open_waits_for.set()


@pytest.mark.parametrize("backend", ["", "<backend type='passt'/>"])
def test_macs_are_in_the_order_of_the_interfaces_with_user_mode_networks_last(backend: str) -> None:
    """No other host can reach the guest by an address on a user-mode network."""
    devices = [
        f"<interface type='user'>{backend}<mac address='52:54:00:00:00:01'/></interface>",
        "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:03'/></interface>",
        "<interface type='direct'><mac address='52:54:00:00:00:02'/></interface>",
        "<hostdev type='pci'/><interface type='user'/><channel><mac address='52:54:00:00:00:04'/></channel>",
    ]
    found = macs_of(f"<domain><devices>{''.join(devices)}</devices></domain>")
    assert [mac[-1] for mac in found] == ["3", "2", "1"]
