"""Real guests for the tests here, restored from a saved state: each module has guests of its own."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import pytest

from tests.vm.guest import Guest
from tests.vm.saved_state import EXTENDED
from tests.vm.session import libvirt_session, restored_guest


@pytest.fixture(scope="module")
def connection() -> Iterator[libvirt.virConnect]:
    """A connection that no earlier test has broken by restarting libvirtd."""
    with libvirt_session() as opened:
        yield opened


@pytest.fixture(scope="module")
def guest(connection: libvirt.virConnect) -> Iterator[Guest]:
    """A guest with only the stock agent."""
    with restored_guest(connection, "qga-test") as restored:
        yield restored


@pytest.fixture(scope="module")
def extended_guest(connection: libvirt.virConnect) -> Iterator[Guest]:
    """A guest with the extended agent in front of the stock one."""
    with restored_guest(connection, "qga-extended", EXTENDED) as restored:
        yield restored
