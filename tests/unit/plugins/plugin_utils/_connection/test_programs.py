from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import programs
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.programs import (
    Ended,
    Polling,
    Program,
    UnknownProcessError,
    end_of,
    execute,
    outcome,
    start,
)

from tests.fakes.guest import TimeLine
from tests.fakes.this_machine import ThisMachine, frozen, returning

SHELL = "/bin/sh"


def canned(value: Any) -> ThisMachine:
    """A machine whose agent says this of any process."""
    reply: Reply = value if isinstance(value, Refused) else Returned(value)
    return ThisMachine({("guest-exec-status", None): lambda _perform: reply})


def said(value: Any) -> Ended | None:
    return tasks.run(outcome(canned(value).agent(), 1))


class TestAProgram:
    def test_runs_to_its_end(self) -> None:
        machine = ThisMachine()
        program = Program(SHELL, ("-c", "cat; echo oops >&2; exit 3"), b"in\0put")
        assert tasks.run(execute(machine.agent(), program, Deadline(30.0))) == Ended(
            3, None, b"in\0put", b"oops\n", False
        )
        assert machine.known_processes == 0

    def test_is_ended_by_a_signal(self) -> None:
        program = Program(SHELL, ("-c", "kill -9 $$"))
        ended = tasks.run(execute(ThisMachine().agent(), program, Deadline(30.0)))
        assert ended is not None
        assert (ended.exit_status, ended.signal) == (None, 9)

    def test_that_is_not_there_is_refused_with_the_agents_reason(self) -> None:
        with pytest.raises(CommandFailedError, match="No such file"):
            tasks.run(start(ThisMachine().agent(), Program("/nonesuch")))

    def test_without_input_is_given_none(self) -> None:
        machine = ThisMachine()
        tasks.run(start(machine.agent(), Program(SHELL, ("-c", "exit"))))
        assert "input-data" not in machine.requests[0][1]

    def test_may_be_disabled(self) -> None:
        with pytest.raises(CommandDisabledError):
            tasks.run(start(ThisMachine({("guest-exec", None): frozen}).agent(), Program(SHELL)))

    @pytest.mark.parametrize("value", [None, [], {}, {"pid": "1"}, {"pid": True}, {"pid": 1.5}])
    def test_has_a_number_or_the_agent_broke_the_rules(self, value: Any) -> None:
        machine = ThisMachine({("guest-exec", None): returning(lambda _value: value)})
        with pytest.raises(RemoteProtocolError):
            tasks.run(start(machine.agent(), Program(SHELL, ("-c", "exit"))))


