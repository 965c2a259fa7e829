from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import HypervisorUnavailableError, OptedOutError
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.opt_out import NAMESPACE, require_allowed
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections

from tests.fakes.domains import Definition
from tests.fakes.libvirt import FakeHypervisor
from tests.support.blocking import blocking

URI = "qemu:///system"

Allow = Callable[..., None]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHypervisor:
    fake = FakeHypervisor([Definition("web1")])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    return fake


@pytest.fixture
def require(fake: FakeHypervisor) -> Iterator[Allow]:
    channel = LibvirtChannel("web1", URI)

    def require(metadata: str | None) -> None:
        fake.definitions[0].metadata = metadata
        blocking(require_allowed)(channel, 5.0)

    yield require
    blocking(channel.close)()


def mark(attributes: str) -> str:
    return f'<resync xmlns="{NAMESPACE}" {attributes}/>'


class TestAllowed:
    def test_a_domain_without_a_mark(self, require: Allow) -> None:
        require(None)

    def test_a_domain_with_other_metadata_only(self, require: Allow) -> None:
        require('<instance xmlns="http://openstack.org/xmlns/libvirt/nova/1.1" enabled="no"/>')

    @pytest.mark.parametrize("value", ["yes", "true", "on", "1", "Yes", "TRUE", " yes\n"])
    def test_a_mark_that_says_yes(self, require: Allow, value: str) -> None:
        require(mark(f'enabled="{value}"'))

    def test_a_guest_that_is_not_libvirts(self) -> None:
        blocking(require_allowed)(StreamChannel(UnixAddress("/run/nosuch.qga")), 5.0)

    def test_the_agent_is_not_asked(self, fake: FakeHypervisor, require: Allow) -> None:
        require(mark('enabled="yes"'))
        assert fake.commands == []
        assert fake.calls["metadata"] == 1


class TestForbidden:
    @pytest.mark.parametrize("value", ["no", "false", "off", "0", "No", " no "])
    def test_a_mark_that_says_no(self, require: Allow, value: str) -> None:
        with pytest.raises(OptedOutError):
            require(mark(f'enabled="{value}"'))

    @pytest.mark.parametrize(
        "attributes", ["", 'enabled=""', 'enabled="maybe"', 'enabled="y"', 'enabled="2"', 'Enabled="yes"', 'x="yes"']
    )
    def test_a_mark_that_does_not_clearly_say_yes(self, require: Allow, attributes: str) -> None:
        with pytest.raises(OptedOutError):
            require(mark(attributes))

    def test_a_mark_with_a_prefix(self, require: Allow) -> None:
        with pytest.raises(OptedOutError):
            require(f'<qga:resync xmlns:qga="{NAMESPACE}" enabled="no"/>')

    def test_a_mark_with_more_in_it(self, require: Allow) -> None:
        with pytest.raises(OptedOutError):
            require(f'<resync xmlns="{NAMESPACE}" enabled="no"><why enabled="yes">frozen in time</why></resync>')

    def test_the_error_says_what_and_where_and_what_to_do(self, require: Allow) -> None:
        with pytest.raises(OptedOutError) as caught:
            require(mark('enabled="no"'))
        assert caught.value.code == "opted_out"
        assert caught.value.message == (
            f"the clock of domain web1 at {URI} is not to be touched: its metadata has urn:qemu.guest_agent:resync"
        )
        assert "metadata" in caught.value.hint


def test_a_hypervisor_that_cannot_be_asked_allows_nothing(fake: FakeHypervisor, require: Allow) -> None:
    fake.go_away()
    with pytest.raises(HypervisorUnavailableError):
        require(None)
