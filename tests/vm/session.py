"""libvirt for the length of a demo, a benchmark or a test run, with nothing left over afterwards."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import libvirt

from tests.vm import libvirtd
from tests.vm.guest import Guest
from tests.vm.paths import state_dir
from tests.vm.saved_state import PLAIN, GuestKind, restored


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


def restored_guest(
    connection: libvirt.virConnect, name: str, kind: GuestKind = PLAIN, say: Callable[[str], None] = print
) -> Guest:
    """Return a new guest that answers; one of that name that an earlier run left is destroyed first."""
    Guest.clear(connection, name)
    return restored(connection, name, kind, say)


@contextmanager
def restored_guests(
    connection: libvirt.virConnect, names: Sequence[str], say: Callable[[str], None] = print
) -> Iterator[tuple[Guest, ...]]:
    """Several guests; as restored_guest otherwise."""
    with ExitStack() as guests:
        yield tuple(guests.enter_context(restored_guest(connection, name, say=say)) for name in names)
