# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scripts, in every shell that this machine has: guests have one or another."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import NOT_BEGUN

from tests.support.acl import has_default_acl, set_default_acl
from tests.support.processes import is_gone, stat_of
from tests.support.shells import SHELLS
from tests.support.until import until

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef"  # noqa: S105  # it keeps nobody out
NEXT = "fedcba9876543210"
NOBODY = 65534
COMMON = scripts.source("common.sh")
PATIENCE_S = 60.0
# As on BSD and macOS: the scripts look for it by its name.
WITHOUT_SETSID = ("command -v setsid", "command -v nonesuch")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


class Shell:
    """A shell that runs the scripts as an agent's programs, in the directory, or one that they make in the places."""

    def __init__(self, words: list[str], place: Path) -> None:
        # By its path: the environment that it is run in has no PATH.
        self.words = [shutil.which(words[0]) or words[0], *words[1:]]
        self.places = [str(place)]
        self.directory: Path | None = place / "qga-mine"
        self.directory.mkdir(0o700)

    def line(self, **values: str) -> bytes:
        known = {"d": str(self.directory or ""), "n": "1", "t": TOKEN, "drop": NEXT, "spare": "f00d", "laid": ""}
        return scripts.line_of({**known, **values}, self.places)

    def started(self, script: str, **values: str) -> subprocess.Popen[bytes]:
        """A script that goes on while the test does. It has no more input than its line."""
        process = subprocess.Popen(
            [*self.words, "-c", script, "qga"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={}
        )
        assert process.stdin is not None
        process.stdin.write(self.line(**values))
        process.stdin.close()
        return process

    def __call__(self, script: str, data: bytes = b"", **values: str) -> tuple[int, bytes]:
        done = subprocess.run(
            [*self.words, "-c", script, "qga"],
            input=self.line(**values) + data,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
            # No HOME and no PATH, as from a daemon that nobody gave any.
            env={},
        )
        return done.returncode, done.stdout

    def run(self, command: str, data: bytes = b"", before: str = "") -> bytes:
        status, output = self(scripts.RUN, data, **running(command, before=before))
        assert status == 0
        return output

    def written(self, name: str) -> bytes:
        assert self.directory is not None
        return (self.directory / name).read_bytes()


def running(command: str, **values: str) -> dict[str, str]:
    return {
        "limit": "2000",
        "stdin": "",
        "rounds": "",
        "before": "",
        "lead": scripts.LEAD,
        "sh": "/bin/sh",
        "cmd": command,
        **values,
    }


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


@pytest.fixture
def placed(shell: Shell, tmp_path: Path) -> Shell:
    """A shell that has no directory yet."""
    assert shell.directory is not None
    shell.directory.rmdir()
    shell.directory = None
    shell.places = [str(tmp_path / "none"), str(tmp_path), "/tmp"]  # noqa: S108  # none is made there
    return shell


def made(shell: Shell) -> Path:
    (directory,) = Path(shell.places[1]).glob("qga-*")
    return directory


def test_there_is_more_than_one_shell_to_try() -> None:
    assert len(SHELLS) > 1


class TestItsWords:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"two\nlines\n\n",
            b'it\'s "quoted" $HOME `id` \\ \\n ~ * ; #',
            b"-n",
            "\u00fc\u4f60".encode(),
            bytes(range(1, 256)),
        ],
    )
    def test_are_any_bytes_and_the_input_follows_them(self, shell: Shell, value: bytes) -> None:
        script = COMMON + """printf '%s|' "$v" "$@"; cat"""
        word = value.decode("utf-8", "surrogateescape")
        shell.places = [word, "last"]
        status, output = shell(script, b"in\0put\n", v=word)
        assert (status, output) == (0, value + b"|" + value + b"|last|in\0put\n")

    def test_are_no_words_if_they_are_not_whole(self, shell: Shell) -> None:
        line = shell.line(**running("echo done")).rstrip(b"\n")
        done = subprocess.run([*shell.words, "-c", scripts.RUN, "qga"], input=line, capture_output=True, check=False)
        assert done.returncode != 0
        assert done.stdout == b""

    def test_cannot_have_a_nul(self) -> None:
        with pytest.raises(InvalidOptionError, match="NUL"):
            scripts.line_of({"p": "/a\0b"})


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


