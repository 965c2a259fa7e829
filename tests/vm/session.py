"""A connection to libvirt, and guests for a demo, a benchmark or a test run, which are destroyed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import libvirt

from tests.vm import libvirtd
from tests.vm.guest import Guest
from tests.vm.saved_state import PLAIN, GuestKind, restored


@contextmanager
def libvirt_session(say: Callable[[str], None] = print) -> Iterator[libvirt.virConnect]:
    connection = libvirtd.connect(say)
    try:
        yield connection
    finally:
        with suppress(libvirt.libvirtError):  # libvirtd may have been restarted
            connection.close()


def restored_guest(
    connection: libvirt.virConnect, name: str, kind: GuestKind = PLAIN, say: Callable[[str], None] = print
) -> Guest:
    """Return a new guest that answers; destroy a guest of that name left over from an earlier run first."""
    Guest.clear(connection, name)
    return restored(connection, name, kind, say)


@contextmanager
def restored_guests(
    connection: libvirt.virConnect, names: Sequence[str], say: Callable[[str], None] = print
) -> Iterator[tuple[Guest, ...]]:
    """As ``restored_guest``, for several guests."""
    with ExitStack() as guests:
        yield tuple(guests.enter_context(restored_guest(connection, name, say=say)) for name in names)
