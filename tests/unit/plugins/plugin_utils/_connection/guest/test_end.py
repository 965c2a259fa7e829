from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts

from tests.processes.state import is_gone, stat_of
from tests.support.guest_scripts import (
    PATIENCE_S,
    Shell,
    bystander,
    processes_with,
    report,
    running,
)
from tests.support.until import until

pytestmark = pytest.mark.slow


# As on BSD and macOS: the scripts look for it by its name.
WITHOUT_SETSID = ("command -v setsid", "command -v nonesuch")


def test_end_keeps_a_command_from_being_begun(shell: Shell) -> None:
    assert shell(scripts.END)[0] == 0
    status, output = shell(scripts.RUN, **running("echo"))
    assert status != 0
    assert output == b""


class TestEnd:
    """With a session of the command's own, or a process group, or neither."""

    @pytest.fixture(params=[True, False], ids=["setsid", "no setsid"])
    def script(self, request: pytest.FixtureRequest) -> str:
        return scripts.RUN if request.param else scripts.RUN.replace(*WITHOUT_SETSID)

    @pytest.mark.parametrize(
        "command",
        [
            "sleep 1000",
            "sleep 1000 | sleep 1000 | cat",
            "sh -c 'sleep 1000; true'; true",
            "trap '' TERM; while :; do sleep 0.1; done",
            "sleep 1000 & wait",
        ],
    )
    def test_ends_the_command_and_all_that_it_began(self, shell: Shell, script: str, command: str) -> None:
        assert shell.directory is not None
        directory = shell.directory
        mark = secrets.token_hex(8)
        with shell.started(script, **running(f"QGA_TEST={mark}; export QGA_TEST; : >{directory}/on; {command}")):
            until(lambda: (directory / "on").exists() and any(directory.glob("1.pid.*")), "the command was not begun")
            until(lambda: processes_with(mark), "the command has begun nothing")
            assert shell(scripts.END)[0] == 0
        assert processes_with(mark) == []
        assert len(list(directory.glob("1.done.*"))) == 1

    @pytest.mark.skipif(not shutil.which("setsid"), reason="there is no setsid")
    def test_ends_what_it_begins_to_outlive_its_end(self, shell: Shell, script: str) -> None:
        """When it gets the signal, in a session of its own, which is not there when it is looked for the first time."""
        assert shell.directory is not None
        directory = shell.directory
        mark = secrets.token_hex(8)
        command = (
            f"QGA_TEST={mark}; export QGA_TEST; trap ': >{directory}/more; setsid sleep 1000 >/dev/null 2>&1 &' TERM; "
            f": >{directory}/on; while :; do sleep 0.1; done"
        )
        with shell.started(script, **running(command)):
            until(lambda: (directory / "on").exists() and any(directory.glob("1.pid.*")), "the command was not begun")
            assert shell(scripts.END)[0] == 0
        assert (directory / "more").exists()
        assert processes_with(mark) == []

    def test_ends_what_has_given_itself_an_unreadable_name(self, shell: Shell, script: str, tmp_path: Path) -> None:
        """And has left the command's session and group."""
        program = (
            "import ctypes, os, time\n"
            "ctypes.CDLL(None).prctl(15, b'a\\nb) S 1 1', 0, 0, 0)\n"
            f"os.fork() or (os.setsid(), open({str(tmp_path / 'on')!r}, 'w'))\n"
            "time.sleep(30)"
        )
        mark = secrets.token_hex(8)
        command = f"QGA_TEST={mark} exec {shlex.join([sys.executable, '-c', program])}"
        with shell.started(script, **running(command)):
            until((tmp_path / "on").exists, "the command was not begun")
            assert shell(scripts.END)[0] == 0
            assert processes_with(mark) == []

    def test_ends_nothing_that_another_user_names(self, shell: Shell, script: str, tmp_path: Path) -> None:
        """By names of processes, which their parents and groups were read from."""
        assert shell.directory is not None
        directory = shell.directory
        with bystander(leads=False) as other, shell.started(script, **running("exec sleep 60")):
            until(lambda: any(directory.glob("1.pid.*")), "the command was not begun")
            (process,) = [path.name.rpartition(".")[2] for path in directory.glob("1.pid.*")]
            for listed in ("self", process, str(other.pid)):
                (tmp_path / "proc" / listed).mkdir(parents=True)
                (tmp_path / "proc" / listed / "stat").write_bytes(Path(f"/proc/{listed}/stat").read_bytes())
            for number, name in enumerate([") S 1\n", f") S {other.pid} {process}\n", ") S\n"]):
                (tmp_path / "proc" / f"0{number}").mkdir()
                (tmp_path / "proc" / f"0{number}" / "stat").write_text(f"0{number} ({name}) S 1 1 0")
            assert shell(scripts.END.replace("/proc/", f"{tmp_path}/proc/"))[0] == 0
            assert other.poll() is None

    def test_lets_a_command_be_what_it_is_otherwise(self, shell: Shell, script: str) -> None:
        status, output = shell(script, b"in\0put", **running("cat; echo oops >&2; kill -9 $$"))
        assert (status, output) == (0, report("done 137 kept out err 0 qga-mine"))
        assert shell.written("1.out") == b"in\0put"
        assert shell.written("1.err").startswith(b"oops\n")


class TestStop:
    def test_ends_a_program_of_the_agents_and_all_that_it_began(self, shell: Shell) -> None:
        mark = secrets.token_hex(8)
        with subprocess.Popen(
            ["sh", "-c", "sleep 1000 | { sleep 1000; true; }; true"],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "QGA_TEST": mark},
        ) as program:
            until(lambda: len(processes_with(mark)) >= 4, "it has not begun all")
            shell(scripts.STOP, process=str(program.pid))
        assert program.returncode == -signal.SIGTERM
        assert processes_with(mark) == []

    def test_leaves_other_programs_alone(self, shell: Shell, tmp_path: Path) -> None:
        parent = ["sh", "-c", f"sleep 1000 & echo $! >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; wait"]
        with subprocess.Popen(parent, stdin=subprocess.DEVNULL, start_new_session=True) as other:
            try:
                until((tmp_path / "pid").exists, "it was not begun")
                process = (tmp_path / "pid").read_text().strip()
                shell(scripts.STOP, process=process)
                assert not is_gone(int(process))
            finally:
                os.killpg(other.pid, signal.SIGKILL)


class TestAProcessThatIsNotOurs:
    """Its number is that of one that was ours: it was used again."""

    def test_does_not_run_a_command(self, shell: Shell) -> None:
        assert shell.directory is not None
        with bystander(leads=False) as other:
            recorded = shell.directory / f"1.runner.7.{other.pid}"
            recorded.touch()
            assert shell(scripts.LOOK) == (0, report("gone"))
            recorded.rename(shell.directory / f"1.runner.{began(other.pid)}.{other.pid}")
            assert shell(scripts.LOOK) == (0, report("running"))

    @pytest.mark.parametrize("leads", [True, False])
    def test_is_not_ended(self, shell: Shell, leads: bool) -> None:
        assert shell.directory is not None
        (shell.directory / "1.begun").touch()
        with bystander(leads) as other:
            recorded = shell.directory / f"1.pid.7.{other.pid}"
            recorded.touch()
            assert shell(scripts.END)[0] == 0
            assert other.poll() is None
            recorded.rename(shell.directory / f"1.pid.{began(other.pid)}.{other.pid}")
            assert shell(scripts.END)[0] == 0
            assert other.wait(PATIENCE_S) == -signal.SIGTERM


def began(process: int) -> str:
    return stat_of(process)[19]
