"""Both modules in this process, with one guest and with many: from their arguments to the JSON on standard output."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostClock
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    NotConnectedError,
    NotRunningError,
    OptedOutError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import pause
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import finding, vm_names
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.fakes.guest import EXTENDED_COMMANDS, SECOND, SimulatedGuest, TimeLine
from tests.support.module_fleet import Run, SimulatedFleet
from tests.support.resyncs import FIGURES


class TestOneGuest:
    def test_a_guest_that_was_behind_is_corrected(self, web1: SimulatedGuest, run: Run) -> None:
        ended = run(qga_update_time, domain="web1")
        assert not ended.failed
        assert set(ended.result) - {"invocation", "warnings"} == {"changed", "guest", "diff", "msg", "host_clock"}
        assert ended.result["changed"] is True
        assert set(ended.guest) == {"name", "status", *FIGURES}
        assert [ended.guest[name] for name in ("name", "status", "method")] == ["web1", "corrected", "set_time"]
        assert abs(ended.guest["offset_before"] + 20) < 1
        assert ended.result["msg"].startswith("web1 was 20.000 s behind; its clock is now right to ")
        assert web1.closed == 1

    def test_in_check_and_diff_mode_there_is_a_diff_and_nothing_is_set(self, web1: SimulatedGuest, run: Run) -> None:
        ended = run(qga_update_time, domain="web1", _ansible_check_mode=True, _ansible_diff=True)
        assert (ended.result["changed"], ended.guest["status"]) == (True, "would_correct")
        assert ended.result["msg"] == "web1 is 20.000 s behind; its clock would be stepped"
        assert web1.asked("guest-set-time") == []
        assert set(ended.result["diff"]) == {"before", "after"}
        assert ended.result["diff"]["before"].startswith("2026-11-23T04:04:46.")
        assert ended.result["diff"]["after"].startswith("2026-11-23T04:05:06.")

    def test_a_failure_keeps_the_figures(self, web1: SimulatedGuest, run: Run) -> None:
        web1.handlers["guest-set-time"] = lambda _arguments: Returned({})
        ended, many = run(qga_update_time, domain="web1"), run(qga_update_time, domains=["*"])
        assert (ended.failed, ended.result["changed"]) == (True, False)
        assert "error" not in ended.result, "it is in the guest's entry"
        assert ended.guest["error"]["code"] == "not_converged"
        assert ended.guest["attempts"] == 3
        assert ended.result["msg"].startswith("The guest's clock is still off by -20.000 s ±")
        assert "[not_converged]" in ended.result["msg"]
        for entry in (ended.guest, many.guests["web1"]):
            assert set(entry) - {"uuid"} == {"name", "status", "error", *FIGURES}
        assert many.result["msg"].startswith("1 of 3 guests failed: web1 (not_converged) [guests_failed].")

    @pytest.mark.parametrize("check_mode", [False, True])
    def test_a_clock_that_glides_is_reported_in_a_sentence(
        self, line: TimeLine, web1: SimulatedGuest, run: Run, check_mode: bool
    ) -> None:
        web1.clock.step(20 * SECOND + SECOND // 5)
        web1.commands.update(SimulatedGuest(line, commands=EXTENDED_COMMANDS).commands)
        ended = run(qga_update_time, domain="web1", backward="slew", _ansible_check_mode=check_mode)
        assert (ended.failed, ended.result["changed"]) == (False, True)
        status, verb = ("would_correct", "would be") if check_mode else ("slewing", "is being")
        assert (ended.guest["status"], ended.guest["within_tolerance"]) == (status, False)
        words = f"web1 is 200.0 ms ahead; its clock {verb} slewed back by 199.9 ms, which takes 6 min 40 s"
        assert ended.result["msg"] == words

        web1.clock.slew(-SECOND // 5)
        again = run(qga_update_time, domain="web1", backward="slew", _ansible_check_mode=check_mode)
        assert (again.result["changed"], again.guest["status"]) == (False, "slewing")
        assert again.result["msg"].startswith("web1 is 200.0 ms ahead; its clock is being slewed back by 200.0 ms, ")

    @pytest.mark.usefixtures("web1")
    def test_an_unsynchronized_host_is_a_warning_or_an_error(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        real = qga_update_time.reference_of
        monkeypatch.setattr(qga_update_time, "reference_of", lambda params: real(params, lambda: HostClock(False)))
        assert run(qga_update_time, domain="web1").said("host's own clock is not synchronized")
        ended = run(qga_update_time, domain="web1", require_synchronized_host=True)
        assert ended.result["error"]["code"] == "host_clock_unsynchronized"
        assert "synchronized" in ended.result["host_clock"], "the report needs it most then"

    @pytest.mark.usefixtures("web1")
    def test_facts_are_gathered_and_a_missing_command_is_an_error_among_them(self, run: Run) -> None:
        ended = run(qga_info, domain="web1", gather_subset=["min"], _ansible_diff=True)
        assert not ended.failed
        assert set(ended.result) - {"invocation"} == {"changed", "guest", "host_clock"}
        assert ended.result["changed"] is False
        assert set(ended.guest) == {"name", "status", "agent", "hostname", "os", "errors"}
        assert (ended.guest["status"], ended.guest["hostname"]) == ("gathered", "web1.example")
        assert ended.guest["errors"]["timezone"]["code"] == "command_not_found"

    @pytest.mark.usefixtures("web1")
    def test_a_command_is_described(self, run: Run) -> None:
        ended = run(qga_info, domain="web1", command="guest-get-time")
        assert ended.guest["command"]["details_from"] == "catalog"

    @pytest.mark.parametrize(
        ("error", "code"),
        [(NotConnectedError("no agent runs"), "not_connected"), (ZeroDivisionError("division"), "internal_error")],
    )
    def test_a_guest_that_fails_has_the_tasks_error_whatever_fail_on_says(
        self, web1: SimulatedGuest, run: Run, error: Exception, code: str
    ) -> None:
        def fail(_arguments: Any) -> Any:
            raise error

        web1.handlers["guest-info"] = fail
        ended = run(qga_info, domain="web1", fail_on="none")
        assert ended.failed
        assert set(ended.guest) == {"name", "status", "error"}
        assert (ended.guest["status"], ended.guest["error"]["code"]) == ("failed", code)
        assert f"[{code}]" in ended.result["msg"]
        assert "error" not in ended.result
        assert "Traceback" not in json.dumps(ended.result)
        assert web1.closed == 1


class TestUpdatingMany:
    def test_each_guest_has_its_entry_in_the_order_in_which_they_are_named(
        self, fleet: SimulatedFleet, run: Run
    ) -> None:
        ended = run(qga_update_time, domains=["db1", "web2", "web1"])
        assert (ended.failed, ended.result["changed"]) == (False, True)
        assert list(ended.statuses().items()) == [("db1", "corrected"), ("web2", "unchanged"), ("web1", "corrected")]
        for name, entry in ended.guests.items():
            assert set(entry) - {"warnings"} == {"name", "status", "uuid", *FIGURES}
            assert (entry["uuid"], entry["changed"]) == (f"uuid-of-{name}", name != "web2")
        assert all(abs(guest.clock.offset_ns()) < SECOND // 10 for guest in fleet.guests.values())
        assert [guest.closed for guest in fleet.guests.values()] == [1, 1, 1]
        assert fleet.closed == 1

    @pytest.mark.parametrize(("ahead_ns", "largest"), [(3 * SECOND, "web1"), (63 * SECOND, "db1")])
    def test_the_summary_counts_and_has_the_largest_offsets_with_their_signs(
        self, fleet: SimulatedFleet, run: Run, ahead_ns: int, largest: str
    ) -> None:
        fleet.add("db1", ahead_ns)
        ended = run(qga_update_time, domains=["*"])
        assert ended.summary.pop("duration_ns") > 0
        assert ended.summary.pop("duration") > 0
        assert ended.result["msg"] == "3 guests: 2 corrected, 1 unchanged"
        residuals = [entry["offset_after_ns"] for entry in ended.guests.values() if entry["changed"]]
        assert ended.summary == {
            "total": 3,
            "corrected": 2,
            "would_correct": 0,
            "unchanged": 1,
            "beyond_tolerance": 0,
            "slewing": 0,
            "skipped": 0,
            "failed": 0,
            "largest_offset_before_ns": ended.guests[largest]["offset_before_ns"],
            "largest_offset_before": ended.guests[largest]["offset_before"],
            "largest_offset_after_ns": max(residuals, key=abs),
            "largest_offset_after": max(residuals, key=abs) / SECOND,
        }

    def test_diff_mode_has_a_diff_under_the_name_of_each_guest_that_was_measured(
        self, fleet: SimulatedFleet, run: Run
    ) -> None:
        fleet.silence("web2")
        ended = run(qga_update_time, domains=["*"], fail_on="none", _ansible_diff=True)
        diffs = ended.result["diff"]
        assert [(diff["before_header"], diff["after_header"]) for diff in diffs] == [("web1", "web1"), ("db1", "db1")]
        for diff in diffs:
            assert set(diff) == {"before", "after", "before_header", "after_header"}
            assert re.match(r"2026-11-23T04:0\d:\d\d\.\d+Z\n\Z", diff["before"])
            assert diff["before"] != diff["after"]

    def test_a_clock_that_must_not_be_touched_is_left_alone(
        self, fleet: SimulatedFleet, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def metadata(namespace: str, _timeout: float) -> str:
            return f'<resync xmlns="{namespace}" enabled="no"/>'

        monkeypatch.setattr(fleet.guests["web1"], "metadata", metadata)
        skipped = run(qga_update_time, domains=["*"])
        assert not skipped.failed
        assert (skipped.statuses()["web1"], skipped.summary["skipped"]) == ("skipped", 1)
        assert skipped.guests["web1"]["reason"]["code"] == OptedOutError.code
        assert run(qga_update_time, domains=["web1"]).guests["web1"]["error"]["code"] == OptedOutError.code
        assert fleet.guests["web1"].requests == []
        assert run(qga_info, domains=["web1"], gather_subset=["os"]).statuses() == {"web1": "gathered"}


class TestSockets:
    """Each guest is addressed by a path, and its name comes from the node or from the guest itself."""

    def test_the_agents_host_name_is_a_claim(
        self, fleet: SimulatedFleet, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def find(params: finding.Params, limits: Limits) -> Any:
            return fleet.find({**params, "domains": params["sockets"]}, limits)

        monkeypatch.setitem(finding.FINDERS, "sockets", find)
        ended = run(qga_update_time, sockets=["web1"])
        entry = ended.guests["web1"]
        assert (entry["vm_name"], entry["vm_name_from"]) == ("web1.example", "agent")
        assert entry["status"] == "corrected"
        assert "vm_name" not in run(qga_update_time, domains=["web1"]).guests["web1"]

    @pytest.mark.usefixtures("web1")
    def test_the_nodes_name_is_used_in_sentences(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vm_names, "node_name", {"/run/qemu-server/100.qga": "web1"}.get)
        ended = run(qga_update_time, socket="/run/qemu-server/100.qga")
        assert (ended.guest["name"], ended.guest["vm_name"]) == ("/run/qemu-server/100.qga", "web1")
        assert ended.result["msg"].startswith("web1 was 20.000 s behind; ")


class TestAddresses:
    def test_facts_have_those_of_the_network_by_the_default_rule(self, web1: SimulatedGuest, run: Run) -> None:
        networks = [
            {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
            {"name": "docker0", "ip-addresses": [{"ip-address": "172.17.0.1"}]},
            {"name": "eth0", "ip-addresses": [{"ip-address": each} for each in ("2001:db9::5", "10.0.0.5", "fe80::5")]},
        ]
        web1.commands["guest-network-get-interfaces"] = web1.commands["guest-info"]
        web1.handlers["guest-network-get-interfaces"] = lambda _arguments: Returned(networks)
        ended = run(qga_info, domain="web1", gather_subset=["network"])
        assert (ended.guest["addresses"], ended.guest["address"]) == (["10.0.0.5", "2001:db9::5"], "10.0.0.5")

        networks.clear()
        ended = run(qga_info, domain="web1", gather_subset=["network"])
        assert (ended.guest["network"], ended.guest["addresses"], ended.guest["address"]) == ([], [], None)
        assert "addresses" not in run(qga_info, domain="web1", gather_subset=["os"]).guest


class TestInfoOfMany:
    def test_each_guest_has_its_facts_or_the_reason_why_it_has_none(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.problems["web2"] = NotRunningError("web2 is shut off")
        ended = run(qga_info, domains=["*"], gather_subset=["hostname", "os"])
        assert (ended.failed, ended.result["changed"]) == (False, False)
        assert ended.guests["db1"]["hostname"] == "db1.example"
        assert ended.result["guests"][:2] == [
            {
                "name": "web1",
                "status": "gathered",
                "uuid": "uuid-of-web1",
                "hostname": "web1.example",
                "os": {"id": "debian"},
                "errors": {},
            },
            {
                "name": "web2",
                "status": "skipped",
                "uuid": "uuid-of-web2",
                "reason": NotRunningError("web2 is shut off").as_dict(),
            },
        ]
        assert ended.summary.pop("duration") == ended.summary.pop("duration_ns") / SECOND
        assert ended.summary == {"total": 3, "gathered": 2, "skipped": 1, "failed": 0}
        assert ended.result["msg"] == "3 guests: 2 gathered, 1 skipped"
        assert "diff" not in ended.result
        assert fleet.guests["web2"].requests == []
        assert run(qga_info, domains=["web2"]).failed

    def test_guests_that_fail_do_not_hide_the_others(self, fleet: SimulatedFleet, run: Run) -> None:
        def defective(_arguments: Any) -> Any:
            raise ZeroDivisionError("division by zero")

        fleet.silence("web1")
        fleet.guests["web2"].handlers["guest-get-osinfo"] = defective
        ended = run(qga_info, domains=["*"], gather_subset=["os"])
        assert ended.failed
        assert ended.statuses() == {"web1": "failed", "web2": "failed", "db1": "gathered"}
        error = UnresponsiveError("the agent of web1 does not answer").as_dict()
        web1 = {"name": "web1", "status": "failed", "uuid": "uuid-of-web1", "error": error}
        assert ended.result["guests"][0] == web1
        assert ended.guests["web2"]["error"]["code"] == "internal_error"
        assert "Traceback" not in json.dumps(ended.result)

    @pytest.mark.parametrize(
        ("wait_timeout", "commands"), [(0, ["guest-get-osinfo"]), (60, ["guest-info", "guest-get-osinfo"])]
    )
    def test_each_guest_is_waited_for_and_asked_with_the_tasks_own_limits(
        self, fleet: SimulatedFleet, run: Run, wait_timeout: int, commands: list[str]
    ) -> None:
        run(qga_info, domains=["*"], gather_subset=["os"], wait_timeout=wait_timeout, timeout=1.5)
        for guest in fleet.guests.values():
            assert [command for command, _arguments in guest.requests] == commands
            assert guest.timeouts[-1] == 1.5

    def test_guests_that_are_not_done_at_the_deadline_have_failed(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def call(*_arguments: Any) -> Any:
            await pause(60.0)

        fleet = SimulatedFleet(TimeLine())  # no module reads it: these are real seconds
        fleet.add("web1")
        monkeypatch.setattr(fleet.add("web2"), "call", call)
        monkeypatch.setitem(finding.FINDERS, "domains", fleet.find)  # type: ignore[arg-type]
        ended = run(qga_info, domains=["*"], gather_subset=["os"], deadline=0.1)
        assert ended.statuses() == {"web1": "gathered", "web2": "failed"}
        assert ended.guests["web2"]["error"]["message"] == "the deadline of 0.1 s passed before work on the guest ended"
        assert ended.result["msg"].startswith("1 of 2 guests failed: web2 (deadline) [guests_failed].")


class TestTheResultOfMany:
    @pytest.mark.usefixtures("fleet")
    @pytest.mark.parametrize("which", [qga_info, qga_update_time])
    def test_there_is_a_list_even_of_one_guest(self, which: Any, run: Run) -> None:
        ended = run(which, domains=["web1"])
        assert "guest" not in ended.result
        assert [guest["name"] for guest in ended.result["guests"]] == ["web1"]
        assert "summary" in ended.result

    def test_there_may_be_no_guest_at_all(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.guests.clear()
        ended = run(qga_update_time, domains=["*"])
        assert not ended.failed
        assert (ended.result["guests"], ended.result["changed"]) == ([], False)
        assert ended.result["msg"] == "no guests"
        assert {name: value for name, value in ended.summary.items() if "duration" not in name} == {
            **dict.fromkeys(("total", "corrected", "would_correct", "unchanged", "slewing", "skipped", "failed"), 0),
            "beyond_tolerance": 0,
            **dict.fromkeys(("largest_offset_before_ns", "largest_offset_after_ns")),
            **dict.fromkeys(("largest_offset_before", "largest_offset_after")),
        }

    @pytest.mark.usefixtures("fleet")
    def test_a_clock_that_is_left_wrong_is_counted_and_in_the_sentence(self, run: Run) -> None:
        ended = run(qga_update_time, domains=["*"], backward="leave")
        assert ended.summary["beyond_tolerance"] == 1
        assert ended.result["msg"] == "3 guests: 1 corrected, 2 unchanged; 1 left beyond tolerance"

    @pytest.mark.parametrize(("fail_on", "fails"), [("any", True), ("all", False), ("none", False)])
    def test_fail_on_decides_whether_the_task_fails(
        self, fleet: SimulatedFleet, run: Run, fail_on: str, fails: bool
    ) -> None:
        fleet.silence("web1")
        ended = run(qga_update_time, domains=["*"], fail_on=fail_on)
        assert (ended.failed, "error" in ended.result, ended.summary["failed"]) == (fails, fails, 1)
        if fails:
            assert ended.result["error"]["message"] == "1 of 3 guests failed: web1 (unresponsive)"


class TestWarnings:
    @pytest.mark.parametrize(("guests", "told"), [(1, 1), (10, 10), (11, 10), (200, 10)])
    def test_after_ten_the_rest_is_counted(self, fleet: SimulatedFleet, run: Run, guests: int, told: int) -> None:
        fleet.guests.clear()
        for number in range(1, guests + 1):
            fleet.add(f"web{number}", 5 * SECOND)
        ended = run(qga_update_time, domains=["*"], backward="leave")
        assert (ended.failed, ended.summary["unchanged"]) == (False, guests)
        warnings = ended.said("was left alone")
        assert len(warnings) == told
        assert all(f"web{number}: the guest's clock is " in warning for number, warning in enumerate(warnings, 1))
        more = f"and {guests - told} more warnings; see warnings in each guest's entry"
        assert len(ended.said("more warnings")) == len(ended.said(more)) == (guests > told)
        assert all("was left alone" in entry["warnings"][0] for entry in ended.guests.values())

    @pytest.mark.parametrize("check_mode", [False, True])
    def test_clocks_that_are_slewed_are_counted(self, fleet: SimulatedFleet, run: Run, check_mode: bool) -> None:
        fleet.guests.clear()
        for name in ("web1", "web2"):
            guest = fleet.add(name, SECOND // 4)
            guest.commands.update(SimulatedGuest(guest.line, commands=EXTENDED_COMMANDS).commands)
        ended = run(qga_update_time, domains=["*"], backward="slew", _ansible_check_mode=check_mode)
        status = "would_correct" if check_mode else "slewing"
        assert set(ended.statuses().values()) == {status}
        assert (ended.summary[status], ended.summary["corrected"]) == (2, 0)
        assert ended.result["msg"] == f"2 guests: 2 {status.replace('_', ' ')}"

    def test_those_about_the_selection_are_the_tasks(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.warnings = ("'web1' is listed more than once; it is processed once",)
        ended = run(qga_update_time, domains=["*"], backward="leave")
        assert ended.said("more than once")
        assert ["warnings" in entry for entry in ended.guests.values()] == [False, False, True]
