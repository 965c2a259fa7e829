"""Jobs for the threads of a line to libvirt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import Lane

from tests.support.until import until

URI = "qemu:///system"
SHORT = 0.05  # seconds; threads are real here
SLACK = 4.0  # seconds; a busy machine may take this much longer, and a call that is not abandoned takes even longer


class Jobs:
    """Jobs that hang until they are released, and lists of those that began and ended."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._let_go: dict[str, threading.Event] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.threads: set[threading.Thread] = set()

    def submit(self, lane: Lane, *names: str) -> None:
        for name in names:
            self._let_go[name] = threading.Event()
            self._line.submit(lane, self._job(name))

    def _job(self, name: str) -> Callable[[], None]:
        def job() -> None:
            self.begun.append(name)
            self.threads.add(threading.current_thread())
            self._let_go[name].wait(30.0)
            self.ended.append(name)

        return job

    def let_go(self, *names: str) -> None:
        for name in names:
            self._let_go[name].set()
            until(lambda name=name: name in self.ended, f"{name} does not end")

    def let_all_go(self) -> None:
        for event in self._let_go.values():
            event.set()

    def settle(self, *begun: str) -> None:
        """Wait until exactly these jobs have begun, and assert that no other job begins."""
        until(lambda: len(self.begun) >= len(begun), "the jobs do not begin")
        time.sleep(SHORT)
        assert sorted(self.begun) == sorted(begun)
