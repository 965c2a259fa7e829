from __future__ import annotations

import os
import pwd
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import NOT_BEGUN

from tests.support.guest_scripts import (
    NEXT,
    PATIENCE_S,
    TOKEN,
    Shell,
    processes_with,
    report,
    running,
)
from tests.support.until import until

pytestmark = pytest.mark.slow


class TestRun:
    def test_reports_and_keeps_both_streams(self, shell: Shell) -> None:
        assert shell.run("cat; echo oops >&2; exit 3", b"in\0put") == report("done 3 kept out err 0 qga-mine")
        assert (shell.written("1.out"), shell.written("1.err")) == (b"in\0put", b"oops\n")

    def test_tells_which_streams_are_empty(self, shell: Shell) -> None:
        assert shell.run("exit 0") == report("done 0 kept - - 0 qga-mine")

    def test_keeps_no_more_than_the_limit(self, shell: Shell) -> None:
        shell.run("yes")
        assert len(shell.written("1.out")) == 2000

    def test_runs_a_command_once(self, shell: Shell) -> None:
        shell.run("echo once")
        status, output = shell(scripts.RUN, **running("echo twice"))
        assert status in (NOT_BEGUN, 1, 2)
        assert output == b""
        assert shell.written("1.out") == b"once\n"

    def test_makes_room_of_what_was_taken(self, shell: Shell) -> None:
        assert shell.directory is not None
        (shell.directory / "0.out").write_text("taken")
        shell.run("echo", before="0")
        assert shell.written("0.out") == b""

    def test_finds_its_home_and_all_programs(self, shell: Shell) -> None:
        shell.run("pwd; echo $PATH")
        home, path = shell.written("1.out").decode().splitlines()
        assert home == pwd.getpwuid(os.getuid()).pw_dir  # whatever HOME says here
        assert "/usr/sbin" in path.split(":")

    @pytest.mark.parametrize("mask", [0o077, 0o027, 0o002, 0])
    def test_gives_the_command_a_logins_umask_and_keeps_its_own_files_private(self, shell: Shell, mask: int) -> None:
        before = os.umask(mask)
        try:
            shell.run("umask")
        finally:
            os.umask(before)
        assert int(shell.written("1.out"), 8) == 0o022
        assert shell.directory is not None
        assert {stat.S_IMODE(path.stat().st_mode) for path in shell.directory.iterdir()} == {0o600}

    def test_takes_what_was_laid_down_for_it(self, shell: Shell) -> None:
        assert shell(scripts.PREPARE) == (0, report("ready 0 qga-mine", "1"))
        assert shell.directory is not None
        (shell.directory / f"{NEXT}.command").write_bytes(b"cat; echo \xff")
        (shell.directory / f"{NEXT}.input").write_text("input ")
        laid = running("", laid=NEXT, stdin="laid", drop="another")
        assert shell(scripts.RUN, **laid) == (0, report("done 0 kept out - 0 qga-mine"))
        assert shell.written("1.out") == b"input \xff\n"
        assert shell.written(f"{NEXT}.input") == b""
        assert shell.written("another.answer") == b""


class TestLook:
    def test_reports_as_run_does(self, shell: Shell) -> None:
        reported = shell.run("echo out; echo err >&2; exit 7")
        assert shell(scripts.LOOK) == (0, reported)

    def test_knows_nothing_of_what_was_never_begun(self, shell: Shell) -> None:
        assert shell(scripts.LOOK) == (0, report("unknown"))

    def test_knows_nothing_without_the_directory(self, shell: Shell) -> None:
        assert shell.directory is not None
        shell.directory /= "none"
        assert shell(scripts.LOOK) == (0, report("unknown"))

    def test_tells_who_runs(self, shell: Shell) -> None:
        assert shell.directory is not None
        directory = shell.directory
        with shell.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(directory.glob("1.pid.*")), "the command was not begun")
            assert shell(scripts.LOOK) == (0, report("running"))
            shell(scripts.END)
            runner.wait()


