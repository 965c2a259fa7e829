# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command's way through a shell of this machine, and what is made of replies that get lost on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    ExchangeTimeoutError,
    InvalidOptionError,
    NotConnectedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts, shell
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.become import Dialogue
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    BecomeError,
    CommandTimeoutError,
    FileTransferError,
    NoPlaceError,
    OutputTooLongError,
    ResultLostError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished, Limits
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.shell import GuestShell

from tests.support.processes import is_gone
from tests.support.this_machine import LIMITS, Fault, ThisMachine, frozen, lost, refused, returning, undelivered
from tests.support.until import until

pytestmark = pytest.mark.slow

Faults = Mapping[Any, Fault]
FOR_EVER = 100_000.0  # s
BRIEF = 0.3  # s; limits that are meant to be reached
BEGUN = 3.0  # s; such a limit, by which the command has begun however busy the machine is


class Place:
    """A shell whose only directory is the test's own, and which has made its place there already, or not."""

    def __init__(self, directory: Path, faults: Faults, limits: Limits, is_made: bool = True) -> None:
        self.directory = directory
        self.machine = ThisMachine()
        self.shell = GuestShell(self.machine.agent(), "/bin/sh", ("/nonesuch", str(directory)), LIMITS)
        if is_made:
            tasks.run(self.shell._prepare(tasks.NEVER))
        self.shell.limits = limits
        self.machine.requests.clear()
        self.machine.faults.update(faults)

    def run(self, command: str, data: bytes = b"", dialogue: Dialogue | None = None) -> Finished:
        return tasks.run(self.shell.run(command, data, dialogue))

    def clean(self) -> None:
        tasks.run(self.shell.clean())

    def kept(self) -> list[Path]:
        return list(self.directory.iterdir())


Made = Callable[..., Place]


@pytest.fixture(autouse=True)
def _begins_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_BEGIN_PATIENCE", 1.0)


