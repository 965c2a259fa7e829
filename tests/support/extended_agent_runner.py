"""A program for tests: the extended agent with a fake clock. It never sets this machine's clock.

Its argument is a JSON object that ``tests.support.extended_agent`` writes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


class FakeSystemClock:
    """A clock with a given offset from this machine's. A slew does not change the offset.

    ``denied``: the kernel refuses to set it. ``disciplined``: a time service steers it.
    """

    def __init__(self, discipline: Any, offset_ns: int = 0, denied: bool = False, disciplined: bool = False) -> None:
        self._discipline = discipline
        self._offset_ns = offset_ns
        self._denied = denied
        self._disciplined = disciplined
        self._slew_ns = 0

    def now_ns(self) -> int:
        return time.time_ns() + self._offset_ns

    def set_ns(self, epoch_ns: int) -> None:
        self._refuse()
        self._offset_ns, self._slew_ns = epoch_ns - time.time_ns(), 0

    def shift_ns(self, delta_ns: int) -> None:
        self._refuse()
        self._offset_ns += delta_ns
        self._slew_ns = 0

    def slew_ns(self, delta_ns: int) -> None:
        self._refuse()
        self._slew_ns = delta_ns

    def discipline(self) -> Any:
        return self._discipline(
            synchronized=self._disciplined,
            max_error_ns=1_500_000,
            slewing_ns=self._slew_ns,
            is_disciplined=self._disciplined,
        )

    def _refuse(self) -> None:
        if self._denied:
            raise PermissionError(1, "Operation not permitted")


def main(setup: dict[str, Any]) -> int:
    sys.path.insert(0, setup["package_parent"])
    from qemu_ga_extended import agent, clock, hardware_clock, limits, log, policy, ports, stream

    def update_rtc() -> str | None:
        """Do everything that setting a hardware clock involves, except for the hardware access."""
        if setup["rtc_error"] is not None:
            return str(setup["rtc_error"])
        return hardware_clock.update(lambda: None)

    def make_port(loop: Any, dispatcher: Any, own_log: Any, on_lost: Any) -> Any:
        if setup["device"] is None:
            return ports.ListeningPort(loop, dispatcher, own_log, lambda: ports.listen_unix(setup["socket"]))
        reader, writer = setup["device"]
        # A named pipe behaves like the virtio console for its reader: an end of file while there is no writer.
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
        FakeSystemClock(clock.Discipline, **setup["clock"]),
        update_rtc,
        log.Log(verbose=setup["verbose"]),
        costs=limits.Costs(**setup["costs"]),
        stock_memory=setup["stock_memory"],
    )
    os.write(setup["ready"], b"ready")
    os.close(setup["ready"])
    return under_test.run()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
