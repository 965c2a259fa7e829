# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounding the memory of texts that libvirt-python makes before anybody can refuse them.

Of an agent's reply it makes one of up to 16 MiB (libvirt carries 4 MiB of UTF-8, of which one character may have all
others take four bytes each), and of an error that quotes the reply two, twice. The thread that is given one lets go of
it at once. That alone bounds nothing, for two reasons.

- Python takes turns between threads whenever one has waited for 5 ms, and making such a text takes longer. So each of
  the threads that wait for hostile guests would have made its text before the first of them comes to let go of it.
- The GNU C library has each thread keep free memory of its own: as much as the largest texts that it has had.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any, Iterator

# Making all texts of one error took 40 ms on an idle machine, and seconds on one that had much else to do. What else a
# fleet computes without waiting for something takes less than half a second, so no thread waits for this long.
_TURN_SECONDS = 30.0

# mallopt(3). Threads that begin from now on share what free memory is kept, and that is enough for one reply and no
# more. None at all would be slow: getting memory from the system takes longer than making a text in it.
_MEBIBYTE = 1024 * 1024
_MALLOC_OPTIONS = (
    (-8, 1),  # M_ARENA_MAX
    (-3, 32 * _MEBIBYTE),  # M_MMAP_THRESHOLD, the highest: what is larger is given back at once
    (-1, 24 * _MEBIBYTE),  # M_TRIM_THRESHOLD
)


class LargeTexts:
    """Has this process hold few large texts at a time, from the first :meth:`begin` to the :meth:`end` of the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual_seconds = 0.0

    def begin(self) -> None:
        """Give threads longer turns, and have them share what free memory is kept."""
        with self._lock:
            if not self._users:
                self._usual_seconds = sys.getswitchinterval()
                sys.setswitchinterval(max(self._usual_seconds, _TURN_SECONDS))
                with _c_library() as library:
                    for option, value in _MALLOC_OPTIONS:
                        library.mallopt(option, value)
            self._users += 1

    def end(self) -> None:
        """Have threads take turns as before, and give back what free memory there is."""
        with self._lock:
            self._users -= 1
            if not self._users:
                sys.setswitchinterval(self._usual_seconds)
                with _c_library() as library:
                    library.malloc_trim(0)


@contextlib.contextmanager
def _c_library() -> Iterator[Any]:
    import ctypes  # for fleets only: a task with one guest is to begin soon

    with contextlib.suppress(AttributeError):  # others than GNU's have no such functions, nor the need for them
        yield ctypes.CDLL(None)


LARGE_TEXTS = LargeTexts()
