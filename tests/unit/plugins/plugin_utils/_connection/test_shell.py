from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as agent_errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import errors, scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished, Timings
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.shell import GuestShell

from tests.fakes.this_machine import LIMITS, Fault, ThisMachine, frozen, lost, refused, returning, undelivered
from tests.support.guest_shell import ASK, BRIEF, Faults, Made, Password, Place, settings_for
from tests.support.until import until

pytestmark = pytest.mark.slow


def shell_in(*places: object, executable: str = "/bin/sh", caches: bool = False) -> GuestShell:
    return GuestShell(ThisMachine().agent(), settings_for(*places, executable=executable, module_cache=caches))


class TestACommand:
    @pytest.mark.parametrize(
        ("size", "status"), [(0, 3), (1, 0), (LIMITS.request, 0), (7 * LIMITS.request, 255)], ids=str
    )
    def test_gets_its_input_and_returns_its_output_and_exit_status(self, place: Made, size: int, status: int) -> None:
        data = os.urandom(size)
        ended = place().run(f"cat; echo oops >&2; exit {status}", data)
        assert ended == Finished(status, data, b"oops\n")
        assert ended.signal_note == b""

    @pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
    def test_that_a_signal_killed_has_a_note(self, place: Made, name: str, number: int) -> None:
        ended = place().run(f"echo begun; kill -{name} $$")
        assert (ended.status, ended.output) == (128 + number, b"begun\n")
        assert f"signal {number} (SIG{name})".encode() in ended.signal_note

    @pytest.mark.parametrize("status", [128, 129, 141, 200])
    def test_that_exited_normally_has_no_note(self, status: int) -> None:
        assert Finished(status, b"", b"").signal_note == b""

    @pytest.mark.parametrize("sizes", [(0, 0), (1, 0), (0, 1), (2048, 2048), (2049, 2048), (65536, 0), (7, 60000)])
    def test_can_have_little_or_much_output(self, place: Made, sizes: tuple[int, int]) -> None:
        ended = place().run("head -c {} /dev/zero; head -c {} /dev/zero >&2".format(*sizes))
        assert (len(ended.output), len(ended.errors)) == sizes

    @pytest.mark.parametrize("command", ["yes", "yes >&2", "head -c 65537 /dev/zero"])
    def test_may_not_write_more_than_the_limit(self, place: Made, command: str) -> None:
        with pytest.raises(errors.OutputTooLongError, match="65536 bytes"):
            place().run(command)

    def test_may_leave_its_input_unread(self, place: Made) -> None:
        assert place().run("exit 0", b"x" * 50000).status == 0

    @pytest.mark.parametrize("character", ["x", "\u4f60", "\U0001f600", '"'])
    def test_may_be_long(self, place: Made, character: str) -> None:
        at_once = place()
        for size in (100, 1000, 30000):
            assert at_once.run(f"# {character * size}\necho done").output == b"done\n"
        sizes = [len(json.dumps(arguments)) for _name, arguments in at_once.machine.requests]
        assert max(sizes) < LIMITS.request * 4 / 3 + 1000

    @pytest.mark.parametrize("wrapped", ["{}", "/bin/sh -c {}"])
    def test_may_be_longer_than_an_argument(self, place: Made, wrapped: str) -> None:
        script = 'echo "done it\'s"\n# {}\n'.format("x" * 200_000)
        command = wrapped.format(shlex.quote(script + "true && sleep 0") if "-c" in wrapped else script)
        assert place(request=1024 * 1024).run(command).output == b"done it's\n"

    @pytest.mark.parametrize(
        "word", ["it's", "$HOME", "`id`", "a\nb", "\u00fc\u4f60", "\\", '"', "*", "\udcff caf\udce9", "\udc81\udc88"]
    )
    @pytest.mark.parametrize("length", [0, 30_000])
    def test_keeps_special_characters(self, place: Made, word: str, length: int) -> None:
        quoted = word.replace("'", "'\\''")
        command = f"printf %s '{quoted}'" + f"\n# {'x' * length}" * bool(length)
        assert place().run(command).output == os.fsencode(word)

    def test_cannot_have_a_nul(self, place: Made) -> None:
        with pytest.raises(agent_errors.InvalidOptionError, match="NUL"):
            place().run("echo a\0b")

    @pytest.mark.parametrize("mask", [0o077, 0o027, 0])
    @pytest.mark.parametrize("size", [0, 30_000])
    @pytest.mark.parametrize("asks", [False, True])
    def test_creates_files_with_the_modes_of_a_login_session(
        self, place: Made, tmp_path: Path, mask: int, size: int, asks: bool
    ) -> None:
        at_once, command = place(), f"echo become; : >{tmp_path}/file; mkdir {tmp_path}/directory"
        before = os.umask(mask)
        try:
            at_once.run(command, b"x" * size, Password() if asks else None)
        finally:
            os.umask(before)
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "directory")]
        assert modes == [0o644, 0o755]
        private = [*tmp_path.glob("qga-*"), *tmp_path.glob("qga-*/*")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o700, 0o600}

    @pytest.mark.parametrize("size", [0, 30_000])
    def test_inherits_no_variables_of_the_connection(self, place: Made, size: int) -> None:
        at_once = place()
        environment = at_once.run(f"env; exit\n# {'x' * size}").output.decode()
        assert "qga" not in environment.lower()
        assert at_once.shell._token not in environment

    def test_starts_in_home_with_a_complete_path(self, place: Made) -> None:
        directory, path = place().run('pwd; echo "$PATH"').output.decode().splitlines()
        assert directory == os.path.expanduser(f"~{os.environ.get('USER', 'root')}")
        assert {"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin"} <= set(path.split(":"))

    @pytest.mark.parametrize("name", ["it's", "with space", "\u4f60", "$HOME", "a;b"])
    def test_works_in_a_directory_with_any_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir()
        here = shell_in(tmp_path / name)
        assert tasks.run(here.run("echo done")).output == b"done\n"
        tasks.run(here.clean())
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_with_a_missing_shell_fails(self, tmp_path: Path) -> None:
        ended = tasks.run(shell_in(tmp_path, executable="/bin/nonesuch").run("echo"))
        assert ended.status == 127
        assert b"/bin/nonesuch" in ended.errors


