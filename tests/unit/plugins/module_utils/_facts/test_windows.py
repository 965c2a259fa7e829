"""Facts of Windows guests, tested with replies of real ones."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import subsets
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import select

from tests.fakes.guest import TimeLine, full_guest, says
from tests.fakes.windows_replies import FILESYSTEMS, INTERFACES, NAMED, UNNAMED
from tests.support.blocking import blocking

gather = blocking(subsets.gather)


def facts_of(line: TimeLine, command: str, reply: Any, subset: str) -> Any:
    guest = full_guest(line)
    says(guest, command, reply)
    facts = gather(GuestAgent(guest, 5.0), select((subset,)))
    assert facts["errors"] == {}
    return facts[subset]


@pytest.mark.parametrize(("reply", "version"), [(NAMED, "2022"), (UNNAMED, "N/A")])
def test_the_os_is_reported_whether_or_not_the_agent_knows_its_version(
    line: TimeLine, reply: dict[str, str], version: str
) -> None:
    found = facts_of(line, "guest-get-osinfo", reply, "os")
    assert found == {name.replace("-", "_"): text for name, text in reply.items()}
    assert (found["id"], found["version_id"]) == ("mswindows", version)


def test_interfaces_keep_the_zone_of_a_link_local_address(line: TimeLine) -> None:
    ethernet, loopback = facts_of(line, "guest-network-get-interfaces", INTERFACES, "network")
    assert (ethernet["name"], ethernet["hardware_address"]) == ("Ethernet", "52:54:00:63:a7:d1")
    assert [each["ip_address"] for each in ethernet["ip_addresses"]] == ["fe80::3a11:dfb6:9b8f:8241%6", "192.0.2.81"]
    assert loopback["name"] == "Loopback Pseudo-Interface 1"


def test_volumes_are_reported_with_and_without_drive_letters(line: TimeLine) -> None:
    found = facts_of(line, "guest-get-fsinfo", FILESYSTEMS, "filesystems")
    assert [(each["name"], each["mountpoint"]) for each in found] == [
        (each["name"], each["mountpoint"]) for each in FILESYSTEMS
    ]
    assert found[-1]["total_bytes"] == 52691988480
