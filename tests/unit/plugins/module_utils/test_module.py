"""Both modules in this process, from their arguments to the JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _module as module_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import ExchangeTimeoutError, NotConnectedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._module import sentence
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.fakes.clock import Clock
from tests.fakes.guest import EXTENDED_COMMANDS, SECOND, STOCK_COMMANDS, SimulatedGuest, TimeLine
from tests.support.module_fleet import Run
from tests.support.resyncs import FIGURES


@pytest.fixture
def guest(line: TimeLine, monkeypatch: pytest.MonkeyPatch) -> SimulatedGuest:
    """The guest web1, 20 s behind; whatever target the options name, it is this one."""
    guest = SimulatedGuest(
        line, Clock(-20 * SECOND, host=line), (*STOCK_COMMANDS, "guest-get-host-name", "guest-get-osinfo")
    )
    guest.handlers["guest-get-host-name"] = lambda _arguments: Returned({"host-name": "web1"})
    guest.handlers["guest-get-osinfo"] = lambda _arguments: Returned({"id": "debian"})
    real = module_module.target_of
    monkeypatch.setattr(module_module, "target_of", lambda *asked: Target(real(*asked).name, lambda: guest))
    return guest


class TestUpdateTime:
    def test_a_guest_that_was_behind(self, guest: SimulatedGuest, run: Run) -> None:
        ended = run(qga_update_time, domain="web1")
        assert not ended.failed
        assert ended.result["changed"] is True
        assert ended.result["guests"] == [ended.guest]
        assert set(ended.guest) == {"name", "status", *FIGURES}
        assert (ended.guest["name"], ended.guest["method"]) == ("web1", "set_time")
        assert abs(ended.guest["offset_before_ns"] + 20 * SECOND) < SECOND
        assert guest.closed == 1

    def test_check_and_diff_mode(self, guest: SimulatedGuest, run: Run) -> None:
        ended = run(qga_update_time, domain="web1", _ansible_check_mode=True, _ansible_diff=True)
        assert ended.result["changed"] is True
        assert guest.asked("guest-set-time") == []
        assert ended.result["diff"]["before"].startswith("2026-11-23T04:04:46.")
        assert ended.result["diff"]["after"].startswith("2026-11-23T04:05:06.")

    def test_a_failure_keeps_the_figures(self, guest: SimulatedGuest, run: Run) -> None:
        guest.handlers["guest-set-time"] = lambda _arguments: Returned({})
        ended = run(qga_update_time, domain="web1")
        assert ended.failed
        assert ended.result["error"]["code"] == ended.guest["error"]["code"] == "not_converged"
        assert ended.result["msg"].startswith("The guest's clock is still off by -19.9")
        assert "[not_converged]" in ended.result["msg"]
        assert ended.guest["attempts"] == 3
        assert ended.result["changed"] is False

    @pytest.mark.parametrize("check_mode", [False, True])
    def test_a_clock_that_glides_is_said_in_a_sentence(
        self, line: TimeLine, guest: SimulatedGuest, run: Run, check_mode: bool
    ) -> None:
        guest.clock.step(20 * SECOND + SECOND // 5)
        guest.commands.update(SimulatedGuest(line, commands=EXTENDED_COMMANDS).commands)
        ended = run(qga_update_time, domain="web1", backward="slew", _ansible_check_mode=check_mode)
        assert not ended.failed
        assert ended.result["changed"] is True
        assert (ended.guest["status"], ended.guest["within_tolerance"]) == ("slewing", False)
        verb = "would glide" if check_mode else "glides"
        assert ended.result["msg"] == f"web1: its clock {verb} back by 0.200 s within 400 s"

        guest.clock.slew(-SECOND // 5)
        again = run(qga_update_time, domain="web1", backward="slew", _ansible_check_mode=check_mode)
        assert (again.result["changed"], again.guest["status"]) == (False, "slewing")
        assert again.result["msg"] == "web1: its clock glides back by 0.200 s within 400 s"

    def test_without_such_a_clock_there_is_no_sentence(self, guest: SimulatedGuest, run: Run) -> None:
        assert guest.clock.slewing_ns == 0
        assert "msg" not in run(qga_update_time, domain="web1").result

    def test_warnings_name_the_guest(self, guest: SimulatedGuest, run: Run) -> None:
        guest.clock.step(40 * SECOND)
        ended = run(qga_update_time, domain="web1", backward="leave")
        assert not ended.failed
        assert ended.said("web1: the guest is 20.0000")

    @pytest.mark.usefixtures("guest")
    def test_an_unsynchronised_host(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            qga_update_time,
            "reference_of",
            lambda params, real=qga_update_time.reference_of: real(params, lambda: False),
        )
        assert run(qga_update_time, domain="web1").said("host's own clock is not synchronised")
        ended = run(qga_update_time, domain="web1", require_synchronized_host=True)
        assert ended.result["error"]["code"] == "host_clock_unsynchronized"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"domain": ""}, "Domain is empty"),
            ({"domain": "web1", "tolerance": -1}, "Tolerance is -1.0 s"),
            ({"domain": "web1", "tolerance": "nan"}, "Tolerance is nan s"),
            ({"domain": "web1", "attempts": 0}, "Attempts is 0"),
            ({"domain": "web1", "time": "tomorrow"}, "Time tomorrow is not an instant"),
        ],
    )
    def test_wrong_options_are_refused_before_the_guest_is_touched(
        self, guest: SimulatedGuest, run: Run, arguments: dict[str, Any], words: str
    ) -> None:
        ended = run(qga_update_time, **arguments)
        assert ended.failed
        assert ended.result["msg"].startswith(words)
        assert ended.result["error"]["code"] == "invalid_option"
        assert ended.result["changed"] is False
        assert "Traceback" not in json.dumps(ended.result)
        assert guest.requests == []


class TestInfo:
    @pytest.mark.usefixtures("guest")
    def test_the_smallest_subset(self, run: Run) -> None:
        ended = run(qga_info, domain="web1", gather_subset=["min"])
        assert not ended.failed
        assert ended.result["changed"] is False
        assert ended.result["guests"] == [ended.guest]
        assert set(ended.guest) == {"name", "status", "agent", "hostname", "os", "errors"}
        assert ended.guest["hostname"] == "web1"
        assert ended.guest["errors"]["timezone"]["code"] == "command_not_found"

    @pytest.mark.usefixtures("guest")
    def test_a_command(self, run: Run) -> None:
        ended = run(qga_info, domain="web1", command="guest-get-time")
        assert ended.guest["command"]["details_from"] == "catalogue"

    def test_an_unknown_subset(self, guest: SimulatedGuest, run: Run) -> None:
        ended = run(qga_info, domain="web1", gather_subset=["nonsense"])
        assert ended.result["error"]["code"] == "invalid_option"
        assert guest.requests == []

    def test_a_guest_that_does_not_answer(self, guest: SimulatedGuest, run: Run) -> None:
        def gone(_arguments: Any) -> Any:
            raise NotConnectedError("no guest agent runs in web1")

        guest.handlers["guest-info"] = gone
        ended = run(qga_info, domain="web1")
        assert ended.failed
        assert ended.guest == {"name": "web1", "status": "failed", "error": ended.result["error"]}
        assert ended.result["error"]["code"] == "not_connected"
        assert guest.closed == 1


class TestWaiting:
    def test_without_wait_timeout_nothing_is_waited_for(self, guest: SimulatedGuest, run: Run) -> None:
        run(qga_info, domain="web1", gather_subset=["os"])
        assert guest.asked("guest-ping") == []
        assert guest.asked("guest-info") == []

    def test_with_it_the_agent_is_asked_for_a_sign_of_life_first(self, guest: SimulatedGuest, run: Run) -> None:
        troubles = iter([NotConnectedError("booting"), ExchangeTimeoutError("starting"), None])

        def answer(_arguments: Any) -> Any:
            trouble = next(troubles)
            if trouble is not None:
                raise trouble
            return Returned({})

        guest.handlers["guest-info"] = answer
        ended = run(qga_info, domain="web1", gather_subset=["os"], wait_timeout=60)
        assert not ended.failed
        assert [name for name, _arguments in guest.requests][:4] == ["guest-info"] * 3 + ["guest-get-osinfo"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotConnectedError("no agent runs in web1", "Start it."), "No agent runs in web1 [not_connected]. Start it."),
        (
            NotConnectedError("it ended with a full stop.", "Do this."),
            "It ended with a full stop [not_connected]. Do this.",
        ),
        (QgaError("something"), "Something [internal_error]."),
        (QgaError(""), " [internal_error]."),
    ],
)
def test_an_error_for_a_reader(error: QgaError, text: str) -> None:
    assert sentence(error) == text
