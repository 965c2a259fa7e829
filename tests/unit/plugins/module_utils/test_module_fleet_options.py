"""The options of both modules that select many guests, from their arguments to the result."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotFoundError, NotRunningError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import pause
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import finding
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.fakes.guest import SimulatedGuest, TimeLine
from tests.support.module_fleet import Run, SimulatedFleet


class SlowChannel(SimulatedGuest):
    """A guest whose agent takes its time, of real clocks."""

    async def call(self, request: Any, timeout: float) -> Any:
        await pause(60.0)
        return await super().call(request, timeout)


class TestTheDeadline:
    def test_what_is_not_done_by_then_has_failed(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        fleet = SimulatedFleet(TimeLine())  # no module reads it: these are real seconds
        fleet.add("web1")
        fleet.guests["web2"] = SlowChannel(fleet.line)
        fleet.problems["web3"] = NotRunningError("web3 is shut off")
        fleet.add("web3")
        monkeypatch.setitem(finding.FINDERS, "domains", fleet.find)  # type: ignore[arg-type]
        ended = run(qga_info, domains=["*"], gather_subset=["os"], deadline=0.1)
        assert ended.failed
        assert ended.statuses() == {"web1": "gathered", "web2": "failed", "web3": "skipped"}
        assert ended.guests["web2"]["error"]["message"] == "the deadline of 0.1 s passed before it was done"
        assert ended.result["msg"].startswith("1 of 3 guests failed: web2 (deadline) [guests_failed].")


class TestEachGuest:
    def test_is_waited_for_and_asked_with_the_tasks_own_limits(self, fleet: SimulatedFleet, run: Run) -> None:
        run(qga_info, domains=["*"], gather_subset=["os"], wait_timeout=60, timeout=1.5)
        for guest in fleet.guests.values():
            assert [command for command, _arguments in guest.requests] == ["guest-info", "guest-get-osinfo"]
            assert guest.timeouts[-1] == 1.5

    def test_a_defect_that_is_met_with_one_guest_is_that_guests_alone(self, fleet: SimulatedFleet, run: Run) -> None:
        def defective(_arguments: Any) -> Any:
            raise ZeroDivisionError("division by zero")

        fleet.guests["web1"].handlers["guest-get-osinfo"] = defective
        ended = run(qga_info, domains=["*"], gather_subset=["os"])
        assert ended.statuses() == {"web1": "failed", "web2": "gathered", "db1": "gathered"}
        assert ended.guests["web1"]["error"]["code"] == "internal_error"
        assert "Traceback" not in json.dumps(ended.result)


def leave_socket(path: Path) -> None:
    """As a QEMU does that was killed: it is there, and nobody listens."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


NAMING = ("domain", "domains", "socket", "sockets", "address", "vsock")


class TestOptions:
    @pytest.mark.parametrize("which", [qga_info, qga_update_time])
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "No guest is named [invalid_option]. Give exactly one of domain, "),
            ({"domain": "web1", "domains": ["web2"]}, "Several options name guests: domain, domains [invalid_option]."),
            ({"domains": ["web1"], "sockets": ["/run/1.qga"]}, "Several options name guests: domains, sockets ["),
            ({"socket": "/run/1.qga", "sockets": ["/run/*.qga"]}, "Several options name guests: socket, sockets ["),
            ({"domain": "web1", "domains": []}, "Several options name guests: domain, domains ["),
            ({"domains": []}, "Domains is an empty list [invalid_option]. Name guests in domains, or set allow_empty"),
            ({"sockets": []}, "Sockets is an empty list [invalid_option]."),
            ({"domains": ["web1", ""]}, "An entry of domains is empty or has a NUL character in it [invalid_option]."),
            ({"domains": ["a\0b"]}, "An entry of domains is empty or has a NUL character in it [invalid_option]."),
            ({"domains": ["*", "!"]}, "An entry of domains is empty or has a NUL character in it [invalid_option]."),
            ({"domains": ["*"], "exclude": [""]}, "An entry of exclude is empty or has a NUL character in it ["),
            ({"sockets": ["!/run/1.qga"]}, "Sockets only says what to leave out [invalid_option]. Add a path or"),
            ({"domains": ["*"], "concurrency": 0}, "Concurrency is 0 [invalid_option]."),
            ({"domains": ["*"], "deadline": 0}, "Deadline is 0.0 s [invalid_option]."),
            ({"domains": ["*"], "deadline": "nan"}, "Deadline is nan s [invalid_option]."),
        ],
    )
    def test_what_contradicts_itself_or_names_nothing_is_refused_before_a_guest_is_touched(
        self, fleet: SimulatedFleet, run: Run, which: Any, arguments: dict[str, Any], words: str
    ) -> None:
        ended = run(which, **arguments)
        assert ended.failed
        assert ended.result["msg"].startswith(words)
        assert "\n" not in ended.result["msg"]
        assert ended.result["error"]["code"] == "invalid_option"
        assert ended.result["changed"] is False
        assert "guests" not in ended.result
        assert all(guest.requests == [] for guest in fleet.guests.values())

    def test_the_hint_names_all_options_that_name_guests(self, run: Run) -> None:
        hint = run(qga_info).result["error"]["hint"]
        assert set(NAMING) <= set(re.findall(r"\w+", hint))

    @pytest.mark.parametrize(
        ("which", "arguments"),
        [(qga_update_time, {"tolerance": -1}), (qga_info, {"gather_subset": ["nonsense"]})],
    )
    def test_a_modules_own_options_are_checked_before_the_guests_are_looked_for(
        self, fleet: SimulatedFleet, run: Run, which: Any, arguments: dict[str, Any]
    ) -> None:
        ended = run(which, domains=["*"], **arguments)
        assert ended.result["error"]["code"] == "invalid_option"
        assert fleet.closed == 0

    def test_a_list_may_be_written_as_a_string(self, fleet: SimulatedFleet, run: Run) -> None:
        assert list(run(qga_info, domains="web1,db1").guests) == ["web1", "db1"]
        assert fleet.guests["web2"].requests == []

    def test_patterns_that_match_nothing(self, run: Run, tmp_path: Path) -> None:
        pattern = f"{tmp_path}/*.qga"
        ended = run(qga_info, sockets=[pattern])
        assert ended.failed
        assert ended.result["error"]["code"] == NotFoundError.code
        assert ended.result["msg"].startswith(f"No socket matches {pattern} [not_found].")
        assert "guests" not in ended.result
        empty = run(qga_info, sockets=[pattern], allow_empty=True)
        assert not empty.failed
        assert empty.result["guests"] == []

    def test_sockets_in_the_home_directory(self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("1.qga", "2.qga", "3.qga"):
            leave_socket(tmp_path / name)
        nobody_is_asked: dict[str, Any] = {"gather_subset": ["!all"]}
        ended = run(qga_info, sockets=["~/*.qga", "!~/1.qga"], exclude=["~/2.qga"], **nobody_is_asked)
        assert list(ended.guests) == [f"{tmp_path}/3.qga"]
        assert list(run(qga_info, sockets=["~/3.qga"], **nobody_is_asked).guests) == [f"{tmp_path}/3.qga"]

    def test_a_socket_of_a_pattern_where_nobody_listens_is_skipped(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "1.qga")
        leave_socket(tmp_path / "1.qga")
        assert run(qga_info, sockets=[f"{tmp_path}/*"]).guests[path]["reason"]["code"] == "not_connected"
        assert run(qga_info, sockets=[path]).guests[path]["error"]["code"] == "not_connected"
        assert run(qga_info, sockets=[path], skip_unusable=True).statuses() == {path: "skipped"}
