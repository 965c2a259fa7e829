# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt for the length of a demo, a benchmark or a test run, and nothing left behind."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import libvirt

from tests.vm import image, libvirtd, recipe
from tests.vm.guest import BOOT_DEADLINE_S, Guest, boot
from tests.vm.paths import state_dir


@contextmanager
def libvirt_session(say: Callable[[str], None] = print) -> Iterator[libvirt.virConnect]:
    """A connection. Daemons that had to be started end with the last of the sessions that run side by side."""
    register = state_dir() / "sessions"
    register.parent.mkdir(parents=True, exist_ok=True)
    with register.open("w") as entry:
        fcntl.flock(entry, fcntl.LOCK_SH)
        connection = libvirtd.connect(say)
        try:
            yield connection
        finally:
            with suppress(libvirt.libvirtError):  # libvirtd may have been restarted
                connection.close()
            if _is_the_last(entry.fileno()):
                libvirtd.stop(say)


def _is_the_last(entry: int) -> bool:
    try:
        fcntl.flock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def booted_guest(
    connection: libvirt.virConnect,
    name: str,
    release: str = recipe.DEFAULT_RELEASE,
    say: Callable[[str], None] = print,
    catches_up: bool = False,
) -> Iterator[Guest]:
    """A guest that answers, of this release; one of that name that an earlier run left behind is destroyed first."""
    _clear(connection, name)
    with boot(connection, name, image.image_for(recipe.recipe_for(release), say), say, catches_up) as guest:
        yield guest


@contextmanager
def booted_guests(
    connection: libvirt.virConnect,
    names: Sequence[str],
    release: str = recipe.DEFAULT_RELEASE,
    say: Callable[[str], None] = print,
) -> Iterator[tuple[Guest, ...]]:
    """Several guests, which boot side by side; as booted_guest otherwise."""
    made = image.image_for(recipe.recipe_for(release), say)
    with ExitStack() as guests:
        started = []
        for name in names:
            _clear(connection, name)
            started.append(guests.enter_context(Guest.create(connection, name, made)))
        for guest in started:
            guest.wait_for_agent()
            guest.witness.wait(BOOT_DEADLINE_S)
            say(f"{guest.name} is up")
        yield tuple(started)


def _clear(connection: libvirt.virConnect, name: str) -> None:
    """Destroy a guest of that name which an earlier run left behind."""
    left_behind = Guest.find(connection, name)
    if left_behind is not None:
        left_behind.destroy()
