"""Both modules in this process with one guest, from their arguments to the JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _module as module_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotConnectedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.fakes.guest import EXTENDED_COMMANDS, SECOND, SimulatedGuest, TimeLine
from tests.support.module_fleet import Run, SimulatedFleet
from tests.support.resyncs import FIGURES


@pytest.fixture
def guest(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> SimulatedGuest:
    """The guest web1, 20 s behind; whatever target the options name, it is this one."""
    guest = fleet.guests["web1"]
    real = module_module.target_of
    monkeypatch.setattr(module_module, "target_of", lambda *asked: Target(real(*asked).name, lambda: guest))
    return guest


class TestUpdateTime:
    def test_a_guest_that_was_behind_is_corrected(self, guest: SimulatedGuest, run: Run) -> None:
        ended = run(qga_update_time, domain="web1")
        assert not ended.failed
        assert set(ended.result) - {"invocation", "warnings"} == {"changed", "guests", "guest", "diff"}
        assert ended.result["changed"] is True
        assert ended.result["guests"] == [ended.guest]
        assert set(ended.guest) == {"name", "status", *FIGURES}
        assert [ended.guest[name] for name in ("name", "status", "method")] == ["web1", "corrected", "set_time"]
        assert abs(ended.guest["offset_before_ns"] + 20 * SECOND) < SECOND
        assert guest.closed == 1

    def test_in_check_and_diff_mode_there_is_a_diff_and_nothing_is_set(self, guest: SimulatedGuest, run: Run) -> None:
        ended = run(qga_update_time, domain="web1", _ansible_check_mode=True, _ansible_diff=True)
        assert ended.result["changed"] is True
        assert guest.asked("guest-set-time") == []
        assert set(ended.result["diff"]) == {"before", "after"}
        assert ended.result["diff"]["before"].startswith("2026-11-23T04:04:46.")
        assert ended.result["diff"]["after"].startswith("2026-11-23T04:05:06.")

    def test_a_failure_keeps_the_figures(self, guest: SimulatedGuest, run: Run) -> None:
        guest.handlers["guest-set-time"] = lambda _arguments: Returned({})
        ended = run(qga_update_time, domain="web1")
        assert ended.failed
        assert ended.result["error"] == ended.guest["error"]
        assert ended.guest["attempts"] == 3
        assert ended.result["msg"].startswith("The guest's clock is still off by -19.9")
        assert "[not_converged]" in ended.result["msg"]
        assert ended.result["changed"] is False

    @pytest.mark.parametrize("check_mode", [False, True])
    def test_a_clock_that_glides_is_reported_in_a_sentence(
        self, line: TimeLine, guest: SimulatedGuest, run: Run, check_mode: bool
    ) -> None:
        guest.clock.step(20 * SECOND + SECOND // 5)
        guest.commands.update(SimulatedGuest(line, commands=EXTENDED_COMMANDS).commands)
        ended = run(qga_update_time, domain="web1", backward="slew", _ansible_check_mode=check_mode)
        assert (ended.failed, ended.result["changed"]) == (False, True)
        assert (ended.guest["status"], ended.guest["within_tolerance"]) == ("slewing", False)
        verb = "would glide" if check_mode else "glides"
        assert ended.result["msg"] == f"web1: its clock {verb} back by 0.200 s within 400 s"

        guest.clock.slew(-SECOND // 5)
        again = run(qga_update_time, domain="web1", backward="slew", _ansible_check_mode=check_mode)
        assert (again.result["changed"], again.guest["status"]) == (False, "slewing")
        assert again.result["msg"] == "web1: its clock glides back by 0.200 s within 400 s"

    @pytest.mark.usefixtures("guest")
    def test_an_unsynchronized_host_is_a_warning_or_an_error(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        real = qga_update_time.reference_of
        monkeypatch.setattr(qga_update_time, "reference_of", lambda params: real(params, lambda: False))
        assert run(qga_update_time, domain="web1").said("host's own clock is not synchronised")
        ended = run(qga_update_time, domain="web1", require_synchronized_host=True)
        assert ended.result["error"]["code"] == "host_clock_unsynchronized"


class TestInfo:
    @pytest.mark.usefixtures("guest")
    def test_facts_are_gathered_and_a_missing_command_is_an_error_among_them(self, run: Run) -> None:
        ended = run(qga_info, domain="web1", gather_subset=["min"], _ansible_diff=True)
        assert not ended.failed
        assert set(ended.result) - {"invocation"} == {"changed", "guests", "guest"}
        assert (ended.result["changed"], ended.result["guests"]) == (False, [ended.guest])
        assert set(ended.guest) == {"name", "status", "agent", "hostname", "os", "errors"}
        assert (ended.guest["status"], ended.guest["hostname"]) == ("gathered", "web1.example")
        assert ended.guest["errors"]["timezone"]["code"] == "command_not_found"

    @pytest.mark.usefixtures("guest")
    def test_a_command_is_described(self, run: Run) -> None:
        ended = run(qga_info, domain="web1", command="guest-get-time")
        assert ended.guest["command"]["details_from"] == "catalogue"

    @pytest.mark.parametrize(
        ("error", "code"),
        [(NotConnectedError("no agent runs"), "not_connected"), (ZeroDivisionError("division"), "internal_error")],
    )
    def test_a_guest_that_fails_has_the_tasks_error_whatever_fail_on_says(
        self, guest: SimulatedGuest, run: Run, error: Exception, code: str
    ) -> None:
        def fail(_arguments: Any) -> Any:
            raise error

        guest.handlers["guest-info"] = fail
        ended = run(qga_info, domain="web1", fail_on="none")
        assert ended.failed
        assert ended.guest == {"name": "web1", "status": "failed", "error": ended.result["error"]}
        assert ended.result["error"]["code"] == code
        assert "Traceback" not in json.dumps(ended.result)
        assert guest.closed == 1


@pytest.mark.parametrize(
    ("which", "arguments", "words"),
    [
        (qga_update_time, {"domain": ""}, "Domain is empty"),
        (qga_update_time, {"domain": "web1", "tolerance": "nan"}, "Tolerance is nan s"),
        (qga_update_time, {"domain": "web1", "time": "tomorrow"}, "Time tomorrow is not an instant"),
        (qga_info, {"domain": "web1", "gather_subset": ["nonsense"]}, "Gather_subset has unknown names: nonsense"),
    ],
)
def test_wrong_options_are_refused_before_the_guest_is_touched(
    guest: SimulatedGuest, run: Run, which: Any, arguments: dict[str, Any], words: str
) -> None:
    ended = run(which, **arguments)
    assert ended.failed
    assert ended.result["msg"].startswith(words)
    assert ended.result["error"]["code"] == "invalid_option"
    assert ended.result["changed"] is False
    assert guest.requests == []