@pytest.fixture(params=[False, True], ids=["at once", "prepared"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Made:
    def make(faults: Faults | None = None, **limits: Any) -> Place:
        return Place(tmp_path, faults or {}, LIMITS._replace(**limits), request.param)

    return make


class TestACommand:
    def test_is_run_with_its_input_and_tells_how_it_ended(self, place: Made) -> None:
        ended = place().run("cat; echo oops >&2; exit 3", b"in\0put")
        assert ended == Finished(3, b"in\0put", b"oops\n")

    @pytest.mark.parametrize("sizes", [(0, 0), (1, 0), (0, 1), (2048, 2048), (2049, 2048), (60000, 0), (7, 60000)])
    def test_may_write_little_and_much(self, place: Made, sizes: tuple[int, int]) -> None:
        ended = place().run("head -c {} /dev/zero; head -c {} /dev/zero >&2".format(*sizes))
        assert (len(ended.output), len(ended.errors)) == sizes

    def test_may_write_what_looks_like_a_report(self, place: Made) -> None:
        text = b"qga-report 0 1 done 7 0 0 kept\n"
        assert place().run("cat", text).output == text

    @pytest.mark.parametrize("size", [0, 1, LIMITS.request, 7 * LIMITS.request])
    def test_may_get_little_and_much(self, place: Made, size: int) -> None:
        data = os.urandom(size)
        assert place().run("cat", data).output == data

    def test_may_leave_its_input_unread(self, place: Made) -> None:
        assert place().run("exit 0", b"x" * 50000).status == 0

    def test_without_input_has_an_empty_one(self, place: Made) -> None:
        assert place().run("cat").output == b""

    @pytest.mark.parametrize("character", ["x", "\u4f60", "\U0001f600", '"'])
    def test_may_be_long(self, place: Made, character: str) -> None:
        at_once = place()
        for size in (100, 1000, 30000):
            assert at_once.run(f"# {character * size}\necho done").output == b"done\n"
        sizes = [len(json.dumps(arguments)) for _name, arguments in at_once.machine.requests]
        assert max(sizes) < LIMITS.request * 4 / 3 + 1000

    def test_may_be_longer_than_an_argument(self, place: Made) -> None:
        at_once = place(request=1024 * 1024)
        assert at_once.run("echo done\n# {}".format("x" * 200_000)).output == b"done\n"

    @pytest.mark.parametrize(
        "word", ["it's", "$HOME", "`id`", "a\nb", "\u00fc\u4f60", "\\", '"', "*", "\udcff caf\udce9", "\udc81\udc88"]
    )
    @pytest.mark.parametrize("length", [0, 30_000])
    def test_keeps_its_words(self, place: Made, word: str, length: int) -> None:
        quoted = word.replace("'", "'\\''")
        command = f"printf %s '{quoted}'" + f"\n# {'x' * length}" * bool(length)
        assert place().run(command).output == os.fsencode(word)

    def test_cannot_have_a_nul(self, place: Made) -> None:
        with pytest.raises(InvalidOptionError, match="NUL"):
            place().run("echo a\0b")

    @pytest.mark.parametrize("mask", [0o077, 0o027, 0])
    @pytest.mark.parametrize("size", [0, 30_000])
    @pytest.mark.parametrize("asks", [False, True])
    def test_makes_files_as_a_login_does_whatever_the_agents_umask(
        self, place: Made, tmp_path: Path, mask: int, size: int, asks: bool
    ) -> None:
        at_once = place()
        before = os.umask(mask)
        try:
            at_once.run(
                f"echo become; : >{tmp_path}/file; mkdir {tmp_path}/directory",
                b"x" * size,
                Password() if asks else None,
            )
        finally:
            os.umask(before)
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "directory")]
        assert modes == [0o644, 0o755]
        private = [*tmp_path.glob("qga-*"), *tmp_path.glob("qga-*/*")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o700, 0o600}

    def test_inherits_nothing_of_the_connections(self, place: Made) -> None:
        at_once = place()
        for size in (0, 30_000):
            environment = at_once.run(f"env; exit\n# {'x' * size}").output.decode()
            assert "qga" not in environment.lower()
            assert at_once.shell._token not in environment

    def test_begins_at_home_with_a_path_that_has_all_programs(self, place: Made) -> None:
        output = place().run('pwd; echo "$HOME"; echo "$PATH"; echo "$LANG"').output.decode().splitlines()
        home = os.path.expanduser(f"~{os.environ.get('USER', 'root')}")
        assert output[:2] == [home, home]
        assert {"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin"} <= set(output[2].split(":"))
        assert output[3] == "C"

    @pytest.mark.parametrize("name", ["it's", "with space", "\u4f60", "$HOME", "a;b"])
    def test_may_be_kept_in_a_directory_of_any_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir()
        shell = GuestShell(ThisMachine().agent(), "/bin/sh", (str(tmp_path / name),), LIMITS)
        assert tasks.run(shell.run("echo done")).output == b"done\n"
        tasks.run(shell.clean())
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_is_begun_and_told_of_in_few_exchanges(self, place: Made) -> None:
        at_once = place()
        at_once.run("exit", b"little")
        exchanges = [name for name, _arguments in at_once.machine.requests]
        assert exchanges[0] == "guest-exec"
        assert set(exchanges[1:]) == {"guest-exec-status"}
        at_once.machine.requests.clear()
        at_once.run("echo")
        exchanges = [name for name, _arguments in at_once.machine.requests]
        assert exchanges[-3:] == ["guest-file-open", "guest-file-read", "guest-file-close"]
        assert set(exchanges[1:-3]) == {"guest-exec-status"}

    @pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
    def test_that_a_signal_ended_has_an_epitaph(self, place: Made, name: str, number: int) -> None:
        ended = place().run(f"echo begun; kill -{name} $$")
        assert ended.status == 128 + number
        assert ended.output == b"begun\n"
        assert f"signal {number} (SIG{name})".encode() in ended.epitaph

    @pytest.mark.parametrize("status", [0, 1, 128, 129, 141, 200, 255])
    def test_that_ended_by_itself_has_none(self, place: Made, status: int) -> None:
        ended = place().run(f"exit {status}")
        assert (ended.status, ended.epitaph) == (status, b"")

    def test_by_a_shell_that_is_not_there_fails_as_such(self, tmp_path: Path) -> None:
        shell = GuestShell(ThisMachine().agent(), "/bin/nonesuch", (str(tmp_path),), LIMITS)
        ended = tasks.run(shell.run("echo"))
        assert ended.status == 127
        assert b"/bin/nonesuch" in ended.errors

    def test_has_commands_before_and_after_it(self, place: Made) -> None:
        one = place()
        assert [one.run(f"echo {number}").output for number in range(3)] == [b"0\n", b"1\n", b"2\n"]


