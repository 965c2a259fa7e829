from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import NOT_STARTED

from tests.processes.state import is_gone, stat_of
from tests.support.acl import has_default_acl, set_default_acl
from tests.support.guest_scripts import (
    COMMON,
    NEXT,
    NOBODY,
    PATIENCE_S,
    TOKEN,
    Shell,
    bystander,
    made,
    needs_root,
    processes_with,
    report,
    running,
)
from tests.support.small_disk import SmallDisk, may_be_mounted
from tests.support.until import until

pytestmark = pytest.mark.slow


class TestRunAndLook:
    @pytest.mark.parametrize(
        ("command", "words", "written"),
        [
            ("cat; echo oops >&2; exit 3", "3 kept out err", (b"in\0put", b"oops\n")),
            ("exit 0", "0 kept - -", (b"", b"")),
            ("yes", "141 kept out -", (b"y\n" * 1000, b"")),
            ("umask >&2", "0 kept - err", (b"", b"0022\n")),
        ],
        ids=["both streams", "silence", "more than the limit", "a login's umask"],
    )
    def test_report_the_end_and_save_the_output(
        self, shell: Shell, command: str, words: str, written: tuple[bytes, bytes]
    ) -> None:
        (shell.directory / "0.out").write_text("taken")
        reported = shell.run(command, b"in\0put", before="0")
        assert reported == report(f"done {words} 0 qga-mine")
        assert shell(scripts.LOOK) == (0, reported)
        assert (shell.written("1.out"), shell.written("1.err")) == written
        assert shell.written("0.out") == b""

    def test_a_command_is_run_once(self, shell: Shell) -> None:
        shell.run("echo once")
        status, output = shell(scripts.RUN, **running("echo twice"))
        assert status in (NOT_STARTED, 1, 2)
        assert (output, shell.written("1.out")) == (b"", b"once\n")

    def test_a_command_gets_its_stored_data(self, shell: Shell) -> None:
        assert shell(scripts.PREPARE) == (0, report("ready 0 qga-mine", "1"))
        (shell.directory / f"{NEXT}.command").write_bytes(b"cat; echo \xff")
        (shell.directory / f"{NEXT}.input").write_text("input ")
        stored = running("", stored=NEXT, stdin="stored", drop="another")
        assert shell(scripts.RUN, **stored) == (0, report("done 0 kept out - 0 qga-mine"))
        assert shell.written("1.out") == b"input \xff\n"
        assert shell.written(f"{NEXT}.input") == shell.written("another.answer") == b""

    def test_look_reports_only_a_running_command(self, shell: Shell) -> None:
        assert shell(scripts.LOOK) == (0, report("unknown"))
        with shell.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(shell.directory.glob("1.pid.*")), "the command did not start")
            assert shell(scripts.LOOK) == (0, report("running"))
            shell(scripts.END)
            runner.wait()
        shell.directory /= "none"
        assert shell(scripts.LOOK) == (0, report("unknown"))


class TestADialog:
    def test_ends_by_itself_without_an_answer(self, shell: Shell) -> None:
        shell(scripts.PREPARE)
        mark = secrets.token_hex(8)
        command = f"QGA_TEST={mark}; export QGA_TEST; echo begun; printf Password: >&2; IFS= read -r p; sleep 1000"
        asking = running(command, stored=NEXT, rounds="10", drop="another")
        assert shell(scripts.RUN_WITH_DIALOG, **asking) == (0, report("done 143 kept out err 0 qga-mine"))
        assert shell.written("1.out") == b"begun\n"
        assert shell.written("1.err").startswith(b"Password:")
        assert processes_with(mark) == []

    def test_sends_the_answer_and_then_the_input(self, shell: Shell) -> None:
        shell(scripts.PREPARE)
        (shell.directory / f"{NEXT}.answer").write_bytes(b"it's \\n \xff\n")
        (shell.directory / f"{NEXT}.go").write_bytes(b"\n")
        asking = running("IFS= read -r p; printf '%s\\n' \"$p\"; cat", stored=NEXT, rounds="100", drop="another")
        assert shell(scripts.RUN_WITH_DIALOG, b"in\0put", **asking)[0] == 0
        assert shell.written("1.out") == b"it's \\n \xff\nin\0put"
        assert shell.written(f"{NEXT}.answer") == b""

    def test_uses_no_cpu_while_the_command_waits_with_a_closed_stream(self, shell: Shell, tmp_path: Path) -> None:
        shell(scripts.PREPARE)
        counter = tmp_path / "dd"
        script = scripts.RUN_WITH_DIALOG.replace("$(dd bs", f"$(echo >>{counter}; dd bs")
        asking = running("exec 2>&-; sleep 1", stored=NEXT, rounds="100", drop="another")
        assert shell(script, **asking)[0] == 0
        assert len(counter.read_text()) < 5


