# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's event loop. A process has only one, and without it connections deliver no events."""

from __future__ import annotations

import contextlib
import threading
import time
from types import ModuleType

# The pause after a failure of the event loop, which would otherwise use a whole processor.
_RETRY_SECONDS = 1.0

_starting = threading.Lock()
_is_started = False


def start(libvirt: ModuleType) -> None:
    """Run the event loop on its own thread, if it does not run yet. Only connections that are opened later use it.

    A program with its own loop for libvirt must not call this: libvirt accepts one loop, and cannot replace it.
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
