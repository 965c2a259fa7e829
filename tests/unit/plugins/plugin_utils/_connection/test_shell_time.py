"""Commands that never end, the time for a command, and dialogues."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandFailedError,
    ExchangeTimeoutError,
    NotConnectedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts, shell
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    BecomeError,
    CommandTimeoutError,
    FileTransferError,
    OutputTooLongError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished

from tests.fakes.this_machine import LIMITS, Fault, lost, refused, returning, undelivered
from tests.processes.state import is_gone
from tests.support.guest_shell import ASK, BEGUN, BRIEF, FOR_EVER, SLOW, Made, Password, Place, slowly
from tests.support.until import until

pytestmark = pytest.mark.slow


class TestACommandThatNeverEnds:
    def test_is_ended_with_all_that_it_began(self, place: Made, tmp_path: Path) -> None:
        at_once = place(exec_timeout=BEGUN)
        with pytest.raises(CommandTimeoutError, match=r"(?<![\d.])3 s"):
            at_once.run(f"sh -c 'echo $$ >{tmp_path}/child; exec sleep 1000' & wait")
        child = int((tmp_path / "child").read_text())
        until(lambda: is_gone(child), "what the command has begun lives on")
        assert at_once.machine.known_processes == 0

    def test_is_ended_even_if_it_does_not_want_to(self, place: Made, tmp_path: Path) -> None:
        with pytest.raises(CommandTimeoutError):
            place(exec_timeout=BEGUN).run(f"trap '' TERM; echo $$ >{tmp_path}/child; while :; do sleep 0.05; done")
        until(lambda: is_gone(int((tmp_path / "child").read_text())), "what the command has begun lives on")

    def test_is_ended_when_the_task_is_given_up(self, place: Made, tmp_path: Path) -> None:
        def give_up(_perform: Callable[[], Reply]) -> Reply:
            until((tmp_path / "child").exists, "the command has begun no other")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            place({("guest-exec-status", 0): give_up}).run(
                f"echo $$ >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/child; exec sleep 1000"
            )
        until(lambda: is_gone(int((tmp_path / "child").read_text())), "what the command has begun lives on")


def late(seconds: float) -> Fault:
    """It is done, and the reply takes longer than an exchange may."""

    def fault(perform: Callable[[], Reply]) -> Reply:
        time.sleep(seconds)
        return lost(perform)

    return fault


def _runs(file: Path) -> bool:
    """Whether the process whose number is in the file runs; without the file, none does."""
    return file.exists() and not is_gone(int(file.read_text()))


class TestTheTimeForACommand:
    """It is for all of it, whatever the guest does meanwhile."""

    @pytest.fixture(autouse=True)
    def _graceless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shell, "_GRACE", BRIEF)

    def test_is_not_stretched_by_an_agent_that_is_away(self, place: Made, tmp_path: Path) -> None:
        at_once = place({("guest-exec-status", None): lost}, exec_timeout=BRIEF, patience=FOR_EVER)
        with pytest.raises((ExchangeTimeoutError, UnresponsiveError)):
            at_once.run(f"echo $$ >{tmp_path}/process; exec sleep 1000")
        until(lambda: not _runs(tmp_path / "process"), "the command runs on")

    def test_is_not_stretched_by_one_that_comes_and_goes(self, place: Made, tmp_path: Path) -> None:
        away = {("guest-exec-status", number): lost for number in range(0, 1000, 2)}
        at_once = place(away, exec_timeout=BRIEF, patience=FOR_EVER)
        with pytest.raises((CommandTimeoutError, ExchangeTimeoutError, UnresponsiveError)):
            at_once.run(f"echo $$ >{tmp_path}/process; exec sleep 1000")
        until(lambda: not _runs(tmp_path / "process"), "the command runs on")

    def test_is_not_stretched_by_what_it_wrote(self, place: Made) -> None:
        at_once = place({("guest-file-read", None): slowly}, exec_timeout=BEGUN, reply=300)
        with pytest.raises(CommandTimeoutError, match="ended, but its output was not read within 3 s"):
            at_once.run("head -c 60000 /dev/zero")
        assert at_once.machine.count("guest-file-read") <= (BEGUN + BRIEF) / SLOW + 2
        assert at_once.machine.open_files == 0

    def test_is_not_stretched_by_an_agent_that_refuses_what_it_wrote(self, place: Made) -> None:
        at_once = place({("guest-file-open", None): undelivered}, exec_timeout=BEGUN, patience=FOR_EVER)
        with pytest.raises(NotConnectedError):
            at_once.run("echo out")

    def test_is_not_stretched_by_what_it_is_given(self, place: Made) -> None:
        little = returning(lambda value: {**value, "count": min(value["count"], 300)})
        at_once = place({("guest-file-write", None): lambda perform: little(lambda: slowly(perform))}, exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError):
            at_once.run("cat", b"x" * 100_000)
        assert at_once.machine.count("guest-file-write") <= 1.0 / SLOW + 2

    @pytest.mark.parametrize(
        ("exec_timeout", "patience", "error"),
        [(BRIEF, FOR_EVER, CommandTimeoutError), (FOR_EVER, BRIEF, UnresponsiveError)],
    )
    def test_is_for_the_directory_as_well(
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

    def test_leaves_what_ended_in_time_a_moment(self, place: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shell, "_GRACE", 30.0)
        at_once = place({("guest-file-open", None): late_open(BEGUN)}, exec_timeout=BEGUN)
        assert at_once.run("echo out").output == b"out\n"

    def test_of_a_dialogue_is_not_stretched_by_what_is_heard(self, place: Made) -> None:
        at_once = place({("guest-file-read", None): slowly})
        at_once.machine.most_read = 300
        with pytest.raises(BecomeError, match=r"within 3 s"):
            at_once.run("head -c 10000 /dev/zero; sleep 1000", b"", Password(BEGUN))
        assert at_once.machine.count("guest-file-read") <= BEGUN / SLOW + 2
        until(at_once.machine.is_idle, "the command lives on")

    def test_of_a_dialogue_is_not_stretched_by_replies_that_do_not_come(self, place: Made) -> None:
        at_once = place({("guest-file-open", None): late(2 * BRIEF)})
        with pytest.raises(BecomeError, match=r"within 0\.3 s"):
            at_once.run("sleep 1000", b"", Password(BRIEF))
        until(at_once.machine.is_idle, "the command lives on")

    def test_of_a_dialogue_is_a_part_of_the_whole(self, place: Made) -> None:
        at_once = place(exec_timeout=BEGUN)
        with pytest.raises(CommandTimeoutError):
            at_once.run("sleep 1000", b"", Password(FOR_EVER))
        until(at_once.machine.is_idle, "the command lives on")

    @pytest.mark.parametrize("command", ["guest-file-read", "guest-file-write"])
    def test_is_not_the_only_limit_of_a_dialogue(self, place: Made, command: str) -> None:
        refusal = refused("failed: No space left on device")
        at_once = place({(command, None): refusal if command == "guest-file-write" else endless})
        with pytest.raises((CommandFailedError, FileTransferError)):
            at_once.run(f"{ASK}; sleep 1000", b"", Password())
        until(at_once.machine.is_idle, "the command lives on")


def late_open(seconds: float) -> Fault:
    """The first file of all is opened late."""
    seen: list[str] = []

    def fault(perform: Callable[[], Reply]) -> Reply:
        if not seen:
            seen.append("once")
            time.sleep(seconds)
        return perform()

    return fault


def endless(perform: Callable[[], Reply]) -> Reply:
    return returning(lambda _value: {"count": 1, "buf-b64": "eA==", "eof": False})(perform)


class TestADialogue:
    def test_gives_the_password_first_and_the_input_behind_it(self, place: Made) -> None:
        data = os.urandom(50000)
        ended = place(reply=70000).run(f"{ASK} && echo become && cat", data, Password())
        assert ended == Finished(0, b"become\n" + data, b"Password:")

    def test_gives_no_password_that_is_not_asked_for(self, place: Made) -> None:
        ended = place().run("echo become; cat", b"input\n", Password())
        assert ended.output == b"become\ninput\n"

    @pytest.mark.parametrize("status", [0, 1])
    def test_of_a_command_that_ends_before_is_no_success(self, place: Made, status: int) -> None:
        at_once = place()
        with pytest.raises(BecomeError, match="said: not allowed"):
            at_once.run(f"echo not allowed >&2; exit {status}", b"input", Password())
        assert at_once.machine.known_processes == 0

    def test_may_fail_and_ends_the_command(self, place: Made) -> None:
        at_once = place()
        with pytest.raises(BecomeError, match="asked twice"):
            at_once.run(f"{ASK}; {ASK}; cat >{at_once.directory}/log", b"secret", Password())
        assert at_once.machine.known_processes == 0
        assert not (at_once.directory / "log").exists()

    def test_may_lead_nowhere(self, place: Made) -> None:
        with pytest.raises(BecomeError, match=r"within 0\.3 s"):
            place().run("sleep 1000", b"", Password(BRIEF))

    def test_is_no_reason_to_write_without_end(self, place: Made) -> None:
        with pytest.raises(OutputTooLongError):
            place().run("echo become; yes", b"", Password())

    def test_leaves_no_password_behind(self, place: Made) -> None:
        at_once = place()
        at_once.run(f"{ASK} && echo become", b"", Password())
        kept = [path for path in at_once.directory.rglob("*") if path.is_file()]
        assert kept
        assert not any("it's" in path.read_text() for path in kept)
