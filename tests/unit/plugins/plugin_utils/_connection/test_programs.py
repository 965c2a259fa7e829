from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as agent_errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.programs import (
    Ended,
    Polling,
    Program,
    UnknownProcessError,
    end_of,
    poll,
    start,
)

from tests.fakes.guest import TimeLine
from tests.fakes.this_machine import ThisMachine, returning

EXIT = Program("/bin/sh", ("-c", "exit"))


def canned(value: Any) -> ThisMachine:
    """A machine whose agent reports this for any process."""
    reply: Reply = value if isinstance(value, Refused) else Returned(value)
    return ThisMachine({("guest-exec-status", None): lambda _perform: reply})


def polled(value: Any) -> Ended | None:
    return tasks.run(poll(canned(value).agent(), 1))


class TestAProgram:
    @pytest.mark.parametrize("value", [None, [], {}, {"pid": "1"}, {"pid": True}, {"pid": 1.5}])
    def test_without_a_process_id_is_a_protocol_error(self, value: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            tasks.run(start(ThisMachine({("guest-exec", None): returning(lambda _value: value)}).agent(), EXIT))


ANY_BYTES = bytes(range(256))
DONE = {"exited": True, "exitcode": 0}


class TestAStatus:
    @pytest.mark.parametrize(
        ("value", "ended"),
        [
            ({"exited": False}, None),
            (DONE, Ended(0, None, b"", b"", False)),
            ({**DONE, "out-data": "", "out-truncated": True}, Ended(0, None, b"", b"", True)),
            ({**DONE, "err-truncated": True}, Ended(0, None, b"", b"", True)),
            ({**DONE, "out-truncated": False}, Ended(0, None, b"", b"", False)),
            ({**DONE, "out-data": base64.b64encode(ANY_BYTES).decode()}, Ended(0, None, ANY_BYTES, b"", False)),
        ],
        ids=["not yet", "silent", "truncated", "errors truncated", "not truncated", "any bytes"],
    )
    def test_is_parsed_from_the_agents_reply(self, value: Any, ended: Ended | None) -> None:
        assert polled(value) == ended

    def test_of_an_unknown_process_is_an_error(self) -> None:
        with pytest.raises(UnknownProcessError, match="pid"):
            polled(Refused("GenericError", "Invalid parameter 'pid'"))

    @pytest.mark.parametrize(
        "value",
        [
            *(None, "exited", {}, {"exited": 1}, {"exited": True}),
            *({**DONE, "exitcode": "0"}, {**DONE, "exitcode": True}, {"exited": True, "signal": 9.5}),
            *({**DONE, "out-data": 1}, {**DONE, "out-data": "&&&&"}),
            *({**DONE, "err-data": "YQ"}, {**DONE, "err-data": "\u00e9==="}),
        ],
    )
    def test_of_another_shape_is_a_protocol_error(self, value: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            polled(value)

    def test_with_invalid_base64_names_the_stream(self) -> None:
        with pytest.raises(RemoteProtocolError, match="returned errors that is not base64"):
            polled({**DONE, "err-data": "YQ"})


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> TimeLine:
    line = TimeLine()
    line.install(monkeypatch)
    return line


class TestWaitingForAnEnd:
    def test_polls_less_often_over_time_but_at_least_once_a_second(self, line: TimeLine) -> None:
        agent = GuestAgent(canned({"exited": False}), 5.0)
        assert tasks.run(end_of(agent, 1, Deadline(60.0))) is None
        assert line.slept[0] <= 0.005
        assert line.slept[:-1] == sorted(line.slept[:-1])
        assert 0.5 < max(line.slept) <= 1.0
        # A command of one second takes a few dozen polls, one of a minute less than two hundred.
        assert len(line.slept) < 180

    def test_ends_soon_after_the_program_does(self, line: TimeLine) -> None:
        begun = line.monotonic()

        def at_two_seconds(_perform: Any) -> Reply:
            return Returned({"exited": line.monotonic() - begun > 2.0, "exitcode": 0})

        agent = GuestAgent(ThisMachine({("guest-exec-status", None): at_two_seconds}), 5.0)
        assert tasks.run(end_of(agent, 1, Deadline(60.0))) is not None
        assert line.monotonic() - begun < 2.0 * 1.15

    def test_ends_at_the_deadline_with_a_last_poll(self, line: TimeLine) -> None:
        machine, begun = canned({"exited": False}), line.monotonic()
        assert tasks.run(end_of(GuestAgent(machine, 5.0), 1, Deadline(8.0))) is None
        assert line.monotonic() - begun == pytest.approx(8.0)
        assert machine.count("guest-exec-status") == len(line.slept)
        # Each poll gets the remaining time, and enough time even at the end.
        assert (machine.timeouts[0], machine.timeouts[-1]) == (5.0, 1.0)
        assert machine.timeouts == sorted(machine.timeouts, reverse=True)


class SharedMachine(ThisMachine):
    """Records when it is released for others, and the timeout for regaining it."""

    def __init__(self, line: TimeLine, error: QgaError | None = None) -> None:
        super().__init__({("guest-exec-status", None): lambda _perform: Returned({"exited": False})})
        self.line = line
        self.released = [line.monotonic()]
        self.regained: list[float] = []
        self.error = error

    async def let_go(self, held: float = 0.0) -> None:
        if self.line.monotonic() - self.released[-1] >= held:
            self.released.append(self.line.monotonic())

    async def regain(self, timeout: float) -> None:
        if len(self.regained) < len(self.released) - 1:
            self.regained.append(timeout)
            if self.error is not None:
                raise self.error


class TestASharedAgent:
    def test_is_released_every_second_and_waited_for(self, line: TimeLine) -> None:
        machine = SharedMachine(line)
        tasks.run(end_of(GuestAgent(machine, 5.0), 1, Deadline(60.0), patience=20.0))
        assert machine.released[1] - machine.released[0] >= 1.0  # not released for a short program
        assert max(after - before for before, after in itertools.pairwise(machine.released)) <= 1.1
        assert len(machine.regained) == len(machine.released) - 1
        # Within its patience and the deadline.
        assert max(machine.regained) == 20.0
        assert min(machine.regained) <= 1.0

    def test_is_released_before_a_request_is_repeated(self, line: TimeLine) -> None:
        machine = SharedMachine(line, agent_errors.UnresponsiveError("another client has it"))
        tasks.run(Polling(GuestAgent(machine, 5.0), 20.0).retry(Deadline(60.0)))
        assert (len(machine.released), machine.regained) == (2, [20.0])
