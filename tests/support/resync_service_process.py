# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service ``resync_on_resume`` as a process, as systemd would run it, and what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.resync_service import assemble

GRACE_SECONDS = 10.0

_FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)')


class SaidLine:
    """One line of its log: ``event``, and its fields; numbers as such."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.event, _space, rest = text.partition(" ")
        self.fields: Mapping[str, Any] = {name: _value(value) for name, value in _FIELD.findall(rest)}

    def __repr__(self) -> str:
        return self.text

    def has(self, **fields: Any) -> bool:
        return all(self.fields.get(name) == value for name, value in fields.items())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class ResyncServiceProcess:
    """``with ResyncServiceProcess([uri], resync={"tolerance": 0.01}) as service: service.wait_for("resync", ...)``."""

    def __init__(self, uris: Sequence[str], **sections: Mapping[str, Any]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="resync-service-run-")
        self.directory = Path(self._directory.name)
        self.metrics_file = self.directory / "metrics.prom"
        settings: dict[str, dict[str, Any]] = {
            "watch": {"uris": " ".join(uris)},
            "metrics": {"file": self.metrics_file},
        }
        for section, values in sections.items():
            settings.setdefault(section, {}).update(values)
        self._config = self.directory / "config"
        self._config.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())
                for section, values in settings.items()
            )
        )
        self._lines: list[SaidLine] = []
        self._said = threading.Condition()

    def __enter__(self) -> ResyncServiceProcess:
        command = [sys.executable, "-E", "-s", "-m", "resync_on_resume"]
        command += ["--config", str(self._config), "--lock", str(self.directory / "lock")]
        self._process = subprocess.Popen(
            command,
            cwd=assemble(self.directory / "lib"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._reader.join(GRACE_SECONDS)
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lines(self) -> tuple[SaidLine, ...]:
        """All that it has said so far."""
        with self._said:
            return tuple(self._lines)

    def said(self, event: str, since: int = 0, **fields: Any) -> list[SaidLine]:
        """Its lines of that event that have these fields, from the line of that number on."""
        return [line for line in self.lines[since:] if line.event == event and line.has(**fields)]

    def wait_for(self, event: str, since: int = 0, count: int = 1, seconds: float = 60.0, **fields: Any) -> SaidLine:
        """The last of so many such lines, as soon as they were said."""
        deadline = time.monotonic() + seconds
        with self._said:
            while len(found := self.said(event, since, **fields)) < count:
                left = deadline - time.monotonic()
                if left <= 0 or self._process.poll() is not None:
                    what = " ".join([event, *(f"{name}={shlex.quote(str(each))}" for name, each in fields.items())])
                    raise RuntimeError(f"the service has not said {what}, but:\n" + "\n".join(map(str, self._lines)))
                self._said.wait(min(left, 1.0))
        return found[count - 1]

    def stop(self) -> int:
        """End it, if it still runs; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Of all its threads that live."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9

    def _read(self) -> None:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            with self._said:
                self._lines.append(SaidLine(text.rstrip("\n")))
                self._said.notify_all()
        with self._said:
            self._said.notify_all()