class TestWhatIsKeptInTheGuest:
    def test_can_be_looked_into_by_its_user_only(self, place: Made) -> None:
        at_once = place()
        at_once.run("cat", b"x" * 50000)
        (directory,) = at_once.kept()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_takes_no_more_room_than_one_command_needs(self, place: Made) -> None:
        at_once = place()
        for _time in range(3):
            at_once.run("cat", b"x" * 50000)
        sizes = sorted(path.stat().st_size for path in at_once.directory.rglob("*") if path.is_file())
        assert sizes[-2:] == [0, 50000]

    def test_has_no_name_to_guess_without_mktemp_either(self, place: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RUN", "END"):
            script = getattr(scripts, name).replace("command -v mktemp", "command -v nonesuch")
            monkeypatch.setattr(scripts, name, script)
        never_begun = place({("guest-exec", 0): undelivered})
        before = never_begun.kept()
        with pytest.raises(NotConnectedError):
            never_begun.run("true")
        names = [path.name for path in never_begun.kept() if path not in before]
        assert all(re.fullmatch("qga-[0-9a-f]{32}", name) for name in names)
        assert bool(names) is not bool(before)

    def test_is_removed_behind_a_command_that_took_too_long(self, place: Made) -> None:
        at_once = place(exec_timeout=BRIEF)
        with pytest.raises(CommandTimeoutError):
            at_once.run("sleep 1000")
        at_once.clean()
        assert at_once.kept() == []

    def test_is_removed_at_the_end(self, place: Made) -> None:
        at_once = place()
        at_once.run("echo")
        assert at_once.kept()
        at_once.clean()
        assert at_once.kept() == []
        assert at_once.machine.known_processes == 0

    def test_is_trusted_only_as_long_as_it_is_the_one_that_was_made(self, place: Made) -> None:
        """It was removed, and another user has made one of its name, with all files in it whose names can be known."""
        at_once = place()
        at_once.run("true")
        (directory,) = at_once.kept()
        shutil.rmtree(directory)
        directory.mkdir(0o777)
        directory.chmod(0o777)
        for name in ("2.input", "2.command", "2.answer", "1.out", "2.begun", "2.done.0.kept"):
            (directory / name).touch()
        for data, dialogue in ((b"", None), (b"x" * 50_000, None), (b"", Password())):
            with pytest.raises((NoPlaceError, CommandFailedError)):
                at_once.run("echo become", data, dialogue)
        assert {path.stat().st_size for path in directory.iterdir()} == {0}
        assert len(list(directory.iterdir())) == 6

    def test_is_nothing_before_the_first_command(self, tmp_path: Path) -> None:
        machine = ThisMachine()
        tasks.run(GuestShell(machine.agent(), "/bin/sh", (str(tmp_path),), LIMITS).clean())
        assert machine.requests == []

    def test_is_nothing_if_no_command_may_be_begun(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-exec", None): frozen})
        shell = GuestShell(machine.agent(), "/bin/sh", (str(tmp_path),), LIMITS)
        with pytest.raises(QgaError):
            tasks.run(shell.run("echo"))
        asked = len(machine.requests)
        tasks.run(shell.clean())
        assert len(machine.requests) == asked

    def test_has_to_have_a_place(self) -> None:
        shell = GuestShell(ThisMachine().agent(), "/bin/sh", ("/none", "/nonesuch"), LIMITS)
        with pytest.raises(NoPlaceError, match="/nonesuch"):
            tasks.run(shell.run("echo"))

    @pytest.mark.parametrize("caches", [True, False])
    def test_is_compiled_code_of_modules_only_if_that_is_wanted(self, tmp_path: Path, caches: bool) -> None:
        shell = GuestShell(ThisMachine().agent(), "/bin/sh", (str(tmp_path),), LIMITS, caches)
        ended = tasks.run(shell.run(sys.executable, b"_ANSIBALLZ_WRAPPER = True\nprint('done')\n"))
        tasks.run(shell.clean())
        assert ended == Finished(0, b"done\n", b"")
        assert [path.name for path in tmp_path.iterdir()] == [f"qga-code-{os.geteuid()}"] * caches


class TestTooMuchOutput:
    @pytest.mark.parametrize("stream", [1, 2])
    def test_ends_the_command(self, place: Made, stream: int) -> None:
        with pytest.raises(OutputTooLongError, match="65536 bytes"):
            place().run(f"yes >&{stream}")

    def test_is_one_byte_more_than_the_limit(self, place: Made) -> None:
        assert len(place().run("head -c 65536 /dev/zero").output) == 65536
        with pytest.raises(OutputTooLongError):
            place().run("head -c 65537 /dev/zero")


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


SLOW = 0.05  # s


def slowly(perform: Callable[[], Reply]) -> Reply:
    time.sleep(SLOW)
    return perform()


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


class Password:
    """Says the password when it is asked for, once; over when the command says so."""

    def __init__(self, timeout: float = 30.0) -> None:
        self.timeout = timeout
        self.asked = 0

    def is_over(self, output: bytes) -> bool:
        return b"become" in output

    def answer(self, output: bytes, errors: bytes) -> bytes | None:
        if (output + errors).count(b"Password:") == self.asked:
            return None
        self.asked += 1
        if self.asked > 1:
            raise BecomeError("asked twice")
        return b"it's \\ s\xc3\xbc$t"


ASK = 'printf Password: >&2; IFS= read -r p; [ "$p" = "it\'s \\\\ s\u00fc\\$t" ]'


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


class TestAShellThatLooksAfterACommand:
    def test_may_be_ended_by_a_signal(self, place: Made) -> None:
        at_once = place()
        with pytest.raises(ResultLostError, match="signal 9"):
            at_once.run(f"for f in {at_once.directory}/*/1.runner.*; do kill -9 ${{f##*.}}; done")

    def test_may_be_ended_in_part(self, place: Made) -> None:
        with pytest.raises(ResultLostError, match="before it was done"):
            place().run("kill -9 $PPID")

    def test_may_find_its_directory_gone(self, place: Made) -> None:
        at_once = place()
        at_once.run("true")
        (directory,) = at_once.kept()
        shutil.rmtree(directory)
        with pytest.raises(NoPlaceError):
            at_once.run("echo")


class TestAReportInNoKnownWay:
    @pytest.mark.parametrize(
        "words",
        [
            "done",
            "done 0",
            "done 0 kept",
            "done 0 kept - -",
            "done 0 kept - - -",
            "done 0 kept - - 7",
            "done 0 kept - - -1",
            "done 0 kept - - 0 0",
            "done 0 whole - - 0",
            "done -1 kept - - 0",
            "done x kept - - 0",
            "done 0 kept ../out - 0",
            "done 99999 kept - - 0",
        ],
    )
    def test_is_no_success(self, place: Made, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "RUN", 'echo "qga-report $3 $2 ' + words + '"')
        with pytest.raises((RemoteProtocolError, ResultLostError, CommandFailedError)):
            place().run("echo")
