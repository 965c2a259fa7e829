"""Deployments with lists that refuse what the role itself asks for: the role's lists, and the stock agent's."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from tests.support.until import until
from tests.vm.deployment import deploy
from tests.vm.guest import STOCK_UNIT, Guest
from tests.vm.session import restored_guest
from tests.vm.witness_shell import root

pytestmark = pytest.mark.thorough

ASKED = ["guest-get-clock", "guest-info", "guest-sync-delimited"]
# What the connection through the agent needs, and libvirt.
CONNECTION = [
    "guest-ping",
    "guest-sync",
    "guest-exec",
    "guest-exec-status",
    *(f"guest-file-{what}" for what in ("open", "close", "read", "write", "seek")),
]
LISTS: dict[str, dict[str, Any]] = {
    "block": {"extended_agent_block_rpcs": ASKED},
    "allow": {"extended_agent_allow_rpcs": CONNECTION},
}
# qemu-ga 7.2 knows the key "blacklist", and newer ones "block-rpcs".
STOCK_LISTS = {
    "block": f"blacklist={','.join(ASKED)}",
    "other": "blacklist=guest-get-time,guest-info",
}


@pytest.fixture(name="guest")
def _guest(connection: libvirt.virConnect) -> Iterator[Guest]:
    with restored_guest(connection, "qga-lists") as restored:
        yield restored


def is_refused(guest: Guest, command: str) -> bool:
    try:
        guest.ask(command)
    except libvirt.libvirtError as error:
        return "has been disabled" in str(error)
    return False


@pytest.mark.parametrize("lists", LISTS)
def test_the_roles_own_lists_do_not_hinder_its_rehearsal(guest: Guest, lists: str) -> None:
    deploy(guest, **LISTS[lists])
    assert all(is_refused(guest, command) for command in ("guest-get-clock", "guest-info"))
    assert guest.sh("cat /run/qemu-ga-extended-switch/verdict") == "extended\n"
    assert guest.sh(f"systemctl is-active {STOCK_UNIT}") == "active\n"


@pytest.mark.parametrize("lists", STOCK_LISTS)
def test_the_stock_agents_lists_do_not_hinder_it(guest: Guest, lists: str) -> None:
    configuration = f"[general]\n{STOCK_LISTS[lists]}\n"
    written = f"mkdir -p /etc/qemu; printf %s {shlex.quote(configuration)} >/etc/qemu/qemu-ga.conf"
    root(guest.files, f"{written}; systemctl restart {STOCK_UNIT}")
    until(guest.answers, "the stock agent does not answer", 60)
    deploy(guest)
    assert guest.sh("cat /run/qemu-ga-extended-switch/verdict") == "extended\n"
    assert is_refused(guest, "guest-info")
