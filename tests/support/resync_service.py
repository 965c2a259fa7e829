"""The service ``resync_on_resume`` for tests: assembles its package as the role does, and runs it as a process.

``python -m tests.support.resync_service`` assembles it in build/, for mypy.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.process_figures import ProcessFigures
from tests.support.role_package import ROOT, RolePackage
from tests.support.until import until

PACKAGE = RolePackage("resync_on_resume", "resync_on_resume")
module = PACKAGE.module
package_parent = PACKAGE.parent
PROGRAM = (sys.executable, "-E", "-s", "-m", PACKAGE.name)
RUNNER = (sys.executable, "-m", "tests.support.resync_service_runner")

METRICS = "metrics.prom"
START_SECONDS = 60.0
GRACE_SECONDS = 10.0


# A log line is a word and then ``key=value`` pairs. A value may be a JSON string.
_FIELD = re.compile(r' (?P<name>\w+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\s"=]*)')


class Line(NamedTuple):
    event: str
    fields: dict[str, str]

    def has(self, **fields: str) -> bool:
        return fields.items() <= self.fields.items()


def parse(text: str) -> Line:
    event, _space, _rest = text.partition(" ")
    fields: dict[str, str] = {}
    at = len(event)
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError(f"column {at}: {text!r}")
        value = found["value"]
        fields[found["name"]] = json.loads(value) if value.startswith('"') else value
        at = found.end()
    return Line(event, fields)


class ServiceProcess(ProcessFigures):
    """Runs the service with this configuration: ``with ServiceProcess(...) as service: service.lines()``.

    ``place``: the directory for its files. ``profiles``: the agents of a simulated hypervisor's guests; None: use the
    real libvirt-python. ``within``: a command prefix that runs it elsewhere.
    """

    def __init__(
        self,
        place: Path,
        config: str,
        profiles: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.metrics_file = place / METRICS
        self._path = place / "config"
        self._path.write_text(config, encoding="utf-8")
        self._log = place / "log"
        self.lock = place / "lock"
        own = ("--config", str(self._path), "--lock", str(self.lock))
        simulated = profiles and json.dumps({name: vars(profile) for name, profile in profiles.items()})
        command = (*RUNNER, simulated, str(package_parent())) if simulated else PROGRAM
        directory = ROOT if simulated else package_parent()
        self._command = (*within, "env", f"--chdir={directory}", *command, *own)
        # A killed process leaves its temporary directories, which pytest removes with the test's own.
        self._environment = {**os.environ, "TMPDIR": str(place), **(environment or {})}

    def __enter__(self) -> ServiceProcess:
        with self._log.open("wb") as log:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdin=pipe, stdout=pipe, stderr=log, text=True
            )
        self.pid = self.process.pid
        return self

    def __exit__(self, *_what: object) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """Stop the service as systemd does, and return its exit status."""
        self.process.terminate()
        return self.process.wait(GRACE_SECONDS)

    def ask(self, do: str, *arguments: Any) -> Any:
        """Call a method of the simulated hypervisor and return its result."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def read_log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def length(self) -> int:
        return self.read_log().count("\n")

    def lines(self, event: str, since: int = 0, **fields: str) -> list[Line]:
        """Return the log lines of that event with these fields, from line number ``since`` on."""
        whole, _newline, _part = self.read_log().rpartition("\n")
        found = (parse(line) for line in whole.splitlines()[since:] if line.startswith(f"{event} "))
        return [line for line in found if line.has(**fields)]

    def wait_for(
        self, event: str, count: int = 1, seconds: float = START_SECONDS, since: int = 0, **fields: str
    ) -> list[Line]:
        """Wait until there are ``count`` such lines, and return them."""

        def is_there() -> bool:
            assert self.process.poll() is None, self.read_log()
            return self.read_log().count(f"{event} ") >= count and len(self.lines(event, since, **fields)) >= count

        try:
            until(is_there, f"{event} was not logged {count} times with {fields}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}, but:\n{self.read_log()}") from None
        return self.lines(event, since, **fields)


@contextmanager
def beside_libvirt(uris: Sequence[str], agent_patience: float = 120.0) -> Iterator[ServiceProcess]:
    with tempfile.TemporaryDirectory(prefix="resync-service-run-") as name:
        place = Path(name)
        watch = f"[watch]\nuris = {' '.join(uris)}\nagent_patience = {agent_patience}\n"
        with ServiceProcess(place, f"{watch}[metrics]\nfile = {place / METRICS}\n") as service:
            yield service


if __name__ == "__main__":
    print(PACKAGE.assemble(ROOT / "build" / "resync_service"))
