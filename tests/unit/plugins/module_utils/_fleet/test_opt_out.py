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


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        '<instance xmlns="http://openstack.org/xmlns/libvirt/nova/1.1" enabled="no"/>',
        *(mark(f'enabled="{value}"') for value in ("yes", "true", "on", "1", "Yes", "TRUE", " yes\n")),
    ],
)
def test_a_clock_may_be_touched_without_a_mark_or_with_one_that_says_yes(
    fake: FakeHypervisor, require: Allow, metadata: str | None
) -> None:
    require(metadata)
    assert fake.commands == []
    assert fake.calls["metadata"] == 1


def test_so_may_that_of_a_guest_that_is_not_libvirts() -> None:
    blocking(require_allowed)(StreamChannel(UnixAddress("/run/nosuch.qga")), 5.0)


@pytest.mark.parametrize(
    "metadata",
    [
        *(mark(f'enabled="{value}"') for value in ("no", "false", "off", "0", "No", " no ", "", "maybe", "y", "2")),
        *(mark(attributes) for attributes in ("", 'Enabled="yes"', 'x="yes"')),
        f'<qga:resync xmlns:qga="{NAMESPACE}" enabled="no"/>',
        f'<resync xmlns="{NAMESPACE}" enabled="no"><why enabled="yes">frozen in time</why></resync>',
    ],
)
def test_a_mark_that_does_not_clearly_say_yes_forbids_it(require: Allow, metadata: str) -> None:
    with pytest.raises(OptedOutError) as caught:
        require(metadata)
    assert caught.value.message == (
        f"the clock of domain web1 at {URI} is not to be touched: its metadata has urn:qemu.guest_agent:resync"
    )


def test_a_hypervisor_that_cannot_be_asked_allows_nothing(fake: FakeHypervisor, require: Allow) -> None:
    fake.go_away()
    with pytest.raises(HypervisorUnavailableError):
        require(None)
