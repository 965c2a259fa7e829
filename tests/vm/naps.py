"""Operations that leave a guest with a clock that is behind. Each function runs one from start to end."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.vm.guest import Guest

Nap = Callable[[Guest], None]

# For a suspended guest; the other operations take long enough.
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
