"""Real guests for the tests here, restored from a saved state: each module has guests of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import libvirt
import pytest

from tests.vm import libvirtd
from tests.vm.guest import Guest
from tests.vm.saved_state import EXTENDED
from tests.vm.session import libvirt_session, restored_guest


@pytest.fixture(scope="session")
def running_libvirt() -> Iterator[libvirt.virConnect]:
    with libvirt_session() as opened:
        yield opened


@pytest.fixture(scope="module")
def connection(running_libvirt: libvirt.virConnect) -> Iterator[libvirt.virConnect]:  # noqa: ARG001  # it must run
    """One that no test before has broken by restarting libvirtd."""
    opened = libvirtd.connect()
    yield opened
    with contextlib.suppress(libvirt.libvirtError):
        opened.close()


@pytest.fixture(scope="module")
def guest(connection: libvirt.virConnect) -> Iterator[Guest]:
    """A guest with the stock agent alone."""
    with restored_guest(connection, "qga-test") as restored:
        yield restored


@pytest.fixture(scope="module")
def extended_guest(connection: libvirt.virConnect) -> Iterator[Guest]:
    """A guest with the extended agent in front of the stock one."""
    with restored_guest(connection, "qga-extended", EXTENDED) as restored:
        yield restored