class TestAnOutcome:
    def test_there_is_none_before_the_end(self) -> None:
        assert said({"exited": False}) is None

    def test_of_silence_is_empty(self) -> None:
        assert said({"exited": True, "exitcode": 0}) == Ended(0, None, b"", b"", False)

    @pytest.mark.parametrize("key", ["out-truncated", "err-truncated"])
    def test_that_is_truncated_says_so(self, key: str) -> None:
        ended = said({"exited": True, "exitcode": 0, "out-data": "", key: True})
        assert ended is not None
        assert ended.is_truncated

    def test_that_is_not_truncated_may_say_so_too(self) -> None:
        ended = said({"exited": True, "exitcode": 0, "out-truncated": False})
        assert ended is not None
        assert not ended.is_truncated

    def test_of_a_process_that_the_agent_does_not_know(self) -> None:
        with pytest.raises(UnknownProcessError, match="pid"):
            said(Refused("GenericError", "Invalid parameter 'pid'"))

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "exited",
            {},
            {"exited": 1},
            {"exited": True},
            {"exited": True, "exitcode": "0"},
            {"exited": True, "exitcode": True},
            {"exited": True, "signal": 9.5},
            {"exited": True, "exitcode": 0, "out-data": 1},
            {"exited": True, "exitcode": 0, "out-data": "&&&&"},
            {"exited": True, "exitcode": 0, "err-data": "YQ"},
            {"exited": True, "exitcode": 0, "err-data": "\u00e9==="},
        ],
    )
    def test_of_another_shape_breaks_the_rules(self, value: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            said(value)

    def test_may_hold_any_bytes(self) -> None:
        data = bytes(range(256))
        ended = said({"exited": True, "exitcode": 0, "out-data": base64.b64encode(data).decode()})
        assert ended is not None
        assert ended.output == data


class TestWaitingForAnEnd:
    @pytest.fixture
    def line(self, monkeypatch: pytest.MonkeyPatch) -> TimeLine:
        line = TimeLine()
        line.install(monkeypatch)
        return line

    def test_asks_soon_then_ever_more_seldom_and_never_too_seldom(self, line: TimeLine) -> None:
        agent = GuestAgent(canned({"exited": False}), 5.0)
        assert tasks.run(end_of(agent, 1, Deadline(60.0))) is None
        assert line.slept[0] <= 0.005
        assert line.slept[:-1] == sorted(line.slept[:-1])
        assert 0.5 < max(line.slept) <= 1.0
        # A second of a command costs a few dozen questions, a minute less than two hundred.
        assert len(line.slept) < 180

    def test_does_not_wait_much_longer_than_the_program_runs(self, line: TimeLine) -> None:
        begun = line.monotonic()

        def at_two_seconds(_perform: Any) -> Reply:
            return Returned({"exited": line.monotonic() - begun > 2.0, "exitcode": 0})

        agent = GuestAgent(ThisMachine({("guest-exec-status", None): at_two_seconds}), 5.0)
        assert tasks.run(end_of(agent, 1, Deadline(60.0))) is not None
        assert line.monotonic() - begun < 2.0 * 1.15

    def test_ends_at_the_deadline_with_a_last_question(self, line: TimeLine) -> None:
        machine = canned({"exited": False})
        begun = line.monotonic()
        assert tasks.run(end_of(GuestAgent(machine, 5.0), 1, Deadline(0.5))) is None
        assert line.monotonic() - begun == pytest.approx(0.5)
        assert machine.count("guest-exec-status") == len(line.slept)

    def test_leaves_each_question_what_is_left(self, line: TimeLine) -> None:
        machine = canned({"exited": False})
        tasks.run(end_of(GuestAgent(machine, 5.0), 1, Deadline(8.0)))
        assert max(machine.timeouts) == 5.0
        assert machine.timeouts == sorted(machine.timeouts, reverse=True)
        assert machine.timeouts[-1] == 1.0  # a fair one even at the end
        assert line.slept


class Lent(ThisMachine):
    """Says what becomes of it."""

    def __init__(self, line: TimeLine) -> None:
        super().__init__({("guest-exec-status", None): lambda _perform: Returned({"exited": False})})
        self.line = line
        self.lent = [line.monotonic()]
        self.regained: list[float] = []
        self.error: QgaError | None = None

    async def let_go(self, held: float = 0.0) -> None:
        if self.line.monotonic() - self.lent[-1] >= held:
            self.lent.append(self.line.monotonic())

    async def regain(self, timeout: float) -> None:
        if len(self.regained) < len(self.lent) - 1:
            self.regained.append(timeout)
            if self.error is not None:
                raise self.error


class TestAnAgentThatOthersNeedMeanwhile:
    @pytest.fixture
    def line(self, monkeypatch: pytest.MonkeyPatch) -> TimeLine:
        line = TimeLine()
        line.install(monkeypatch)
        return line

    def test_is_lent_every_second(self, line: TimeLine) -> None:
        lent = Lent(line)
        tasks.run(end_of(GuestAgent(lent, 5.0), 1, Deadline(60.0), patience=20.0))
        assert lent.lent[1] - lent.lent[0] >= 1.0  # a short program is looked after without
        assert max(behind - before for before, behind in itertools.pairwise(lent.lent)) <= 1.1
        assert len(lent.regained) == len(lent.lent) - 1

    def test_is_not_lent_if_that_is_not_wanted(self, line: TimeLine) -> None:
        lent = Lent(line)
        tasks.run(end_of(GuestAgent(lent, 5.0), 1, Deadline(60.0)))
        assert len(lent.lent) == 1

    def test_is_waited_for_as_long_as_there_is_patience_and_time(self, line: TimeLine) -> None:
        lent = Lent(line)
        tasks.run(end_of(GuestAgent(lent, 5.0), 1, Deadline(60.0), patience=20.0))
        assert max(lent.regained) == 20.0
        assert min(lent.regained) <= 1.0

    def test_may_not_come_back(self, line: TimeLine) -> None:
        lent = Lent(line)
        lent.error = UnresponsiveError("others have it")
        with pytest.raises(UnresponsiveError):
            tasks.run(end_of(GuestAgent(lent, 5.0), 1, Deadline(60.0), patience=20.0))

    def test_is_lent_before_a_question_is_asked_again(self, line: TimeLine) -> None:
        lent = Lent(line)
        lent.error = UnresponsiveError("others have it")
        tasks.run(Polling(GuestAgent(lent, 5.0), 20.0).retry(Deadline(60.0)))  # and that is no error
        assert len(lent.lent) == 2
        assert lent.regained == [20.0]

    def test_is_not_lent_in_short_pauses(self, line: TimeLine) -> None:
        lent = Lent(line)
        polling = Polling(GuestAgent(lent, 5.0), 20.0)
        for _time in range(20):
            tasks.run(polling.pause(Deadline(60.0)))
        assert len(lent.lent) == 1


def test_what_is_no_base64_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="a thing that is no base64"):
        programs.decoded(None, "a thing")
