# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for libvirt-python with several hypervisors, and for its two modules in a process of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.libvirt import SYSTEM_ERROR, Connection, Domain, FakeHypervisor
from tests.fakes.one_domain import LibvirtError, agent_says
from tests.hostile.guest import FACTS
from tests.support.collection import ROOT

# In place of libvirt-python's two modules.
_MODULE = """
import sys
sys.path.insert(0, {root!r})
from {module} import {function}
sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = {function}(*{arguments!r})
"""

Reply = Callable[[dict[str, Any]], str]
Replies = dict[str, Reply]


class HypervisorsByUri:
    """``libvirt`` and ``libvirt_qemu`` in one. At a URI that it does not have, nobody listens."""

    libvirtError = LibvirtError  # noqa: N815  # libvirt's name

    def __init__(self, by_uri: Mapping[str, FakeHypervisor]) -> None:
        self.by_uri = dict(by_uri)

    def modules(self) -> tuple[HypervisorsByUri, HypervisorsByUri]:
        """In place of ``hypervisor.import_libvirt``."""
        return self, self

    def registerErrorHandler(self, handler: Callable[..., None], context: object) -> None:  # noqa: N802
        for each in self.by_uri.values():
            each.registerErrorHandler(handler, context)

    def open(self, uri: str) -> Connection:
        if uri not in self.by_uri:
            raise LibvirtError(SYSTEM_ERROR, "Failed to connect socket: Connection refused", errno.ECONNREFUSED)
        return self.by_uri[uri].open(uri)

    @staticmethod
    def qemuAgentCommand(domain: Domain, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        return domain.connection.hypervisor.qemuAgentCommand(domain, text, timeout, flags)


def telling(**returns: Any) -> Replies:
    """The replies of a stock agent that tells what it is; ``returns`` by command, with ``_`` for ``-``."""
    told = {**FACTS, **{command.replace("_", "-"): value for command, value in returns.items()}}
    commands = [{"name": name, "enabled": True, "success-response": True} for name in told]
    info = {"guest-info": {"version": "10.0.2", "supported_commands": commands}}
    return {command: agent_says(value) for command, value in {**info, **told}.items()}


def lay_out(directory: Path, make: Callable[..., HypervisorsByUri], *arguments: Any) -> Path:
    """Modules for a process with ``directory`` on its PYTHONPATH. ``make`` is a function of a module of these tests."""
    directory.mkdir(parents=True, exist_ok=True)
    stand_in = _MODULE.format(
        root=str(ROOT), module=make.__module__, function=make.__name__, arguments=tuple(arguments)
    )
    for name in ("libvirt", "libvirt_qemu"):
        (directory / f"{name}.py").write_text(stand_in, encoding="utf-8")
    return directory