class TestArgumentLists:
    """Other users can read every argument list in a guest."""

    @pytest.fixture
    def programs(self, tmp_path: Path) -> Path:
        """A directory for PATH whose programs log their calls, and the log."""
        directory = tmp_path / "programs"
        directory.mkdir()
        for name in ("mktemp", "mkdir", "ls", "head", "dd", "cat", "sleep", "setsid", "rm", "id"):
            program = directory / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\nexec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)
        return directory

    def called(self, shell: Shell, programs: Path, script: str, **values: str) -> list[str]:
        """Return a script's calls of programs."""
        log = programs.parent / "log"
        log.write_text("")
        subprocess.run(
            [*shell.words, "-c", script, "qga"],
            input=shell.line(**values),
            check=False,
            timeout=PATIENCE_S,
            # Names of the scripts' variables.
            env={"PATH": str(programs), **dict.fromkeys(("t", "d", "drop", "stored", "spare"), "the agent's")},
        )
        return log.read_text().splitlines()

    @pytest.mark.parametrize("script", [scripts.RUN, scripts.RUN_WITH_DIALOG], ids=["plain", "asking"])
    def test_have_no_useful_names(self, placed: Shell, programs: Path, script: str) -> None:
        # All other programs of the script run at the same time.
        everything = r"cat /proc/*/cmdline 2>/dev/null | tr '\0' '\n'; env; pwd"
        run = {script: running(everything, rounds="5" * (script == scripts.RUN_WITH_DIALOG), limit="9000000")}
        run |= {scripts.LOOK: {}, scripts.END: {"n": "3"}, scripts.PREPARE: {}}
        calls = [call for text, values in run.items() for call in self.called(placed, programs, text, **values)]
        assert [call for call in calls if call.startswith("mktemp -d")]
        directories = list(Path(placed.places[1]).glob("qga-*"))
        (written,) = [directory / "1.out" for directory in directories if (directory / "1.out").exists()]
        seen = "\n".join(calls) + written.read_text()
        assert scripts.RUN.strip().splitlines()[0] in seen
        for secret in (TOKEN, NEXT, "f00d", *(directory.name for directory in directories)):
            assert secret not in seen

    def test_have_a_directory_only_to_remove_it(self, shell: Shell, programs: Path) -> None:
        (shell.directory / TOKEN).touch()
        assert self.called(shell, programs, scripts.CLEAN) == [f"rm -rf {shell.directory}"]
        assert not shell.directory.exists()


with_mktemp_and_without = pytest.mark.parametrize(
    "run",
    [scripts.RUN, scripts.RUN.replace("command -v mktemp", "command -v nonesuch")],
    ids=["mktemp", "no mktemp"],
)


class TestWithoutADirectory:
    """The first usable place is used, and a canceled command does not start."""

    @with_mktemp_and_without
    @pytest.mark.parametrize("mode", [0o700, 0o2755, 0o2775, 0o3777])
    def test_one_is_made_and_used(self, placed: Shell, mode: int, run: str) -> None:
        Path(placed.places[1]).chmod(mode)
        self.check_use(placed, run)
        assert (made(placed).name == "qga-f00d") == (run != scripts.RUN)

    @with_mktemp_and_without
    @pytest.mark.parametrize("group", [0, 5, 7])
    def test_it_is_private_whatever_a_default_acl_grants(self, placed: Shell, group: int, run: str) -> None:
        set_default_acl(Path(placed.places[1]), group=group, others=5, users={NOBODY: 7})
        self.check_use(placed, run)
        assert has_default_acl(made(placed))

    @staticmethod
    def check_use(shell: Shell, run: str) -> None:
        status, output = shell(run, **running("echo out"))
        directory = made(shell)
        assert (status, output) == (0, report(f"done 0 kept out - 1 {directory.name}"))
        assert stat.S_IMODE(directory.stat().st_mode) & 0o777 == 0o700
        assert (directory / "1.out").read_bytes() == b"out\n"
        assert len(list(directory.glob("1.pid.*"))) == 1
        assert shell(scripts.LOOK) == (0, output)
        assert shell(scripts.LOOK, n="2") == (0, report("unknown", "2"))
        assert shell(scripts.LOOK, t="another") == (0, report("unknown").replace(TOKEN.encode(), b"another"))
        assert shell(scripts.RUN, **running("echo more"), n="2", d=str(directory))[0] == 0
        assert shell(scripts.PREPARE, d=str(directory))[0] == 0
        # Also a directory without a token, such as one for a file that is put.
        (directory / TOKEN).unlink()
        assert shell(scripts.LOOK) == (0, report("unknown"))
        enter = COMMON + 'enter "$d" && pwd'
        assert shell(enter, d=str(directory)) == (0, f"{directory}\n".encode())

    @with_mktemp_and_without
    def test_an_unusable_directory_is_removed(self, placed: Shell, run: str) -> None:
        """On a disk that is full after the directory was made."""
        assert placed(run, **running("echo out"), t="none/token") == (NOT_STARTED, b"")
        assert list(Path(placed.places[1]).iterdir()) == []

    def test_nothing_runs_without_a_place(self, placed: Shell) -> None:
        placed.places = placed.places[:1]
        assert placed(scripts.RUN, **running("echo out")) == (NOT_STARTED, b"")

    def test_end_finds_it(self, placed: Shell) -> None:
        with placed.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(Path(placed.places[1]).glob("*/1.pid.*")), "the command did not start")
            assert placed(scripts.END)[0] == 0
        assert runner.returncode == 0
        assert [path.name for path in made(placed).glob("1.done.*")] == ["1.done.143.kept"]

    def test_end_prevents_the_start_of_a_command_and_clean_removes_all_directories(self, placed: Shell) -> None:
        (Path(placed.places[1]) / "qga-another").mkdir()
        assert placed(scripts.END)[0] == 0
        assert placed(scripts.RUN, **running("echo out")) == (NOT_STARTED, b"")
        assert placed(scripts.RUN, **running("echo out"), n="2")[0] == 0
        placed(scripts.PREPARE)
        placed(scripts.CLEAN)
        assert [path.name for path in Path(placed.places[1]).iterdir()] == ["qga-another"]