# The directories that only some systems have, and what has been put there.
NIXOS = ("run/wrappers/bin", "run/current-system/sw/bin")
GUIX = ("run/privileged/bin", "run/current-system/profile/sbin", "run/current-system/profile/bin")
OLD_GUIX = ("run/setuid-programs", "run/current-system/profile/bin")
NIX_ELSEWHERE = ("nix/var/nix/profiles/default/bin",)
NETBSD = ("usr/pkg/sbin", "usr/pkg/bin")


class TestPath:
    """Of systems that have their programs elsewhere. Their directories are made below one that stands for the root."""

    @staticmethod
    def has(shell: Shell, directories: Iterable[str], path: str = "/store/bin") -> list[str]:
        """The path with which a command is run there, the root cut off where it was put in."""
        root = shell.directory / "root"
        for name in directories:
            (root / name).mkdir(parents=True)
        elsewhere = r"(?<=[ :])/(?=nix/|run/|usr/pkg/)"
        script = re.sub(elsewhere, f"{root}/", COMMON)
        path = re.sub(elsewhere, f"{root}/", f":{path}")[1:]
        done = subprocess.run(
            [*shell.words, "-c", script + 'printf %s "$PATH"'],
            executable=shutil.which(shell.words[0]),
            input=b"\n",
            capture_output=True,
            check=True,
            env={"PATH": path},
        )
        return done.stdout.decode().replace(str(root), "").split(":")

    def test_without_them_it_has_what_all_systems_have(self, shell: Shell) -> None:
        usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        assert self.has(shell, ()) == ["/store/bin", *usual]
        assert self.has(shell, (), "/usr/bin:/bin")[:2] == ["/usr/bin", "/bin"]

    @pytest.mark.parametrize("system", [NIXOS, GUIX, OLD_GUIX, NIX_ELSEWHERE, NETBSD], ids=" ".join)
    def test_it_has_all_that_a_system_has(self, shell: Shell, system: tuple[str, ...]) -> None:
        path = self.has(shell, system)
        assert {f"/{name}" for name in system} <= set(path)
        assert len(path) == len(set(path)) == 7 + len(system)

    @pytest.mark.parametrize(("wrappers", "programs"), [NIXOS, GUIX[::2], OLD_GUIX])
    @pytest.mark.parametrize("before", ["", "/bin:", "/bin:/run/wrappers/bin:"])
    def test_programs_with_setuid_bits_come_before_the_same_ones_without(
        self, shell: Shell, wrappers: str, programs: str, before: str
    ) -> None:
        path = self.has(shell, (wrappers, programs), f"{before}/store/bin")
        assert path[0] == f"/{wrappers}"
        assert f"/{programs}" in path

    def test_what_it_has_is_not_added_again(self, shell: Shell) -> None:
        assert self.has(shell, NIXOS, ":".join(f"/{name}" for name in NIXOS))[:3] == [
            *(f"/{name}" for name in NIXOS),
            "/usr/local/sbin",
        ]


class TestHome:
    """As a daemon has it from what started it: nothing, the kernel's or rc's ``/``, or a real one."""

    @staticmethod
    def found(shell: Shell, script: str, **environment: str) -> list[str]:
        done = subprocess.run(
            [*shell.words, "-c", script + 'printf "%s\\n" "$HOME" ~ "$PWD" "${USER-none}" "${LOGNAME-none}"'],
            input="\n",
            capture_output=True,
            check=True,
            text=True,
            env=environment,
        )
        return done.stdout.splitlines()

    @pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "/"}], ids=str)
    def test_is_looked_up_where_the_agent_has_none(self, shell: Shell, environment: dict[str, str]) -> None:
        user = pwd.getpwuid(os.getuid())
        found = self.found(shell, COMMON, **environment)
        assert found == [*[user.pw_dir] * 3, *[user.pw_name] * 2]

    def test_that_the_agent_has_is_kept(self, shell: Shell, tmp_path: Path) -> None:
        found = self.found(shell, COMMON, HOME=str(tmp_path), USER="who")
        assert found == [*[str(tmp_path)] * 3, "who", "none"]

    @pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "/"}], ids=str)
    @pytest.mark.parametrize("name", ["", "nobody-of-that-name"])
    def test_of_a_user_who_has_none_is_the_root(self, shell: Shell, environment: dict[str, str], name: str) -> None:
        script = COMMON.replace("-O /root", "-O /none").replace("id -un", f"echo {name}")
        home, *same = self.found(shell, script, **environment)[:3]
        assert same == [home] * 2
        assert home in ("/", pwd.getpwuid(os.getuid()).pw_dir)  # bash knows whose home it is without a name


