# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service ``resync_on_resume`` beside a real libvirt, and what it says of guests, one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.logfmt import parse
from tests.support.resync_service import ServiceProcess
from tests.support.until import until


class SaidLine:
    """One line of its log: ``event``, and its fields; numbers as such."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.event, fields = parse(text)
        self.fields: Mapping[str, Any] = {name: _value(value) for name, value in fields.items()}

    def __repr__(self) -> str:
        return self.text

    def has(self, **fields: Any) -> bool:
        return all(self.fields.get(name) == value for name, value in fields.items())


def _value(text: str) -> str | int:
    try:
        return int(text)
    except ValueError:
        return text


class ResyncServiceProcess:
    """``with ResyncServiceProcess([uri], watch={"agent_patience": 30}) as service: service.wait_for("resync")``."""

    def __init__(self, uris: Sequence[str], **sections: Mapping[str, Any]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="resync-service-run-")
        place = Path(self._directory.name)
        self.metrics_file = place / "metrics.prom"
        settings = {**sections, "metrics": {"file": self.metrics_file}}
        settings["watch"] = {"uris": " ".join(uris), **sections.get("watch", {})}
        self._process = ServiceProcess(place, "".join(map(_section, settings.items())))

    def __enter__(self) -> ResyncServiceProcess:
        self._process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)
        self._directory.cleanup()

    @property
    def lines(self) -> list[str]:
        """All that it has said so far."""
        whole, _newline, _part = self._process.read_log().rpartition("\n")
        return whole.splitlines()

    def said(self, event: str, since: int = 0, **fields: Any) -> list[SaidLine]:
        """Its lines of that event that have these fields, from the line of that number on."""
        lines = map(SaidLine, self.lines[since:])
        return [line for line in lines if line.event == event and line.has(**fields)]

    def wait_for(self, event: str, since: int = 0, count: int = 1, seconds: float = 60.0, **fields: Any) -> SaidLine:
        """The last of so many such lines, as soon as they were said."""

        def are_there() -> bool:
            assert self._process.process.poll() is None, self._process.read_log()
            return len(self.said(event, since, **fields)) >= count

        try:
            until(are_there, f"{event} was not said {count} times with {fields}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}, but:\n{self._process.read_log()}") from None
        return self.said(event, since, **fields)[count - 1]

    def resident_mib(self) -> float:
        return self._process.resident_kib() / 1024

    def cpu_seconds(self) -> float:
        """Of all its threads that live."""
        threads = Path(f"/proc/{self._process.process.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def _section(section: tuple[str, Mapping[str, Any]]) -> str:
    name, values = section
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