@pytest.mark.skipif(not may_be_mounted(), reason="no disk may be mounted here")
@pytest.mark.parametrize(
    ("before", "command", "words"),
    [
        ("true", "head -c 500000 /dev/zero", "lost out - 1"),
        ("true", "head -c 500000 /dev/zero >&2", "lost - err 1"),
        ("head -c 500000 /dev/zero >{}/full 2>/dev/null", "exit 7", "7 kept - - 1"),
    ],
    ids=["output is lost", "errors are lost", "the exit status is known"],
)
def test_output_that_does_not_fit_on_the_disk_is_reported_as_lost(
    placed: Shell, tmp_path: Path, before: str, command: str, words: str
) -> None:
    line = placed.line(**running(command, limit="1000000"))
    with SmallDisk(tmp_path, 64) as disk:
        shell = ["sh", "-c", f'{before.format(tmp_path)}; exec "$@"', "sh", *placed.words, "-c", scripts.RUN, "qga"]
        done = subprocess.run([*disk.within, *shell], input=line, capture_output=True, check=True)
    assert f"qga-report {TOKEN} 1 done ".encode() in done.stdout
    assert f" {words} qga-".encode() in done.stdout


def _of_another_user(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        os.chown(path, NOBODY, NOBODY)


def _a_link(directory: Path) -> None:
    target = directory.with_name("target")
    directory.rename(target)
    directory.symlink_to(target)


class TestAForgedDirectory:
    @pytest.mark.parametrize("forge", [pytest.param(_of_another_user, marks=needs_root), _a_link])
    @pytest.mark.parametrize("is_known", [True, False])
    def test_is_not_trusted(self, shell: Shell, forge: Callable[[Path], None], is_known: bool) -> None:
        """It has all files of a real one, with a known token: for a finished command, and for a running one."""
        directory = shell.directory
        with bystander(leads=True) as victim:
            forged = [TOKEN, "1.begun", "1.done.0.kept", f"1.pid..{victim.pid}", f"1.runner..{victim.pid}"]
            for name in (*forged, "1.out", f"{NEXT}.input"):
                (directory / name).touch()
            forge(directory)
            before = sorted(path.name for path in directory.iterdir())
            for script in (scripts.RUN, scripts.RUN_WITH_DIALOG, scripts.PREPARE) if is_known else ():
                stored = running("", stored=NEXT, stdin="stored", rounds="1")
                assert shell(script, **stored, n="2") == (NOT_STARTED, b"")
            if not is_known:
                shell.directory = None
            assert shell(scripts.LOOK) == (0, report("unknown"))
            assert shell(scripts.END)[0] == 0
            shell(scripts.CLEAN)
            assert sorted(path.name for path in directory.iterdir()) == before
            assert not is_gone(victim.pid)

    @pytest.mark.parametrize("mode", [0o777, 0o2777, 0o2710, 0o2720, 0o3770, 0o701])
    def test_is_recognized_by_access_for_others(self, shell: Shell, mode: int) -> None:
        (shell.directory / "1.begun").touch()
        (shell.directory / "1.done.0.kept").touch()
        shell.directory.chmod(mode)
        assert shell(scripts.LOOK) == (0, report("unknown"))
        assert shell(scripts.PREPARE) == (NOT_STARTED, b"")


# It gives itself an unreadable name, and leaves the command's session and group.
UNREADABLE = (
    "import ctypes, os, time\n"
    "ctypes.CDLL(None).prctl(15, b'a\\nb) S 1 1', 0, 0, 0)\n"
    "os.fork() or (os.setsid(), open('{0}/on', 'w'))\n"
    "time.sleep(30)"
)
# The process that it starts on the signal does not exist at the first search.
OUTLIVING = "trap ': >{0}/more; setsid sleep 1000 >/dev/null 2>&1 &' TERM; : >{0}/on; while :; do sleep 0.1; done"


class TestEnd:
    """With or without setsid."""

    @pytest.fixture(params=["setsid", "no setsid"])
    def script(self, request: pytest.FixtureRequest) -> str:
        # BSD and macOS have no setsid.
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
    def test_kills_the_command_and_all_processes_that_it_started(self, shell: Shell, script: str, command: str) -> None:
        directory, mark = shell.directory, secrets.token_hex(8)
        command = f"QGA_TEST={mark}; export QGA_TEST; " + command.replace("{0}", str(directory))
        with shell.started(script, **running(command)):
            until(lambda: (directory / "on").exists() and any(directory.glob("1.pid.*")), "the command did not start")
            until(lambda: processes_with(mark), "the command started no process")
            assert shell(scripts.END)[0] == 0
            # No process ends by itself so soon.
            until(lambda: not processes_with(mark), "a process that it started still runs", 20.0)
        assert len(list(directory.glob("1.done.*"))) == 1
        assert (directory / "more").exists() == ("more" in command)

    def test_kills_no_process_that_another_user_injects(self, shell: Shell, script: str, tmp_path: Path) -> None:
        """The injection is in names of processes, which contain false parents and groups."""
        directory = shell.directory
        with bystander(leads=False) as other, shell.started(script, **running("exec sleep 60")):
            until(lambda: any(directory.glob("1.pid.*")), "the command did not start")
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

    def test_does_not_change_other_results(self, shell: Shell, script: str) -> None:
        status, output = shell(script, b"in\0put", **running("cat; echo oops >&2; kill -9 $$"))
        assert (status, output) == (0, report("done 137 kept out err 0 qga-mine"))
        assert shell.written("1.out") == b"in\0put"
        assert shell.written("1.err").startswith(b"oops\n")

    def test_prevents_the_start_of_a_command(self, shell: Shell) -> None:
        assert shell(scripts.END)[0] == 0
        status, output = shell(scripts.RUN, **running("echo"))
        assert status in (NOT_STARTED, 1, 2)
        assert output == b""


def test_stop_kills_only_programs_of_the_agent(shell: Shell, tmp_path: Path) -> None:
    parent = ["sh", "-c", f"sleep 1000 & echo $! >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; wait"]
    with subprocess.Popen(parent, stdin=subprocess.DEVNULL, start_new_session=True) as other:
        try:
            until((tmp_path / "pid").exists, "it did not start")
            process = (tmp_path / "pid").read_text().strip()
            shell(scripts.STOP, process=process)
            assert not is_gone(int(process))
        finally:
            os.killpg(other.pid, signal.SIGKILL)


class TestAReusedProcessId:
    """The process has the ID of an earlier process of the command."""

    def test_is_not_a_running_command(self, shell: Shell) -> None:
        with bystander(leads=False) as other:
            recorded = shell.directory / f"1.runner.7.{other.pid}"
            recorded.touch()
            assert shell(scripts.LOOK) == (0, report("gone"))
            recorded.rename(shell.directory / f"1.runner.{stat_of(other.pid)[19]}.{other.pid}")
            assert shell(scripts.LOOK) == (0, report("running"))

    @pytest.mark.parametrize("leads", [True, False])
    def test_is_not_killed(self, shell: Shell, leads: bool) -> None:
        (shell.directory / "1.begun").touch()
        with bystander(leads) as other:
            recorded = shell.directory / f"1.pid.7.{other.pid}"
            recorded.touch()
            assert shell(scripts.END)[0] == 0
            assert other.poll() is None
            recorded.rename(shell.directory / f"1.pid.{stat_of(other.pid)[19]}.{other.pid}")
            assert shell(scripts.END)[0] == 0
            assert other.wait(PATIENCE_S) == -signal.SIGTERM
