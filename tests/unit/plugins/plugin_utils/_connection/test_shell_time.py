"""Timeouts of commands and dialogs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as agent_errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import errors, scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished, Timings

from tests.fakes.this_machine import LIMITS, Fault, lost, refused, returning, undelivered
from tests.processes.state import is_gone
from tests.support.guest_shell import ASK, BRIEF, FOR_EVER, SLOW, STARTED, Faults, Made, Password, Place, slowly
from tests.support.until import until

pytestmark = pytest.mark.slow


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Path]:
    """A file for the ID of a process that must be gone at the end."""
    path = tmp_path / "child"
    yield path
    until(lambda: not path.exists() or is_gone(int(path.read_text())), "a process that the command started still runs")


class TestAnEndlessCommand:
    @pytest.mark.parametrize(
        "command",
        ["sh -c 'echo $$ >{}; exec sleep 1000' & wait", "trap '' TERM; echo $$ >{}; while :; do sleep 0.05; done"],
        ids=["with another", "that does not want to end"],
    )
    def test_is_killed_with_all_processes_that_it_started(self, place: Made, child: Path, command: str) -> None:
        at_once = place(exec_timeout=STARTED)
        with pytest.raises(errors.CommandTimeoutError, match=r"(?<![\d.])3 s"):
            at_once.run(command.format(child))
        assert child.exists()
        assert at_once.machine.known_processes == 0

    def test_is_killed_when_the_task_is_interrupted(self, place: Made, child: Path) -> None:
        def give_up(_perform: Callable[[], Reply]) -> Reply:
            until(child.exists, "the command started no process")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            place({("guest-exec-status", 0): give_up}).run(f"echo $$ >{child}.new; mv {child}.new {child}; sleep 1000")


def late(seconds: float, fault: Fault, times: int = 1000) -> Fault:
    """Make the reply exceed the timeout of an exchange so many times."""
    seen: list[str] = []

    def wait(perform: Callable[[], Reply]) -> Reply:
        if len(seen) < times:
            seen.append("once more")
            time.sleep(seconds)
        return fault(perform)

    return wait


def little(perform: Callable[[], Reply]) -> Reply:
    return returning(lambda value: {**value, "count": min(value["count"], 300)})(lambda: slowly(perform))


def endless(perform: Callable[[], Reply]) -> Reply:
    return returning(lambda _value: {"count": 1, "buf-b64": "eA==", "eof": False})(perform)


class TestTheTimeoutOfACommand:
    """It covers the whole command, whatever the guest does."""

    @pytest.fixture
    def place(self, place: Made) -> Made:
        return partial(place, timings=Timings(begin=1.0, grace=BRIEF))

    @pytest.mark.parametrize("numbers", [[None], range(0, 1000, 2)], ids=["for good", "now and then"])
    def test_is_not_extended_by_an_unavailable_agent(self, place: Made, child: Path, numbers: list[int | None]) -> None:
        away = {("guest-exec-status", number): lost for number in numbers}
        at_once = place(away, exec_timeout=BRIEF, patience=FOR_EVER)
        with pytest.raises(
            (errors.CommandTimeoutError, agent_errors.ExchangeTimeoutError, agent_errors.UnresponsiveError)
        ):
            at_once.run(f"echo $$ >{child}; exec sleep 1000")

    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            (
                {("guest-file-read", None): slowly},
                errors.CommandTimeoutError,
                "reading its output timed out after 3 s",
            ),
            ({("guest-file-open", None): undelivered}, agent_errors.NotConnectedError, "no guest agent"),
        ],
    )
    def test_is_not_extended_by_reading_output(
        self, place: Made, faults: Faults, error: type[Exception], message: str
    ) -> None:
        at_once = place(faults, exec_timeout=STARTED, patience=FOR_EVER, reply=300)
        with pytest.raises(error, match=message):
            at_once.run("head -c 60000 /dev/zero")
        assert at_once.machine.count("guest-file-read") <= (STARTED + BRIEF) / SLOW + 2
        assert at_once.machine.open_files == 0

    def test_is_not_extended_by_writing_input(self, place: Made) -> None:
        at_once = place({("guest-file-write", None): little}, exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError):
            at_once.run("cat", b"x" * 100_000)
        assert at_once.machine.count("guest-file-write") <= 1.0 / SLOW + 2

    @pytest.mark.parametrize(
        ("exec_timeout", "patience", "error"),
        [(BRIEF, FOR_EVER, errors.CommandTimeoutError), (FOR_EVER, BRIEF, agent_errors.UnresponsiveError)],
    )
    def test_covers_creating_the_directory(
        self,
        exec_timeout: float,
        patience: float,
        error: type[Exception],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(scripts, "PREPARE", "exec sleep 1000")
        limits = LIMITS._replace(exec_timeout=exec_timeout, patience=patience)
        place = Place(tmp_path, {}, limits, is_made=False)
        with pytest.raises(error):
            place.run("cat", b"x" * 100_000)
        until(place.machine.is_idle, "the script lives on")

    def test_allows_a_moment_to_read_the_output_of_a_command_that_ended_in_time(self, place: Made) -> None:
        once_late = late(STARTED, lambda perform: perform(), times=1)
        patient = place({("guest-file-open", None): once_late}, timings=Timings(grace=30.0), exec_timeout=STARTED)
        assert patient.run("echo out").output == b"out\n"


class TestTheTimeoutOfADialog:
    @pytest.mark.parametrize(
        ("faults", "seconds", "message"),
        [
            ({("guest-file-read", None): slowly}, STARTED, "after 3 s"),
            ({("guest-file-open", None): late(2 * BRIEF, lost)}, BRIEF, r"after 0\.3 s"),
        ],
        ids=["slow replies", "lost replies"],
    )
    def test_is_not_extended_by_the_guest(self, place: Made, faults: Faults, seconds: float, message: str) -> None:
        at_once = place(faults)
        at_once.machine.most_read = 300
        with pytest.raises(errors.BecomeError, match=message):
            at_once.run("head -c 10000 /dev/zero; sleep 1000", b"", Password(seconds))
        assert at_once.machine.count("guest-file-read") <= seconds / SLOW + 2
        until(at_once.machine.is_idle, "the command lives on")

    def test_is_limited_by_the_commands_timeout(self, place: Made) -> None:
        at_once = place(exec_timeout=STARTED)
        with pytest.raises(errors.CommandTimeoutError):
            at_once.run("sleep 1000", b"", Password(FOR_EVER))
        until(at_once.machine.is_idle, "the command lives on")

    @pytest.mark.parametrize(
        "faults",
        [
            {("guest-file-read", None): endless},
            {("guest-file-write", None): refused("failed: No space left on device")},
        ],
        ids=["what the guest sends", "what it does not take"],
    )
    def test_does_not_replace_other_limits(self, place: Made, faults: Faults) -> None:
        at_once = place(faults)
        with pytest.raises((agent_errors.CommandFailedError, errors.FileTransferError)):
            at_once.run(f"{ASK}; sleep 1000", b"", Password())
        until(at_once.machine.is_idle, "the command lives on")


class TestADialog:
    def test_sends_the_password_before_the_input_and_keeps_neither(self, place: Made) -> None:
        data, at_once = os.urandom(50000), place(reply=70000)
        ended = at_once.run(f"{ASK} && echo become && cat", data, Password())
        assert ended == Finished(0, b"become\n" + data, b"Password:")
        kept = [path for path in at_once.directory.rglob("*") if path.is_file()]
        assert kept
        assert not any(b"it's" in path.read_bytes() for path in kept)

    def test_sends_no_password_without_a_prompt(self, place: Made) -> None:
        assert place().run("echo become; cat", b"input\n", Password()).output == b"become\ninput\n"

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("echo not allowed >&2; exit 0", "succeeded: not allowed"),
            ("echo not allowed >&2; exit 1", "succeeded: not allowed"),
            (f"{ASK}; {ASK}; cat >{{}}/log", "asked twice"),
        ],
    )
    def test_that_fails_kills_the_command(self, place: Made, command: str, message: str) -> None:
        at_once = place()
        with pytest.raises(errors.BecomeError, match=message):
            at_once.run(command.replace("{}", str(at_once.directory)), b"secret", Password())
        assert at_once.machine.known_processes == 0
        assert not (at_once.directory / "log").exists()

    def test_does_not_allow_unlimited_output(self, place: Made) -> None:
        with pytest.raises(errors.OutputTooLongError):
            place().run("echo become; yes", b"", Password())