class TestFilesInTheGuest:
    def test_take_no_more_space_than_one_command_needs(self, place: Made) -> None:
        at_once = place()
        for _time in range(3):
            at_once.run("cat", b"x" * 50000)
        sizes = sorted(path.stat().st_size for path in at_once.directory.rglob("*") if path.is_file())
        assert sizes[-2:] == [0, 50000]

    def test_have_unguessable_names_without_mktemp(self, place: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RUN", "END"):
            script = getattr(scripts, name).replace("command -v mktemp", "command -v nonesuch")
            monkeypatch.setattr(scripts, name, script)
        never_begun = place({("guest-exec", 0): undelivered})
        before = never_begun.kept()
        with pytest.raises(agent_errors.NotConnectedError):
            never_begun.run("true")
        names = [path.name for path in never_begun.kept() if path not in before]
        assert all(re.fullmatch("qga-[0-9a-f]{32}", name) for name in names)
        assert bool(names) is not bool(before)

    def test_are_removed_after_a_command_that_timed_out(self, place: Made) -> None:
        at_once = place(exec_timeout=BRIEF)
        with pytest.raises(errors.CommandTimeoutError):
            at_once.run("sleep 1000")
        at_once.clean()
        assert at_once.kept() == []

    def test_are_removed_at_the_end(self, place: Made) -> None:
        at_once = place()
        at_once.run("echo")
        assert at_once.kept()
        at_once.clean()
        assert (at_once.kept(), at_once.machine.known_processes) == ([], 0)

    def test_are_trusted_only_in_the_original_directory(self, place: Made) -> None:
        """It was removed, and another user has made one with its name and all guessable files."""
        at_once = place()
        at_once.run("true")
        (directory,) = at_once.kept()
        shutil.rmtree(directory)
        with pytest.raises(errors.NoPlaceError):
            at_once.run("echo")
        directory.mkdir(0o777)
        directory.chmod(0o777)
        for name in ("3.input", "3.command", "3.answer", "1.out", "3.begun", "3.done.0.kept"):
            (directory / name).touch()
        for data, dialog in ((b"", None), (b"x" * 50_000, None), (b"", Password())):
            with pytest.raises((errors.NoPlaceError, agent_errors.CommandFailedError)):
                at_once.run("echo become", data, dialog)
        assert {path.stat().st_size for path in directory.iterdir()} == {0}
        assert len(list(directory.iterdir())) == 6

    def test_are_not_created_before_a_command(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-exec", None): frozen})
        here = GuestShell(machine.agent(), settings_for(tmp_path))
        tasks.run(here.clean())
        assert machine.requests == []
        with pytest.raises(QgaError):
            tasks.run(here.run("echo"))
        asked = len(machine.requests)
        tasks.run(here.clean())
        assert len(machine.requests) == asked

    def test_need_a_usable_directory(self) -> None:
        with pytest.raises(errors.NoPlaceError, match="/nonesuch"):
            tasks.run(shell_in("/none", "/nonesuch").run("echo"))

    @pytest.mark.parametrize("caches", [True, False])
    def test_include_compiled_code_only_with_module_cache(self, tmp_path: Path, caches: bool) -> None:
        here = shell_in(tmp_path, caches=caches)
        ended = tasks.run(here.run(sys.executable, b"_ANSIBALLZ_WRAPPER = True\nprint('done')\n"))
        tasks.run(here.clean())
        assert ended == Finished(0, b"done\n", b"")
        assert [path.name for path in tmp_path.iterdir()] == [f"qga-code-{os.geteuid()}"] * caches


class TestTheSupervisingShell:
    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("for f in {}/*/1.runner.*; do kill -9 ${{f##*.}}; done", "signal 9"),
            ("kill -9 $PPID", "before it was done"),
        ],
        ids=["all", "in part"],
    )
    def test_killed_by_a_signal_loses_the_result(self, place: Made, command: str, message: str) -> None:
        at_once = place()
        with pytest.raises(errors.ResultLostError, match=message):
            at_once.run(command.format(at_once.directory))

    @pytest.mark.parametrize(
        "words",
        [
            *("", "0", "0 kept", "0 kept - - qga-x", "0 kept - - - qga-x", "0 kept - - 7 qga-x"),
            *("0 kept - - -1 qga-x", "0 kept - - 0 0", "0 whole - - 0 qga-x", "-1 kept - - 0 qga-x"),
            *("x kept - - 0 qga-x", "0 kept ../out - 0 qga-x", "99999 kept - - 0 qga-x", "0 kept - - 0 qga-x/.."),
        ],
    )
    def test_with_an_invalid_report_is_an_error(self, place: Made, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "RUN", f'{scripts.source("common.sh")}echo "qga-report $t $n done {words}"')
        with pytest.raises((RemoteProtocolError, errors.ResultLostError, agent_errors.CommandFailedError)):
            place(timings=Timings(begin=0.1)).run("echo")


