"""What is made of replies that get lost on a command's way, and of agents and guests that are others by then."""

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
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    CommandTimeoutError,
    ResultLostError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished

from tests.fakes.this_machine import frozen, lost, refused, returning, undelivered
from tests.support.guest_shell import ASK, BRIEF, Faults, Made, Password
from tests.support.until import until

pytestmark = pytest.mark.slow


class TestAReplyThatGetsLost:
    @pytest.mark.parametrize(
        "faults",
        [
            pytest.param({("guest-exec", 0): lost}, id="of the begin"),
            pytest.param({("guest-exec-status", None): lost}, id="of every end"),
            pytest.param({("guest-exec-status", 0): undelivered}, id="with the agent away"),
            pytest.param({("guest-exec-status", 0): returning(lambda _value: {"exited": 7})}, id="being nonsense"),
            pytest.param(
                {("guest-exec-status", 0): returning(lambda _value: {"exited": True, "exitcode": 0})}, id="being empty"
            ),
            pytest.param({("guest-exec-status", 0): frozen, ("guest-exec-status", 1): frozen}, id="being a refusal"),
        ],
    )
    def test_does_not_lose_the_result_or_run_it_twice(self, place: Made, tmp_path: Path, faults: Faults) -> None:
        if ("guest-exec-status", None) in faults:
            faults = {("guest-exec-status", number): lost for number in range(3)}
        at_once = place(faults)
        ended = at_once.run(f"echo once >>{tmp_path}/log; sleep 0.1; echo out; echo err >&2; exit 5")
        assert ended == Finished(5, b"out\n", b"err\n")
        assert (tmp_path / "log").read_text() == "once\n"

    @pytest.mark.parametrize("command", ["guest-file-open", "guest-file-read", "guest-file-close"])
    def test_while_the_output_is_read_does_not_lose_it(self, place: Made, command: str) -> None:
        assert place({(command, 0): lost}).run("echo out").output == b"out\n"

    def test_while_the_output_is_read_is_not_a_refusal_to_read_it(self, place: Made) -> None:
        at_once = place({("guest-file-open", None): refused("too many open files")})
        with pytest.raises(CommandFailedError, match="too many open files"):
            at_once.run("echo out")

    def test_while_the_output_is_read_may_be_the_last(self, place: Made) -> None:
        with pytest.raises(NotConnectedError):
            place({("guest-file-open", None): undelivered}, patience=BRIEF).run("echo out")

    def test_of_a_begin_that_a_password_hangs_on_ends_the_command(self, place: Made) -> None:
        at_once = place({("guest-exec", 0): lost})
        with pytest.raises(ExchangeTimeoutError):
            at_once.run(f"{ASK}; cat", b"input", Password())
        until(at_once.machine.is_idle, "the agent is still busy")

    def test_of_much_output_does_not_lose_it(self, place: Made) -> None:
        assert len(place({("guest-exec-status", 0): lost}).run("sleep 0.1; head -c 50000 /dev/zero").output) == 50000

    def test_still_counts_on_the_time_limit(self, place: Made) -> None:
        with pytest.raises(CommandTimeoutError):
            place({("guest-exec-status", 0): lost}, exec_timeout=BRIEF).run("sleep 1000")

    def test_may_be_of_a_command_that_was_never_begun(self, place: Made, tmp_path: Path) -> None:
        def vanished(_perform: Callable[[], Reply]) -> Reply:
            raise ExchangeTimeoutError("the agent did not answer guest-exec in time")

        with pytest.raises(ExchangeTimeoutError, match="guest-exec in time"):
            place({("guest-exec", 0): vanished}).run(f"echo >{tmp_path}/log")
        assert not (tmp_path / "log").exists()

    def test_with_an_agent_that_stays_away_is_the_agents_trouble(self, place: Made) -> None:
        faults = {("guest-exec-status", None): undelivered}
        at_once = place(faults, patience=BRIEF)
        with pytest.raises(NotConnectedError):
            at_once.run("echo")
        asked = len(at_once.machine.requests)
        at_once.clean()
        assert len(at_once.machine.requests) == asked  # it would only wait again

    def test_is_no_refusal(self, place: Made) -> None:
        at_once = place({("guest-exec", 0): frozen})
        with pytest.raises(CommandDisabledError):
            at_once.run("echo")
        assert at_once.machine.count("guest-exec") == 1

    def test_while_a_password_is_waited_for_ends_the_command(self, place: Made) -> None:
        at_once = place({("guest-file-open", 0): lost})
        with pytest.raises(ExchangeTimeoutError):
            at_once.run(f"{ASK}; cat", b"input", Password())
        assert at_once.machine.known_processes == 0


