# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real guests for the tests here: booting one takes half a minute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import libvirt
import pytest

from tests.vm import libvirtd
from tests.vm.deployment import deploy
from tests.vm.guest import Guest
from tests.vm.session import booted_guest, libvirt_session


@pytest.fixture(scope="session")
def running_libvirt() -> Iterator[libvirt.virConnect]:
    with libvirt_session() as opened:
        yield opened


# Guests are booted on connections of their own: tests that come before their first use may restart libvirtd.


@pytest.fixture(scope="session")
def guest(running_libvirt: libvirt.virConnect) -> Iterator[Guest]:  # noqa: ARG001  # it must run
    """A guest with the stock agent alone."""
    with booted_guest(libvirtd.connect(), "qga-test") as booted:
        yield booted


@pytest.fixture(scope="module")
def connection(running_libvirt: libvirt.virConnect) -> Iterator[libvirt.virConnect]:  # noqa: ARG001  # it must run
    """One that no test before has broken by restarting libvirtd."""
    opened = libvirtd.connect()
    yield opened
    with contextlib.suppress(libvirt.libvirtError):
        opened.close()


@pytest.fixture(scope="session")
def extended_guest(running_libvirt: libvirt.virConnect) -> Iterator[Guest]:  # noqa: ARG001  # it must run
    """A guest with the extended agent in front of the stock one; deploying it takes a minute."""
    with booted_guest(libvirtd.connect(), "qga-extended") as booted:
        deploy(booted)
        yield booted