class TestWithoutADirectoryYet:
    """Of several places it takes the first one that it can, and no command begins where that is not wanted any more."""

    def test_run_makes_one(self, placed: Shell) -> None:
        status, output = placed(scripts.RUN, **running("echo out"))
        directory = made(placed)
        assert (status, output) == (0, report(f"done 0 kept out - 1 {directory.name}"))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert (directory / "1.out").read_bytes() == b"out\n"
        assert len(list(directory.glob("1.pid.*"))) == 1

    def test_run_makes_one_without_mktemp(self, placed: Shell) -> None:
        script = scripts.RUN.replace("command -v mktemp", "command -v nonesuch")
        assert placed(script, **running("echo out")) == (0, report("done 0 kept out - 1 qga-f00d"))

    @pytest.mark.parametrize("mktemp", ["mktemp", "nonesuch"])
    def test_run_leaves_none_that_nothing_fits_into(self, placed: Shell, mktemp: str) -> None:
        """On a disk where the directory was the last thing that there was room for."""
        script = scripts.RUN.replace("command -v mktemp", f"command -v {mktemp}")
        assert placed(script, **running("echo out"), t="none/token") == (NOT_BEGUN, b"")
        assert list(Path(placed.places[1]).iterdir()) == []

    @pytest.mark.parametrize("mktemp", ["mktemp", "nonesuch"])
    @pytest.mark.parametrize("mode", [0o2755, 0o2775, 0o3777])
    def test_it_is_used_below_a_setgid_directory(self, placed: Shell, mode: int, mktemp: str) -> None:
        Path(placed.places[1]).chmod(mode)
        self.check_use(placed, mktemp)

    @pytest.mark.parametrize("mktemp", ["mktemp", "nonesuch"])
    @pytest.mark.parametrize("group", [0, 5, 7])
    def test_is_private_whatever_a_default_acl_grants(self, placed: Shell, group: int, mktemp: str) -> None:
        set_default_acl(Path(placed.places[1]), group=group, others=5, users={NOBODY: 7})
        self.check_use(placed, mktemp)
        assert has_default_acl(made(placed))

    @staticmethod
    def check_use(shell: Shell, mktemp: str) -> None:
        run = scripts.RUN.replace("command -v mktemp", f"command -v {mktemp}")
        status, output = shell(run, **running("echo out"))
        directory = made(shell)
        assert (status, output) == (0, report(f"done 0 kept out - 1 {directory.name}"))
        assert stat.S_IMODE(directory.stat().st_mode) & 0o777 == 0o700
        assert shell(scripts.LOOK) == (0, output)
        assert shell(scripts.RUN, **running("echo more"), n="2", d=str(directory))[0] == 0
        assert shell(scripts.PREPARE, d=str(directory))[0] == 0
        # And a directory in which there is no token, as one for a file that is put.
        (directory / TOKEN).unlink()
        assert shell(scripts.LOOK) == (0, report("unknown"))
        enter = COMMON + 'enter "$d" && pwd'
        assert shell(enter, d=str(directory)) == (0, f"{directory}\n".encode())

    def test_run_needs_one(self, placed: Shell) -> None:
        placed.places = placed.places[:1]
        assert placed(scripts.RUN, **running("echo out")) == (NOT_BEGUN, b"")

    def test_look_finds_it(self, placed: Shell) -> None:
        reported = placed(scripts.RUN, **running("exit 7"))
        assert placed(scripts.LOOK) == reported
        assert placed(scripts.LOOK, n="2") == (0, report("unknown", "2"))
        assert placed(scripts.LOOK, t="another") == (0, report("unknown").replace(TOKEN.encode(), b"another"))

    def test_end_finds_it(self, placed: Shell) -> None:
        with placed.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(Path(placed.places[1]).glob("*/1.pid.*")), "the command was not begun")
            assert placed(scripts.END)[0] == 0
        assert runner.returncode == 0
        assert [path.name for path in made(placed).glob("1.done.*")] == ["1.done.143.kept"]

    def test_end_keeps_a_command_from_being_begun(self, placed: Shell) -> None:
        assert placed(scripts.END)[0] == 0
        assert placed(scripts.RUN, **running("echo out")) == (NOT_BEGUN, b"")
        assert placed(scripts.RUN, **running("echo out"), n="2")[0] == 0

    def test_clean_removes_all_that_were_made(self, placed: Shell) -> None:
        (Path(placed.places[1]) / "qga-another").mkdir()
        placed(scripts.END)
        placed(scripts.RUN, **running("echo out"), n="2")
        placed(scripts.PREPARE)
        placed(scripts.CLEAN)
        assert [path.name for path in Path(placed.places[1]).iterdir()] == ["qga-another"]


