# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounding the memory of strings that libvirt-python creates before they can be refused.

An agent's reply becomes a string of up to 16 MiB (libvirt carries 4 MiB of UTF-8, in which a single character can make
Python use four bytes for each), and an error that quotes the reply has two, twice. The thread that receives such a
string drops it at once. That alone does not bound the memory, for two reasons.

- Python switches threads when one has waited for 5 ms, and creating such a string takes longer. So all threads that
  wait for hostile guests would have created their strings before the first of them could drop its own.
- In the GNU C library, each thread keeps its own free memory, as much as its largest strings have needed.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any, Iterator

# Creating all strings of one error took 40 ms on an idle machine, and seconds on a busy one. A fleet computes for less
# than half a second at a time without waiting for something, so no thread really waits this long.
_TURN_SECONDS = 30.0

# mallopt(3). New threads share the free memory that is kept, which is enough for one reply. Keeping none would be slow:
# getting memory from the system takes longer than creating a string in it.
_MEBIBYTE = 1024 * 1024
_MALLOC_OPTIONS = (
    (-8, 1),  # M_ARENA_MAX
    (-3, 32 * _MEBIBYTE),  # M_MMAP_THRESHOLD, the highest value: larger blocks are returned at once
    (-1, 24 * _MEBIBYTE),  # M_TRIM_THRESHOLD
)


class LargeTexts:
    """Limits the large strings of this process at a time, from the first :meth:`begin` to the last :meth:`end`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual_seconds = 0.0

    def begin(self) -> None:
        """Give threads longer turns, and make them share the free memory that is kept."""
        with self._lock:
            if not self._users:
                self._usual_seconds = sys.getswitchinterval()
                sys.setswitchinterval(max(self._usual_seconds, _TURN_SECONDS))
                with _c_library() as library:
                    for option, value in _MALLOC_OPTIONS:
                        library.mallopt(option, value)
            self._users += 1

    def end(self) -> None:
        """Restore the threads' usual turns, and return the free memory to the system."""
        with self._lock:
            self._users -= 1
            if not self._users:
                sys.setswitchinterval(self._usual_seconds)
                with _c_library() as library:
                    library.malloc_trim(0)


@contextlib.contextmanager
def _c_library() -> Iterator[Any]:
    import ctypes  # only for fleets: a task with one guest must start quickly

    with contextlib.suppress(AttributeError):  # other C libraries have no such functions, and do not need them
        yield ctypes.CDLL(None)


LARGE_TEXTS = LargeTexts()
