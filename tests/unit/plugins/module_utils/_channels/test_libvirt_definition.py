"""What a channel reads of a domain's definition; and the real library."""

from __future__ import annotations

import threading

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    NotConfiguredError,
    NotFoundError,
    NotRunningError,
    PermissionDeniedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import domains
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.domains import UUID, Domain
from tests.fakes.libvirt_replies import LibvirtError
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.libvirt_channels import SHORT, channel_to, error_of


class TestMetadata:
    NAMESPACE = "urn:qemu.guest_agent:resync"

    def test_the_element_is_given_as_it_is(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.metadata = '<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>'
        assert channel.metadata(self.NAMESPACE, 5.0) == fake.metadata
        assert fake.asked_metadata == [(libvirt.VIR_DOMAIN_METADATA_ELEMENT, self.NAMESPACE)]
        assert fake.sent == [], "the guest is not asked"

    def test_a_domain_without_one_has_none(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.metadata_error = LibvirtError(80, "metadata not found: Requested metadata element is not present")
        assert channel.metadata(self.NAMESPACE, 5.0) is None

    @pytest.mark.parametrize(
        ("code", "kind"), [(38, HypervisorUnavailableError), (42, NotFoundError), (88, PermissionDeniedError)]
    )
    def test_what_can_go_wrong(self, fake: FakeLibvirt, channel: Blocking, code: int, kind: type[QgaError]) -> None:
        fake.metadata_error = LibvirtError(code)
        with pytest.raises(QgaError) as caught:
            channel.metadata(self.NAMESPACE, 5.0)
        assert caught.value.__class__ is kind

    def test_a_hypervisor_that_hangs_is_given_up(
        self, fake: FakeLibvirt, channel: Blocking, released: threading.Event
    ) -> None:
        fake.open_waits_for = released
        with pytest.raises(HypervisorUnavailableError, match=r"did not answer within 0\.05 s"):
            channel.metadata(self.NAMESPACE, SHORT)


class TestMacs:
    def test_they_are_those_of_the_definition_in_its_order(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.macs = ("52:54:00:00:00:02", "52:54:00:00:00:01")
        assert channel.macs(5.0) == fake.macs
        assert fake.sent == [], "the guest is not asked"

    def test_a_domain_without_a_network_has_none(self, channel: Blocking) -> None:
        assert channel.macs(5.0) == ()

    @pytest.mark.parametrize("code", [3, 38, 42, 88])
    def test_a_definition_that_is_not_shown_has_none(self, fake: FakeLibvirt, channel: Blocking, code: int) -> None:
        fake.xml_error = LibvirtError(code)
        assert channel.macs(5.0) == ()

    def test_a_connection_that_broke_is_an_error(
        self, fake: FakeLibvirt, channel: Blocking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_off(_domain: Domain, _flags: int) -> str:
            fake.break_connections()
            raise LibvirtError(1, "internal error: client socket is closed")

        monkeypatch.setattr(Domain, "XMLDesc", break_off)
        with pytest.raises(HypervisorUnavailableError, match="broke at virDomainGetXMLDesc") as caught:
            channel.macs(5.0)
        assert not caught.value.in_call  # no agent was asked

    @pytest.mark.parametrize("backend", ["", "<backend type='passt'/>"])
    def test_one_on_a_user_mode_network_is_the_last(self, backend: str) -> None:
        """Nobody else reaches the guest by its address there."""
        user = f"<interface type='user'>{backend}<mac address='52:54:00:00:00:01'/></interface>"
        others = [
            f"<interface type='bridge'><mac address='52:54:00:00:00:0{number}'/></interface>" for number in (3, 2)
        ]
        found = domains.macs_of(f"<domain><devices>{user}{''.join(others)}</devices></domain>")
        assert [mac[-1] for mac in found] == ["3", "2", "1"]

    def test_other_elements_are_none(self) -> None:
        interface = "<interface type='direct'><source dev='eth0'/><mac address='52:54:00:00:00:01'/></interface>"
        hostdev = "<hostdev type='pci'/><interface type='user'/>"
        channel = "<channel><mac address='52:54:00:00:00:03'/></channel>"
        xml = f"<domain><devices>{interface}{hostdev}{channel}</devices></domain>"
        assert domains.macs_of(xml) == ("52:54:00:00:00:01",)


class TestTheRealLibrary:
    """With libvirt's own test driver, which has a domain but no agents."""

    def test_a_driver_without_agents(self) -> None:
        with channel_to("test", "test:///default") as channel:
            error = error_of(channel)
        assert isinstance(error, NotConfiguredError)
        assert error.message.startswith("libvirt's driver for test:///default has no guest agents: ")
        assert "not supported by the connection driver" in error.message
        assert "qemu:///system" in error.hint

    def test_a_domain_that_is_paused_there(self) -> None:
        domain = libvirt.open("test:///default").lookupByName("test")
        domain.suspend()
        try:
            with channel_to("test", "test:///default") as channel:
                error = error_of(channel)
        finally:
            domain.resume()
        assert isinstance(error, NotRunningError)
        assert error.hint.startswith("Run `virsh -c test:///default resume test` first;")

    def test_the_addresses_of_a_domains_devices(self) -> None:
        with channel_to("test", "test:///default") as channel:
            assert channel.macs(5.0) == ("aa:bb:cc:dd:ee:ff",)

    @pytest.mark.parametrize("named", ["nosuch", UUID])
    def test_no_such_domain(self, named: str) -> None:
        with channel_to(named, "test:///default") as channel:
            assert isinstance(error_of(channel), NotFoundError)

    @pytest.mark.parametrize("hyphens", [True, False])
    def test_a_domain_by_its_uuid(self, hyphens: bool) -> None:
        text = "6695eb01-f6a4-8304-79aa-97f2502e193f"
        with channel_to(text if hyphens else text.replace("-", ""), "test:///default") as channel:
            assert isinstance(error_of(channel), NotConfiguredError)

    def test_no_such_driver(self) -> None:
        with channel_to("test", "nonsense:///system") as channel:
            error = error_of(channel)
        assert isinstance(error, HypervisorUnavailableError)
        assert "nonsense:///system" in error.message
