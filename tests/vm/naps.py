"""What leaves a guest with a clock that is behind, each from its beginning to its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.vm.guest import Guest

Nap = Callable[[Guest], None]

# A suspended guest's; the others take their time anyway.
ASLEEP_S = 0.5


def suspend_and_resume(guest: Guest) -> None:
    guest.suspend()
    time.sleep(ASLEEP_S)
    guest.resume()


def save_and_restore(guest: Guest) -> None:
    guest.save()
    guest.restore()


def save_managed_and_start(guest: Guest) -> None:
    guest.managed_save()
    guest.start()