EXEC, STATUS, OPEN, READ, CLOSE = (
    "guest-exec",
    "guest-exec-status",
    "guest-file-open",
    "guest-file-read",
    "guest-file-close",
)


def after(does: Callable[[], object]) -> Fault:
    """Do something in the guest just before the agent executes a request."""
    return lambda perform: (does(), perform())[1]


class TestALostReply:
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
    def test_neither_loses_the_result_nor_runs_the_command_twice(
        self, place: Made, tmp_path: Path, faults: Faults
    ) -> None:
        ended = place(faults).run(f"echo once >>{tmp_path}/log; sleep 0.1; echo out; echo err >&2; exit 5")
        assert ended == Finished(5, b"out\n", b"err\n")
        assert (tmp_path / "log").read_text() == "once\n"

    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            ({(OPEN, None): refused("too many open files")}, agent_errors.CommandFailedError, "too many open files"),
            ({(OPEN, None): undelivered}, agent_errors.NotConnectedError, "no guest agent"),
            ({(STATUS, None): undelivered}, agent_errors.NotConnectedError, "no guest agent"),
            ({(EXEC, 0): frozen}, agent_errors.CommandDisabledError, "disabled"),
        ],
        ids=["the output is refused", "away while output is read", "away", "guest-exec is refused"],
    )
    def test_finally_raises_the_agents_error(
        self, place: Made, faults: Faults, error: type[QgaError], message: str
    ) -> None:
        at_once = place(faults, patience=BRIEF)
        with pytest.raises(error, match=message):
            at_once.run("echo out")
        asked = len(at_once.machine.requests)
        at_once.clean()
        # The shell does not wait for an unavailable agent again.
        assert len(at_once.machine.requests) == asked or error is not agent_errors.NotConnectedError

    @pytest.mark.parametrize("faults", [{(EXEC, 0): lost}, {(OPEN, 0): lost}], ids=["of the begin", "later"])
    def test_during_a_dialog_kills_the_command(self, place: Made, faults: Faults) -> None:
        at_once = place(faults)
        with pytest.raises(agent_errors.ExchangeTimeoutError):
            at_once.run(f"{ASK}; cat", b"input", Password())
        until(at_once.machine.is_idle, "the agent is still busy")

    def test_to_a_command_that_never_started_is_an_error(self, place: Made, tmp_path: Path) -> None:
        def vanished(_perform: Callable[[], Reply]) -> Reply:
            raise agent_errors.ExchangeTimeoutError("the agent did not answer guest-exec in time")

        with pytest.raises(agent_errors.ExchangeTimeoutError, match="guest-exec in time"):
            place({(EXEC, 0): vanished}).run(f"echo >{tmp_path}/log")
        assert not (tmp_path / "log").exists()


