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
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import NOT_BEGUN

from tests.processes.state import is_gone, stat_of
from tests.support.guest_scripts import PATIENCE_S, Shell, bystander, processes_with, report, running
from tests.support.until import until

pytestmark = pytest.mark.slow

# It gives itself a name that cannot be read, and leaves the command's session and group.
UNREADABLE = (
    "import ctypes, os, time\n"
    "ctypes.CDLL(None).prctl(15, b'a\\nb) S 1 1', 0, 0, 0)\n"
    "os.fork() or (os.setsid(), open('{0}/on', 'w'))\n"
    "time.sleep(30)"
)
# What it begins when it gets the signal is not there when it is looked for the first time.
OUTLIVING = "trap ': >{0}/more; setsid sleep 1000 >/dev/null 2>&1 &' TERM; : >{0}/on; while :; do sleep 0.1; done"


class TestEnd:
    """With a session of the command's own, or a process group, or neither."""

    @pytest.fixture(params=["setsid", "no setsid"])
    def script(self, request: pytest.FixtureRequest) -> str:
        # BSD and macOS have none; the scripts look for it by its name.
        without = scripts.RUN.replace("command -v setsid", "command -v nonesuch")
        return scripts.RUN if request.param == "setsid" else without

    @pytest.mark.parametrize(
        "command",
        [
            ": >{0}/on; sleep 1000",
            ": >{0}/on; sleep 1000 | sleep 1000 | cat",
            ": >{0}/on; sh -c 'sleep 1000; true'; true",
            ": >{0}/on; trap '' TERM; while :; do sleep 0.1; done",
            ": >{0}/on; sleep 1000 & wait",
            pytest.param(
                OUTLIVING,
                marks=pytest.mark.skipif(not shutil.which("setsid"), reason="there is no setsid"),
                id="outlives",
            ),
            pytest.param(f"exec {shlex.join([sys.executable, '-c', UNREADABLE])}", id="unreadable"),
        ],
    )
    def test_ends_the_command_and_all_that_it_began(self, shell: Shell, script: str, command: str) -> None:
        directory, mark = shell.directory, secrets.token_hex(8)
        command = f"QGA_TEST={mark}; export QGA_TEST; " + command.replace("{0}", str(directory))
        with shell.started(script, **running(command)):
            until(lambda: (directory / "on").exists() and any(directory.glob("1.pid.*")), "the command was not begun")
            until(lambda: processes_with(mark), "the command has begun nothing")
            assert shell(scripts.END)[0] == 0
            assert processes_with(mark) == []
        assert len(list(directory.glob("1.done.*"))) == 1
        assert (directory / "more").exists() == ("more" in command)

    def test_ends_nothing_that_another_user_names(self, shell: Shell, script: str, tmp_path: Path) -> None:
        """By names of processes, which their parents and groups were read from."""
        directory = shell.directory
        with bystander(leads=False) as other, shell.started(script, **running("exec sleep 60")):
            until(lambda: any(directory.glob("1.pid.*")), "the command was not begun")
            (process,) = [path.name.rpartition(".")[2] for path in directory.glob("1.pid.*")]
            forged = {
                f"0{number}": f"0{number} ({name}) S 1 1 0"
                for number, name in enumerate([") S 1\n", f") S {other.pid} {process}\n", ") S\n"])
            }
            real = {name: Path(f"/proc/{name}/stat").read_text() for name in ("self", process, str(other.pid))}
            for name, content in {**forged, **real}.items():
                (tmp_path / "proc" / name).mkdir(parents=True)
                (tmp_path / "proc" / name / "stat").write_text(content)
            assert shell(scripts.END.replace("/proc/", f"{tmp_path}/proc/"))[0] == 0
            assert other.poll() is None

    def test_lets_a_command_be_what_it_is_otherwise(self, shell: Shell, script: str) -> None:
        status, output = shell(script, b"in\0put", **running("cat; echo oops >&2; kill -9 $$"))
        assert (status, output) == (0, report("done 137 kept out err 0 qga-mine"))
        assert shell.written("1.out") == b"in\0put"
        assert shell.written("1.err").startswith(b"oops\n")

    def test_keeps_a_command_from_being_begun(self, shell: Shell) -> None:
        assert shell(scripts.END)[0] == 0
        status, output = shell(scripts.RUN, **running("echo"))
        assert status in (NOT_BEGUN, 1, 2)
        assert output == b""


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
        with bystander(leads=False) as other:
            recorded = shell.directory / f"1.runner.7.{other.pid}"
            recorded.touch()
            assert shell(scripts.LOOK) == (0, report("gone"))
            recorded.rename(shell.directory / f"1.runner.{stat_of(other.pid)[19]}.{other.pid}")
            assert shell(scripts.LOOK) == (0, report("running"))

    @pytest.mark.parametrize("leads", [True, False])
    def test_is_not_ended(self, shell: Shell, leads: bool) -> None:
        (shell.directory / "1.begun").touch()
        with bystander(leads) as other:
            recorded = shell.directory / f"1.pid.7.{other.pid}"
            recorded.touch()
            assert shell(scripts.END)[0] == 0
            assert other.poll() is None
            recorded.rename(shell.directory / f"1.pid.{stat_of(other.pid)[19]}.{other.pid}")
            assert shell(scripts.END)[0] == 0
            assert other.wait(PATIENCE_S) == -signal.SIGTERM
