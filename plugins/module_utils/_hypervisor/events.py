# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's event loop, of which a process has one. Without it a connection tells of no events."""

from __future__ import annotations

import contextlib
import threading
import time
from types import ModuleType

# Of an event loop that fails; it would take a whole processor otherwise.
_RETRY_SECONDS = 1.0

_starting = threading.Lock()
_is_started = False


def start(libvirt: ModuleType) -> None:
    """Run it on a thread of its own, if it does not run yet. Only connections that are opened from now on use it.

    A program that brings a loop of its own must not call this: libvirt takes one, and cannot give it back.
    """
    global _is_started
    with _starting:
        if not _is_started:
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=_run, args=(libvirt,), name="libvirt events", daemon=True).start()
            _is_started = True


def _run(libvirt: ModuleType) -> None:
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            if libvirt.virEventRunDefaultImpl() == 0:
                continue
        time.sleep(_RETRY_SECONDS)