class TestARestartedAgent:
    @pytest.mark.parametrize("fault", [(STATUS, 1), (READ, 0), (CLOSE, 0)], ids=lambda fault: fault[0])
    def test_loses_no_result_if_the_command_survives(self, place: Made, fault: tuple[str, int]) -> None:
        at_once = place()
        at_once.machine.faults[fault] = after(at_once.machine.forget)
        assert at_once.run("sleep 0.2; echo out; echo err >&2; exit 5") == Finished(5, b"out\n", b"err\n")

    def test_that_killed_the_command_is_an_error(self, place: Made) -> None:
        at_once = place()

        def restart_and_kill() -> None:
            until(lambda: any(at_once.directory.glob("*/1.pid.*")), "the command did not start")
            at_once.machine.end_all()

        at_once.machine.faults[(STATUS, 1)] = after(restart_and_kill)
        with pytest.raises(errors.ResultLostError, match="when its agent stopped or the guest went down"):
            at_once.run("sleep 0.5; echo out")


def restore(place: Place) -> None:
    """Restore the guest to a state before the command was started."""
    place.machine.end_all()
    for path in place.directory.glob("*/1.*"):
        path.unlink()


def reboot(place: Place) -> None:
    place.machine.forget()
    for path in place.kept():
        shutil.rmtree(path)


class TestARebootedOrRestoredGuest:
    @pytest.mark.parametrize(
        ("happens", "fault"),
        [(restore, (STATUS, 1)), (reboot, (OPEN, 0)), (reboot, (OPEN, 1))],
        ids=["while it runs", "with all that it wrote", "with what is left of that"],
    )
    def test_does_not_know_the_command(
        self, place: Made, happens: Callable[[Place], None], fault: tuple[str, int]
    ) -> None:
        at_once = place()
        at_once.machine.faults[fault] = after(lambda: happens(at_once))
        with pytest.raises(errors.ResultLostError, match="rebooted or restored"):
            at_once.run("sleep 0.2; echo out; echo err >&2")
        assert at_once.run("echo out").output == b"out\n"

    def test_may_be_frozen_for_a_while(self, place: Made) -> None:
        at_once = place()

        def freeze() -> None:
            at_once.machine.is_frozen = not at_once.machine.is_frozen

        at_once.machine.faults[(STATUS, 1)] = after(freeze)
        at_once.machine.faults[(EXEC, 2)] = lambda perform: (freeze(), frozen(perform))[1]
        assert at_once.run("sleep 0.1; echo out").output == b"out\n"
