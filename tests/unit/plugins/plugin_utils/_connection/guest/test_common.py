from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts

from tests.support.guest_scripts import COMMON, Shell, running

pytestmark = pytest.mark.slow


class TestVariables:
    @pytest.mark.parametrize(
        "value",
        [
            *(b"", b"two\nlines\n\n", b"-n", "\u00fc\u4f60".encode(), bytes(range(1, 256))),
            b'it\'s "quoted" $HOME `id` \\ \\n ~ * ; #',
        ],
    )
    def test_can_have_any_bytes_before_the_input(self, shell: Shell, value: bytes) -> None:
        word = value.decode("utf-8", "surrogateescape")
        shell.places = [word, "last"]
        status, output = shell(COMMON + """printf '%s|' "$v" "$@"; cat""", b"in\0put\n", v=word)
        assert (status, output) == (0, value + b"|" + value + b"|last|in\0put\n")

    def test_are_rejected_if_they_are_incomplete(self, shell: Shell) -> None:
        line = shell.line(**running("echo done")).rstrip(b"\n")
        done = subprocess.run([*shell.words, "-c", scripts.RUN, "qga"], input=line, capture_output=True, check=False)
        assert done.returncode != 0
        assert done.stdout == b""


# Directories that only some systems have, and programs in them.
NIXOS = ("run/wrappers/bin", "run/current-system/sw/bin")
GUIX = ("run/privileged/bin", "run/current-system/profile/sbin", "run/current-system/profile/bin")
OLD_GUIX = ("run/setuid-programs", "run/current-system/profile/bin")
NIX_ELSEWHERE = ("nix/var/nix/profiles/default/bin",)
NETBSD = ("usr/pkg/sbin", "usr/pkg/bin")


class TestPath:
    """On systems with programs in other places. Their directories are created below a stand-in for the root."""

    @staticmethod
    def has(shell: Shell, directories: Iterable[str], path: str = "/store/bin") -> list[str]:
        """Return the PATH of a command there, without the stand-in for the root."""
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

    def test_has_the_directories_of_all_systems(self, shell: Shell) -> None:
        usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        assert self.has(shell, ()) == ["/store/bin", *usual]
        assert self.has(shell, (), "/usr/bin:/bin")[:2] == ["/usr/bin", "/bin"]

    @pytest.mark.parametrize("system", [NIXOS, GUIX, OLD_GUIX, NIX_ELSEWHERE, NETBSD], ids=" ".join)
    def test_has_the_directories_that_exist_on_the_system(self, shell: Shell, system: tuple[str, ...]) -> None:
        path = self.has(shell, system)
        assert {f"/{name}" for name in system} <= set(path)
        assert len(path) == len(set(path)) == 7 + len(system)

    @pytest.mark.parametrize(("wrappers", "programs"), [NIXOS, GUIX[::2], OLD_GUIX])
    @pytest.mark.parametrize("before", ["", "/bin:", "/bin:/run/wrappers/bin:", "/run/wrappers/bin:"])
    def test_has_programs_with_setuid_bits_first(self, shell: Shell, wrappers: str, programs: str, before: str) -> None:
        path = self.has(shell, (wrappers, programs), f"{before}/store/bin")
        assert path[0] == f"/{wrappers}"
        assert path.count(f"/{programs}") == 1


class TestHome:
    """As a daemon gets it: none, the kernel's or rc's ``/``, or a real one."""

    @staticmethod
    def found(shell: Shell, script: str, environment: dict[str, str]) -> list[str]:
        command = [*shell.words, "-c", script + 'printf "%s\\n" "$HOME" ~ "$PWD" "${USER-none}" "${LOGNAME-none}"']
        done = subprocess.run(command, input="\n", capture_output=True, check=True, text=True, env=environment)
        return done.stdout.splitlines()

    def test_of_the_agent_is_kept(self, shell: Shell, tmp_path: Path) -> None:
        found = self.found(shell, COMMON, {"HOME": str(tmp_path), "USER": "who"})
        assert found == [*[str(tmp_path)] * 3, "who", "none"]

    @pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "/"}], ids=str)
    def test_is_looked_up_if_the_agent_has_none(self, shell: Shell, environment: dict[str, str]) -> None:
        user = pwd.getpwuid(os.getuid())
        assert self.found(shell, COMMON, environment) == [*[user.pw_dir] * 3, *[user.pw_name] * 2]
        # For a user without one it is the root, or bash's own default.
        for name in ("", "nobody-of-that-name"):
            script = COMMON.replace("-O /root", "-O /none").replace("id -un", f"echo {name}")
            home, *same = self.found(shell, script, environment)[:3]
            assert same == [home] * 2
            assert home in ("/", user.pw_dir)
