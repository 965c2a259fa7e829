from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import OptedOutError
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.opt_out import NAMESPACE, require_allowed

from tests.fakes.guest import SimulatedGuest, TimeLine
from tests.support.blocking import blocking


class MarkedGuest(SimulatedGuest):
    mark: str | None = None

    def __str__(self) -> str:
        return "domain 'web1'"

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        assert (namespace, timeout) == ("urn:qemu.guest_agent:resync", 5.0)
        return self.mark


@pytest.fixture
def guest(line: TimeLine) -> MarkedGuest:
    return MarkedGuest(line)


def mark(attributes: str) -> str:
    return f'<resync xmlns="{NAMESPACE}" {attributes}/>'


@pytest.mark.parametrize(
    "metadata",
    [None, *(mark(f'enabled="{value}"') for value in ("yes", "true", "on", "1", "Yes", "TRUE", " yes\n"))],
)
def test_a_clock_may_be_changed_without_metadata_or_if_it_says_yes(guest: MarkedGuest, metadata: str | None) -> None:
    guest.mark = metadata
    blocking(require_allowed)(guest, 5.0)
    assert guest.requests == []


def test_a_clock_may_be_changed_if_libvirt_does_not_manage_the_guest() -> None:
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
def test_metadata_that_does_not_clearly_say_yes_forbids_it(guest: MarkedGuest, metadata: str) -> None:
    guest.mark = metadata
    with pytest.raises(OptedOutError) as caught:
        blocking(require_allowed)(guest, 5.0)
    assert caught.value.message == f"domain 'web1' is opted out: its metadata has {NAMESPACE}"