# ---------------------------------------------------------------------------------------------------------- other users


def _of_another_user(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        os.chown(path, NOBODY, NOBODY)


def _a_link(directory: Path) -> None:
    target = directory.with_name("target")
    directory.rename(target)
    directory.symlink_to(target)


class TestADirectoryThatIsNotOurs:
    """It has all that one of ours has, and even the token is known: a command that was done, and one that runs."""

    @pytest.fixture(
        params=[pytest.param(_of_another_user, marks=needs_root), pytest.param(_a_link)],
        ids=["another user's", "a link"],
    )
    def forged(self, shell: Shell, request: pytest.FixtureRequest) -> Iterator[tuple[Shell, Path, int]]:
        assert shell.directory is not None
        directory = shell.directory
        with bystander(leads=True) as victim:
            names = [TOKEN, "1.begun", "1.done.0.kept", f"1.pid..{victim.pid}", f"1.runner..{victim.pid}"]
            for name in (*names, f"{NEXT}.input"):
                (directory / name).touch()
            (directory / "1.out").write_text("forged")
            request.param(directory)
            yield shell, directory, victim.pid

    @pytest.mark.parametrize("is_known", [True, False])
    def test_is_believed_nothing(self, forged: tuple[Shell, Path, int], is_known: bool) -> None:
        shell, directory, victim = forged
        before = sorted(path.name for path in directory.iterdir())
        if not is_known:
            shell.directory = None
        assert shell(scripts.LOOK) == (0, report("unknown"))
        assert shell(scripts.END)[0] == 0
        shell(scripts.CLEAN)
        assert sorted(path.name for path in directory.iterdir()) == before
        assert not is_gone(victim)

    def test_has_nothing_begun_in_it(self, forged: tuple[Shell, Path, int]) -> None:
        shell, _directory, _victim = forged
        for script in (scripts.RUN, scripts.RUN_ASKING, scripts.PREPARE):
            laid = running("", laid=NEXT, stdin="laid", rounds="1")
            assert shell(script, **laid, n="2") == (NOT_BEGUN, b"")

    @pytest.mark.parametrize("mode", [0o777, 0o2777, 0o2710, 0o2720, 0o3770, 0o701])
    def test_is_one_that_others_may_look_into_as_well(self, shell: Shell, mode: int) -> None:
        assert shell.directory is not None
        (shell.directory / "1.begun").touch()
        (shell.directory / "1.done.0.kept").touch()
        shell.directory.chmod(mode)
        assert shell(scripts.LOOK) == (0, report("unknown"))
        assert shell(scripts.PREPARE) == (NOT_BEGUN, b"")


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


@contextlib.contextmanager
def bystander(leads: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A process, perhaps with a session of its own, that nothing has to do with."""
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, start_new_session=leads) as process:
        try:
            yield process
        finally:
            process.kill()


def began(process: int) -> str:
    return stat_of(process)[19]


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


# -------------------------------------------------------------------------------------------------- what becomes of one


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


def processes_with(mark: str) -> list[int]:
    """All processes whose environment has the mark; one that has ended has none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"QGA_TEST={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


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


def report(words: str, number: str = "") -> bytes:
    number = number or "1"
    return f"qga-report {TOKEN} {number} {words}\n".encode()
