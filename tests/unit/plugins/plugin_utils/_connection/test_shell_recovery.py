"""What becomes of a command whose reply, agent or guest is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    ExchangeTimeoutError,
    NotConnectedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    ResultLostError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished

from tests.fakes.this_machine import Fault, frozen, lost, refused, returning, undelivered
from tests.support.guest_shell import ASK, BRIEF, Faults, Made, Password, Place
from tests.support.until import until

pytestmark = pytest.mark.slow

EXEC, STATUS, OPEN, READ, CLOSE = (
    "guest-exec",
    "guest-exec-status",
    "guest-file-open",
    "guest-file-read",
    "guest-file-close",
)


def after(does: Callable[[], object]) -> Fault:
    """Something happens to the guest just before the agent carries out a request."""
    return lambda perform: (does(), perform())[1]


class TestAReplyThatGetsLost:
    @pytest.mark.parametrize(
        "faults",
        [
            pytest.param({(EXEC, 0): lost}, id="of the begin"),
            pytest.param({(STATUS, number): lost for number in range(3)}, id="of every end"),
            pytest.param({(STATUS, 0): undelivered}, id="with the agent away"),
            pytest.param({(STATUS, 0): returning(lambda _value: {"exited": 7})}, id="being nonsense"),
            pytest.param({(STATUS, 0): returning(lambda _value: {"exited": True, "exitcode": 0})}, id="being empty"),
            pytest.param(
                {(STATUS, 0): returning(lambda _value: {"exited": True, "exitcode": 0, "out-data": "b3V0Cg=="})},
                id="being another program's",
            ),
            pytest.param({(STATUS, 0): frozen, (STATUS, 1): frozen}, id="being a refusal"),
            *(pytest.param({(command, 0): lost}, id=f"of {command}") for command in (OPEN, READ, CLOSE)),
        ],
    )
    def test_does_not_lose_the_result_or_run_it_twice(self, place: Made, tmp_path: Path, faults: Faults) -> None:
        ended = place(faults).run(f"echo once >>{tmp_path}/log; sleep 0.1; echo out; echo err >&2; exit 5")
        assert ended == Finished(5, b"out\n", b"err\n")
        assert (tmp_path / "log").read_text() == "once\n"

    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            ({(OPEN, None): refused("too many open files")}, CommandFailedError, "too many open files"),
            ({(OPEN, None): undelivered}, NotConnectedError, "no guest agent"),
            ({(STATUS, None): undelivered}, NotConnectedError, "no guest agent"),
            ({(EXEC, 0): frozen}, CommandDisabledError, "disabled"),
        ],
        ids=["the output is refused", "away as it is read", "away", "nothing may be begun"],
    )
    def test_is_the_agents_error_in_the_end(
        self, place: Made, faults: Faults, error: type[QgaError], message: str
    ) -> None:
        at_once = place(faults, patience=BRIEF)
        with pytest.raises(error, match=message):
            at_once.run("echo out")
        asked = len(at_once.machine.requests)
        at_once.clean()
        # What is away is not waited for again.
        assert len(at_once.machine.requests) == asked or error is not NotConnectedError

    @pytest.mark.parametrize("faults", [{(EXEC, 0): lost}, {(OPEN, 0): lost}], ids=["of the begin", "later"])
    def test_while_a_password_is_waited_for_ends_the_command(self, place: Made, faults: Faults) -> None:
        at_once = place(faults)
        with pytest.raises(ExchangeTimeoutError):
            at_once.run(f"{ASK}; cat", b"input", Password())
        until(at_once.machine.is_idle, "the agent is still busy")

    def test_may_be_of_a_command_that_was_never_begun(self, place: Made, tmp_path: Path) -> None:
        def vanished(_perform: Callable[[], Reply]) -> Reply:
            raise ExchangeTimeoutError("the agent did not answer guest-exec in time")

        with pytest.raises(ExchangeTimeoutError, match="guest-exec in time"):
            place({(EXEC, 0): vanished}).run(f"echo >{tmp_path}/log")
        assert not (tmp_path / "log").exists()


class TestAnAgentThatIsStartedAnew:
    @pytest.mark.parametrize("fault", [(STATUS, 1), (READ, 0), (CLOSE, 0)], ids=lambda fault: fault[0])
    def test_and_leaves_the_command_alone_loses_nothing(self, place: Made, fault: tuple[str, int]) -> None:
        at_once = place()
        at_once.machine.faults[fault] = after(at_once.machine.forget)
        assert at_once.run("sleep 0.2; echo out; echo err >&2; exit 5") == Finished(5, b"out\n", b"err\n")

    def test_and_takes_the_command_with_it_is_reported_as_that(self, place: Made) -> None:
        at_once = place()

        def take_along() -> None:
            until(lambda: any(at_once.directory.glob("*/1.pid.*")), "the command was not begun")
            at_once.machine.end_all()

        at_once.machine.faults[(STATUS, 1)] = after(take_along)
        with pytest.raises(ResultLostError, match="together with the agent or the guest"):
            at_once.run("sleep 0.5; echo out")


def restore(place: Place) -> None:
    """Put the guest back to where the command was not begun."""
    place.machine.end_all()
    for path in place.directory.glob("*/1.*"):
        path.unlink()


def start_anew(place: Place) -> None:
    place.machine.forget()
    for path in place.kept():
        shutil.rmtree(path)


class TestAGuestThatIsNotTheSameAnyMore:
    @pytest.mark.parametrize(
        ("happens", "fault"),
        [(restore, (STATUS, 1)), (start_anew, (OPEN, 0)), (start_anew, (OPEN, 1))],
        ids=["while it runs", "with all that it wrote", "with what is left of that"],
    )
    def test_knows_nothing_of_the_command(
        self, place: Made, happens: Callable[[Place], None], fault: tuple[str, int]
    ) -> None:
        at_once = place()
        at_once.machine.faults[fault] = after(lambda: happens(at_once))
        with pytest.raises(ResultLostError, match="started anew or restored"):
            at_once.run("sleep 0.2; echo out; echo err >&2")
        assert at_once.run("echo out").output == b"out\n"

    def test_may_be_frozen_for_a_while(self, place: Made) -> None:
        at_once = place()

        def freeze(is_frozen: bool) -> None:
            at_once.machine.is_frozen = is_frozen

        at_once.machine.faults[(STATUS, 1)] = after(lambda: freeze(is_frozen=True))
        at_once.machine.faults[(EXEC, 2)] = lambda perform: (freeze(is_frozen=False), frozen(perform))[1]
        assert at_once.run("sleep 0.1; echo out").output == b"out\n"