class TestACommandThatAsks:
    def test_ends_by_itself_if_nobody_answers(self, shell: Shell) -> None:
        shell(scripts.PREPARE)
        mark = secrets.token_hex(8)
        command = f"QGA_TEST={mark}; export QGA_TEST; echo begun; printf Password: >&2; IFS= read -r p; sleep 1000"
        asking = running(command, laid=NEXT, rounds="10", drop="another")
        assert shell(scripts.RUN_ASKING, **asking) == (0, report("done 143 kept out err 0 qga-mine"))
        assert shell.written("1.out") == b"begun\n"
        assert shell.written("1.err").startswith(b"Password:")
        assert processes_with(mark) == []

    def test_gets_the_answer_and_then_its_input(self, shell: Shell) -> None:
        shell(scripts.PREPARE)
        assert shell.directory is not None
        (shell.directory / f"{NEXT}.answer").write_bytes(b"it's \\n \xff\n")
        (shell.directory / f"{NEXT}.go").write_bytes(b"\n")
        asking = running("IFS= read -r p; printf '%s\\n' \"$p\"; cat", laid=NEXT, rounds="100", drop="another")
        assert shell(scripts.RUN_ASKING, b"in\0put", **asking)[0] == 0
        assert shell.written("1.out") == b"it's \\n \xff\nin\0put"
        assert shell.written(f"{NEXT}.answer") == b""

    def test_may_close_a_stream_and_costs_nothing_while_it_waits(self, shell: Shell, tmp_path: Path) -> None:
        shell(scripts.PREPARE)
        counter = tmp_path / "dd"
        script = scripts.RUN_ASKING.replace("$(dd bs", f"$(echo >>{counter}; dd bs")
        asking = running("exec 2>&-; sleep 1", laid=NEXT, rounds="100", drop="another")
        assert shell(script, **asking)[0] == 0
        assert len(counter.read_text()) < 5


class TestWhatOthersCanRead:
    """Every argument list in a guest, and nothing that a command inherits."""

    @pytest.fixture
    def programs(self, tmp_path: Path) -> Path:
        """A directory for PATH whose programs keep how they were called, and the log that they keep it in."""
        directory = tmp_path / "programs"
        directory.mkdir()
        for name in ("mktemp", "mkdir", "ls", "head", "dd", "cat", "sleep", "setsid", "rm", "id"):
            program = directory / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\nexec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)
        return directory

    def called(self, shell: Shell, programs: Path, script: str, **values: str) -> list[str]:
        """How programs were called by a script."""
        log = programs.parent / "log"
        log.write_text("")
        subprocess.run(
            [*shell.words, "-c", script, "qga"],
            input=shell.line(**values),
            check=False,
            timeout=PATIENCE_S,
            # Names that the scripts have variables of, as well.
            env={"PATH": str(programs), **dict.fromkeys(("t", "d", "drop", "laid", "spare"), "the agent's")},
        )
        return log.read_text().splitlines()

    @pytest.mark.parametrize("asking", [True, False])
    def test_has_no_name_that_gives_power(self, placed: Shell, programs: Path, asking: bool) -> None:
        # While it runs, all other programs of the script do.
        everything = r"cat /proc/*/cmdline 2>/dev/null | tr '\0' '\n'; env; pwd"
        script = scripts.RUN_ASKING if asking else scripts.RUN
        run = {script: running(everything, rounds="5" * asking, limit="9000000"), scripts.LOOK: {}}
        run.update({scripts.END: {"n": "3"}, scripts.PREPARE: {}})
        calls = [call for text, values in run.items() for call in self.called(placed, programs, text, **values)]
        assert [call for call in calls if call.startswith("mktemp -d")]
        directories = list(Path(placed.places[1]).glob("qga-*"))
        (written,) = [directory / "1.out" for directory in directories if (directory / "1.out").exists()]
        seen = "\n".join(calls) + written.read_text()
        assert scripts.RUN.strip().splitlines()[0] in seen
        for secret in (TOKEN, NEXT, "f00d", *(directory.name for directory in directories)):
            assert secret not in seen

    def test_names_a_directory_only_to_remove_it(self, shell: Shell, programs: Path) -> None:
        assert shell.directory is not None
        (shell.directory / TOKEN).touch()
        assert self.called(shell, programs, scripts.CLEAN) == [f"rm -rf {shell.directory}"]
        assert not shell.directory.exists()
