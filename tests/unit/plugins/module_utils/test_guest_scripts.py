# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scripts, in every shell that this machine has: guests have one or another."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import guest_scripts

from tests.support.until import until

pytestmark = pytest.mark.slow

SHELLS = [
    shell
    for shell in (["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"], ["ksh"], ["zsh", "--emulate", "sh"])
    if shutil.which(shell[0])
]
TOKEN = "0123abcd"  # noqa: S105  # it keeps nobody out


class Shell:
    def __init__(self, words: list[str], directory: Path) -> None:
        self.words = words
        self.directory = directory

    def __call__(self, script: str, number: str, *arguments: str, data: bytes = b"") -> tuple[int, bytes]:
        done = subprocess.run(
            [*self.words, "-c", script, "qga", str(self.directory), number, TOKEN, *arguments],
            input=data,
            capture_output=True,
            check=False,
            # No HOME and no PATH, as from a daemon that nobody gave any.
            env={},
        )
        return done.returncode, done.stdout

    def run(self, command: str, data: bytes = b"", before: str = "") -> bytes:
        status, output = self(guest_scripts.RUN, "1", "2000", "", "", before, "/bin/sh", command, data=data)
        assert status == 0
        return output

    def written(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


def test_there_is_more_than_one_shell_to_try() -> None:
    assert len(SHELLS) > 1


class TestRun:
    def test_reports_and_keeps_both_streams(self, shell: Shell) -> None:
        assert shell.run("cat; echo oops >&2; exit 3", b"in\0put") == report("done 3 kept out err 0")
        assert (shell.written("1.out"), shell.written("1.err")) == (b"in\0put", b"oops\n")

    def test_tells_which_streams_are_empty(self, shell: Shell) -> None:
        assert shell.run("exit 0") == report("done 0 kept - - 0")

    def test_keeps_no_more_than_the_limit(self, shell: Shell) -> None:
        shell.run("yes")
        assert len(shell.written("1.out")) == 2000

    def test_runs_a_command_once(self, shell: Shell) -> None:
        shell.run("echo once")
        status, output = shell(guest_scripts.RUN, "1", "2000", "", "", "", "/bin/sh", "echo twice")
        assert status in (guest_scripts.NOT_BEGUN, 1, 2)
        assert output == b""
        assert shell.written("1.out") == b"once\n"

    def test_makes_room_of_what_was_taken(self, shell: Shell) -> None:
        (shell.directory / "0.out").write_text("taken")
        shell.run("echo", before="0")
        assert shell.written("0.out") == b""

    def test_finds_its_home_and_all_programs(self, shell: Shell) -> None:
        shell.run("pwd; echo $PATH")
        home, path = shell.written("1.out").decode().splitlines()
        assert home == pwd.getpwuid(os.getuid()).pw_dir  # whatever HOME says here
        assert "/usr/sbin" in path.split(":")


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
        script = re.sub(elsewhere, f"{root}/", guest_scripts.ENVIRONMENT)
        path = re.sub(elsewhere, f"{root}/", f":{path}")[1:]
        done = subprocess.run(
            [*shell.words, "-c", script + 'printf %s "$PATH"'],
            executable=shutil.which(shell.words[0]),
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


class TestWithoutADirectoryYet:
    """Of several it takes the first one that can be made, and no command begins behind one's back."""

    @pytest.fixture
    def candidates(self, shell: Shell) -> list[str]:
        places = [shell.directory / name for name in ("none/one", "two", "three")]
        shell.directory = Path()  # it is not known
        return [str(place) for place in places]

    def begin(self, shell: Shell, candidates: list[str], command: str) -> tuple[int, bytes]:
        return shell(guest_scripts.RUN, "1", "2000", "", "", "", "/bin/sh", command, *candidates)

    def test_run_makes_one(self, shell: Shell, candidates: list[str]) -> None:
        assert self.begin(shell, candidates, "echo out") == (0, report("done 0 kept out - 1"))
        assert [Path(path).exists() for path in candidates] == [False, True, False]
        made = Path(candidates[1])
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert (made / "1.out").read_bytes() == b"out\n"
        assert [path.name.rpartition(".")[0] for path in made.glob("1.pid.*")] == ["1.pid"]

    def test_run_needs_one(self, shell: Shell, candidates: list[str]) -> None:
        assert self.begin(shell, candidates[:1], "echo out") == (guest_scripts.NOT_BEGUN, b"")

    def test_look_finds_it(self, shell: Shell, candidates: list[str]) -> None:
        reported = self.begin(shell, candidates, "exit 7")
        assert shell(guest_scripts.LOOK, "1", *candidates) == reported
        assert shell(guest_scripts.LOOK, "1", *candidates[:1]) == (0, report("unknown"))

    def test_end_finds_it(self, shell: Shell, candidates: list[str]) -> None:
        arguments = ["", "1", TOKEN, "2000", "", "", "", "/bin/sh", "sleep 1000", *candidates]
        made = Path(candidates[1])
        with subprocess.Popen(
            [*shell.words, "-c", guest_scripts.RUN, "qga", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as runner:
            until(lambda: any(made.glob("1.pid.*")), "the command was not begun")
            assert shell(guest_scripts.END, "1", *candidates)[0] == 0
        assert runner.returncode == 0
        assert [path.name for path in made.glob("1.done.*")] == ["1.done.143.kept"]

    def test_end_keeps_a_command_from_being_begun(self, shell: Shell, candidates: list[str]) -> None:
        assert shell(guest_scripts.END, "1", *candidates)[0] == 0
        assert self.begin(shell, candidates, "echo out") == (guest_scripts.NOT_BEGUN, b"")


class TestLook:
    def test_reports_as_run_does(self, shell: Shell) -> None:
        reported = shell.run("echo out; echo err >&2; exit 7")
        assert shell(guest_scripts.LOOK, "1") == (0, reported)

    def test_knows_nothing_of_what_was_never_begun(self, shell: Shell) -> None:
        assert shell(guest_scripts.LOOK, "1") == (0, report("unknown"))

    def test_knows_nothing_without_the_directory(self, shell: Shell) -> None:
        shell.directory /= "none"
        assert shell(guest_scripts.LOOK, "1") == (0, report("unknown"))

    def test_tells_who_runs_from_who_is_gone(self, shell: Shell) -> None:
        with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL) as other:
            (shell.directory / f"1.runner.{other.pid}").touch()
            assert shell(guest_scripts.LOOK, "1") == (0, report("gone"))
            other.kill()
        # It bears the token in its command line, as who runs a command does.
        with subprocess.Popen(["sh", "-c", "read line", TOKEN], stdin=subprocess.PIPE) as runner:
            (shell.directory / f"1.runner.{runner.pid}").touch()
            assert shell(guest_scripts.LOOK, "1") == (0, report("running"))


def test_end_keeps_a_command_from_being_begun(shell: Shell) -> None:
    assert shell(guest_scripts.END, "1")[0] == 0
    status, output = shell(guest_scripts.RUN, "1", "2000", "", "", "", "/bin/sh", "echo")
    assert status != 0
    assert output == b""


def report(words: str) -> bytes:
    return f"qga-report {TOKEN} 1 {words}\n".encode()
