"""Modules running in this process, with many simulated guests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotRunningError, UnresponsiveError
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import finding
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import Fleet
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import Guest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned

from tests.fakes.clock import Clock
from tests.fakes.guest import STOCK_COMMANDS, SimulatedGuest, TimeLine


class Ended:
    def __init__(self, status: object, result: dict[str, Any]) -> None:
        self.failed = status != 0
        self.result = result
        self.guest: dict[str, Any] = result.get("guest", {})
        self.guests: dict[str, dict[str, Any]] = {guest["name"]: guest for guest in result.get("guests", [])}
        self.summary: dict[str, Any] = result.get("summary", {})
        # ansible-core 2.19 replaces the strings of some warnings with objects.
        self.warnings = [each if isinstance(each, str) else json.dumps(each) for each in result.get("warnings", [])]

    def statuses(self) -> dict[str, str]:
        return {name: guest["status"] for name, guest in self.guests.items()}

    def said(self, words: str) -> list[str]:
        return [warning for warning in self.warnings if words in warning]


Run = Callable[..., Ended]


class SimulatedFleet:
    """Guests that ``domains`` finds by name; ``*`` selects all of them as optional guests."""

    def __init__(self, line: TimeLine) -> None:
        self.line = line
        self.guests: dict[str, SimulatedGuest] = {}
        self.problems: dict[str, NotRunningError] = {}
        self.vm_names: dict[str, str] = {}
        self.warnings: tuple[str, ...] = ()
        self.closed = 0

    def add(self, name: str, offset_ns: int = 0) -> SimulatedGuest:
        commands = (*STOCK_COMMANDS, "guest-get-host-name", "guest-get-osinfo")
        guest = SimulatedGuest(self.line, Clock(offset_ns, host=self.line), commands)
        guest.handlers["guest-get-host-name"] = lambda _arguments: Returned({"host-name": f"{name}.example"})
        guest.handlers["guest-get-osinfo"] = lambda _arguments: Returned({"id": "debian"})
        self.guests[name] = guest
        return guest

    def silence(self, name: str) -> None:
        def silent(_arguments: Any) -> Any:
            raise UnresponsiveError(f"the agent of {name} does not answer")

        guest = self.guests[name]
        guest.handlers.update(dict.fromkeys(guest.handlers, silent))

    @contextlib.contextmanager
    def find(self, params: finding.Params, _limits: object) -> Iterator[Fleet]:
        """Replace a finder of ``finding.py``."""
        is_pattern = params["domains"] == ["*"]
        names = list(self.guests) if is_pattern else params["domains"]
        try:
            yield Fleet(tuple(self._guest(name, is_pattern) for name in names), self.warnings)
        finally:
            self.closed += 1

    def _guest(self, name: str, is_optional: bool) -> Guest:
        guest = self.guests[name]
        uuid, problem, vm_name = f"uuid-of-{name}", self.problems.get(name), self.vm_names.get(name)
        return Guest(name, lambda: guest, uuid, is_optional, problem, vm_name=vm_name)


def run_module(capsys: pytest.CaptureFixture[str], which: Any, arguments: dict[str, Any]) -> Ended:
    from .ansible_core import module_args  # needs Ansible, which some users of the other helpers here do not have

    with module_args(arguments), pytest.raises(SystemExit) as ended:
        which.main()
    return Ended(ended.value.code, json.loads(capsys.readouterr().out))
