"""The service ``resync_on_resume`` on a thread of the test, with hypervisors whose guests are simulated."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fakes.fleet import Profile
from tests.fakes.hypervisors import SimulatedHypervisor
from tests.support.resync_service import Line, module, parse
from tests.support.until import until

SECOND_NS = 1_000_000_000
BEHIND_NS = 20 * SECOND_NS
HERE = "qemu:///system"
JOIN_SECONDS = 10.0

CONFIG = """
[watch]
uris = {uris}
agent_patience = {agent_patience}
look_at_start = {look_at_start}
[resync]
timeout = {timeout}
backward = {backward}
concurrency = {concurrency}
[metrics]
file = {metrics_file}
"""
USUAL = {
    "agent_patience": 5,
    "look_at_start": "no",
    "timeout": 1,
    "backward": "step",
    "concurrency": 20,
    "metrics_file": "",
}


class Served:
    """The running service: ``with Served(...) as service: service.hypervisor.resume(["web1"])``."""

    def __init__(self, hypervisors: Mapping[str, SimulatedHypervisor], config: str, directory: Path) -> None:
        self.hypervisor = next(iter(hypervisors.values()))
        path = directory / "config"
        path.write_text(config, encoding="utf-8")
        self._written = io.StringIO()
        self._stop = module("service").StopSignals()
        log = module("log").Log(self._written, for_journal=False)
        self._service = module("service").Service(module("config").read(str(path)), log, self._stop)
        self._thread = threading.Thread(target=self._service.run, name="service")

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.ask()
        self._thread.join(JOIN_SECONDS)
        assert not self._thread.is_alive(), "the service did not end"

    def lines(self, event: str) -> list[Line]:
        whole = self._written.getvalue().split("\n")[:-1]
        return [line for line in map(parse, whole) if line.event == event]

    def wait_for(self, event: str, count: int = 1) -> list[dict[str, str]]:
        until(
            lambda: len(self.lines(event)) >= count,
            lambda: f"{event} was not logged {count} times in {self._written.getvalue()!r}",
        )
        return [line.fields for line in self.lines(event)]

    def records(self, count: int) -> list[dict[str, str]]:
        """Return the logged results, in order, and require exactly so many of them."""
        found = self.wait_for("resync", count)
        assert len(found) == count, self._written.getvalue()
        return found

    def record_of(self, name: str) -> dict[str, str]:
        until(
            lambda: any(line.fields["guest"] == name for line in self.lines("resync")),
            f"no result of {name} was logged",
        )
        (found,) = (line.fields for line in self.lines("resync") if line.fields["guest"] == name)
        return found


Serve = Callable[..., Served]


def simulated(*names: str) -> SimulatedHypervisor:
    return SimulatedHypervisor(dict.fromkeys(names, Profile(offset_ns=-BEHIND_NS)))
