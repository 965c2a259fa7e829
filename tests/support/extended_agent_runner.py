# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program for tests: the extended agent with a clock of its own. It never touches this machine's clock.

Its one argument is a JSON object; ``tests.support.extended_agent`` writes it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


class FakeSystemClock:
    """A clock that is off this machine's by what it was told. ``denied``: the kernel refuses to set it."""

    def __init__(self, discipline: Any, offset_ns: int = 0, denied: bool = False) -> None:
        self._discipline = discipline
        self._offset_ns = offset_ns
        self._denied = denied

    def now_ns(self) -> int:
        return time.time_ns() + self._offset_ns

    def set_ns(self, epoch_ns: int) -> None:
        self._refuse()
        self._offset_ns = epoch_ns - time.time_ns()

    def shift_ns(self, delta_ns: int) -> None:
        self._refuse()
        self._offset_ns += delta_ns

    def discipline(self) -> Any:
        return self._discipline

    def _refuse(self) -> None:
        if self._denied:
            raise PermissionError(1, "Operation not permitted")


def main(setup: dict[str, Any]) -> int:
    sys.path.insert(0, setup["package_parent"])
    from qemu_ga_extended import agent, clock, limits, log, policy, ports, stream

    def make_port(loop: Any, dispatcher: Any, own_log: Any, on_lost: Any) -> Any:
        if setup["device"] is None:
            return ports.ListeningPort(loop, dispatcher, own_log, lambda: ports.listen_unix(setup["socket"]))
        reader, writer = setup["device"]
        # A named pipe behaves to its reader as the virtio console does: an end of file while nobody writes.
        return ports.DevicePort(
            loop,
            dispatcher,
            own_log,
            lambda: stream.Ends(
                os.open(reader, os.O_RDONLY | os.O_NONBLOCK), os.open(writer, os.O_RDWR | os.O_NONBLOCK)
            ),
            on_lost,
        )

    allowed = setup["allow_rpcs"]
    sys.setrecursionlimit(4000)
    under_test = agent.Agent(
        make_port,
        setup["stock_socket"],
        setup["state_directory"],
        policy.Lists(None if allowed is None else frozenset(allowed), frozenset(setup["block_rpcs"])),
        FakeSystemClock(clock.Discipline(synchronized=True, max_error_ns=1_500_000), **setup["clock"]),
        lambda: setup["rtc_error"],
        log.Log(verbose=setup["verbose"]),
        costs=limits.Costs(**setup["costs"]),
    )
    os.write(setup["ready"], b"ready")
    os.close(setup["ready"])
    return under_test.run()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