class TestAnAgentThatIsStartedAnew:
    def test_and_leaves_the_command_alone_loses_nothing(self, place: Made) -> None:
        at_once = place()
        at_once.machine.faults[("guest-exec-status", 1)] = lambda perform: (at_once.machine.forget(), perform())[1]
        assert at_once.run("sleep 0.2; echo out; exit 5") == Finished(5, b"out\n", b"")

    @pytest.mark.parametrize("command", ["guest-file-read", "guest-file-close"])
    def test_while_the_output_is_read_loses_nothing(self, place: Made, command: str) -> None:
        at_once = place()
        at_once.machine.faults[(command, 0)] = lambda perform: (at_once.machine.forget(), perform())[1]
        assert at_once.run("echo out; echo err >&2; exit 5") == Finished(5, b"out\n", b"err\n")

    def test_and_takes_the_command_with_it_is_told_as_that(self, place: Made) -> None:
        at_once = place()

        def take_along(perform: Callable[[], Reply]) -> Reply:
            until(lambda: any(at_once.directory.glob("*/1.pid.*")), "the command was not begun")
            at_once.machine.end_all()
            return perform()

        at_once.machine.faults[("guest-exec-status", 1)] = take_along
        with pytest.raises(ResultLostError, match="together with the agent or the guest"):
            at_once.run("sleep 0.5; echo out")


class TestAGuestThatIsNotTheSameAnyMore:
    def test_knows_nothing_of_the_command(self, place: Made) -> None:
        at_once = place()

        def restore(perform: Callable[[], Reply]) -> Reply:
            at_once.machine.end_all()
            for path in at_once.directory.glob("*/1.*"):
                path.unlink()
            return perform()

        at_once.machine.faults[("guest-exec-status", 1)] = restore
        with pytest.raises(ResultLostError, match="started anew or restored"):
            at_once.run("sleep 0.5; echo out")

    @pytest.mark.parametrize("stream", [0, 1])
    def test_has_nothing_of_what_a_command_wrote_that_had_ended(self, place: Made, stream: int) -> None:
        at_once = place()

        def start_anew(perform: Callable[[], Reply]) -> Reply:
            at_once.machine.forget()
            for path in at_once.kept():
                shutil.rmtree(path)
            return perform()

        at_once.machine.faults[("guest-file-open", stream)] = start_anew
        with pytest.raises(ResultLostError, match="started anew or restored"):
            at_once.run("echo out; echo err >&2")
        assert at_once.run("echo out").output == b"out\n"

    def test_may_have_another_program_of_the_same_number(self, place: Made) -> None:
        other = returning(lambda _value: {"exited": True, "exitcode": 0, "out-data": "b3V0Cg=="})
        assert place({("guest-exec-status", 0): other}).run("sleep 0.2; echo mine").output == b"mine\n"

    def test_may_be_frozen_for_a_while(self, place: Made) -> None:
        at_once = place()

        def freeze(perform: Callable[[], Reply]) -> Reply:
            at_once.machine.is_frozen = True
            return perform()

        def thaw(_perform: Callable[[], Reply]) -> Reply:
            at_once.machine.is_frozen = False
            return frozen(_perform)

        at_once.machine.faults[("guest-exec-status", 1)] = freeze
        at_once.machine.faults[("guest-exec", 2)] = thaw
        assert at_once.run("sleep 0.1; echo out").output == b"out\n"
