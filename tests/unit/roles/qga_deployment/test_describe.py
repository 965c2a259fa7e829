"""The roles' description of a system, with test files in place of os-release and others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.role_package import ROOT

SCRIPT = (ROOT / "roles/qga_deployment/files/describe.sh").read_text(encoding="utf-8")
SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox", "ksh", "zsh") if shutil.which(shell)]

PLACES = {
    "/usr/lib/os-release": "lib",
    "/etc/os-release": "etc",
    "/sys/fs/selinux/enforce": "enforce",
    "/usr/sbin:/sbin": "sbin",
    "/run/systemd/system": "systemd",
    "/run/openrc/softlevel": "softlevel",
    "/proc/1/comm": "comm",
    "/sbin/init": "init",
}

pytestmark = pytest.mark.slow

Describe = Callable[[], dict[str, str]]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def describe(shell: str, tmp_path: Path) -> Describe:
    """Return the output by key. Each file that the script reads has a name in the test's directory (``PLACES``)."""
    script = SCRIPT
    for place, name in PLACES.items():
        assert place in script
        script = script.replace(place, str(tmp_path / name))
    command = [shell, *(["sh"] if shell == "busybox" else []), "-c", script]

    def describe() -> dict[str, str]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=tmp_path)
        assert done.stderr == ""
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    return describe


@pytest.mark.parametrize(
    ("text", "families", "version", "name"),
    [
        ('NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n', "debian ", "12", "Debian GNU/Linux"),
        ('VERSION_ID="9.4"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', "rocky rhel centos fedora", "9", ""),
        ("", " ", "", ""),
        ("# ID=comment\n\n;\nID=debian", "debian ", "", ""),  # the last line has no newline
        ('ID=debian\r\nVERSION_ID="11"\r\n', "debian ", "11", ""),
        ("ID='debian'\nNAME='It says $HOME \\n'\n", "debian ", "", "It says $HOME \\n"),
        ('NAME="A \\"B\\" \\$C \\`D\\` \\\\ \\x"\n', " ", "", 'A "B" $C `D` \\ \\x'),
        ("NAME=a\\ b\nVERSION_ID=7\\.5\n", " ", "7", "a b"),
        ("ID=first\nID=last\n", "last ", "", ""),
        ("PRETTY_NAME=x\nVARIANT_ID=y\nXID=z\n ID=w\n", " ", "", ""),
        ("NAME=-n\nID=-e\n", "-e ", "", "-n"),
        ("NAME=%s%n\\\\c\n", " ", "", "%s%n\\c"),
        ("NAME=\u00c4rger\n", " ", "", "\u00c4rger"),
    ],
)
def test_os_release_is_parsed_as_documented(
    describe: Describe, tmp_path: Path, text: str, families: str, version: str, name: str
) -> None:
    (tmp_path / "etc").write_bytes(text.encode("utf-8"))
    assert describe().items() >= {"families": families, "version": version, "name": name}.items()


@pytest.mark.parametrize(
    "text",
    [
        "ID=$(touch canary)",
        'ID="`touch canary`"',
        "touch canary",
        "ID=debian; touch canary",
        'NAME="x"; touch canary; "y"',
        "NAME='x'$(touch canary)",
        "exit 0",
        "set -e\nfalse",
        "echo() { touch canary; }",
        "PATH=/nowhere\nprintf=1",
        "NAME=x\\\ntouch canary",
    ],
)
def test_nothing_in_os_release_is_run(describe: Describe, text: str, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text(text + "\n", encoding="utf-8")
    found = describe()
    assert found["uid"] == str(os.getuid())
    assert {"families", "version", "name"} <= found.keys()
    assert not (tmp_path / "canary").exists()


def test_the_second_file_is_read_if_the_first_is_not_a_regular_file(describe: Describe, tmp_path: Path) -> None:
    found = describe()
    assert (found["uid"], found["python"]) == (str(os.getuid()), "full")
    assert not {"families", "version", "name"} & found.keys()
    first = tmp_path / "etc"
    (tmp_path / "lib").write_text("ID=fedora\n", encoding="utf-8")
    assert describe()["families"] == "fedora "
    os.mkfifo(first)
    assert describe()["families"] == "fedora "
    first.unlink()
    first.mkdir()
    assert describe()["families"] == "fedora "
    first.rmdir()
    first.symlink_to("nowhere")
    assert describe()["families"] == "fedora "
    first.unlink()
    first.write_text("ID=debian\n", encoding="utf-8")
    assert describe()["families"] == "debian "


@pytest.mark.parametrize("module", ["json", "ctypes", "sysconfig"])
def test_no_python_file_of_the_working_directory_is_run(describe: Describe, module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("open('canary', 'w')\n", encoding="utf-8")
    assert describe()["python"] == "full"
    assert not (tmp_path / "canary").exists()


def test_selinux_is_reported_if_enabled_and_whether_its_modules_can_be_managed(
    describe: Describe, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("id", "sed", "python3", shell):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    assert "selinux" not in describe()
    (tmp_path / "enforce").write_text("0")
    assert describe()["selinux"] == "enabled"
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "semodule").touch(mode=0o755)
    assert describe()["selinux"] == "managed"


# ---------------------------------------------------------------------------------------------------------- its init


def runs_init(directory: Path, version: str) -> None:
    (directory / "comm").write_text("init\n")
    (directory / "init").write_text(f"#!/bin/sh\necho '{version}'\n")
    (directory / "init").chmod(0o755)


def test_the_running_init_is_reported(describe: Describe, tmp_path: Path) -> None:
    assert "init" not in describe()
    runs_init(tmp_path, "SysV init version: 3.06")
    assert describe()["init"] == "sysvinit"
    (tmp_path / "comm").write_text("runit\n")  # sysvinit is installed but not running
    assert "init" not in describe()
    (tmp_path / "softlevel").write_text("default")
    assert describe()["init"] == "openrc"
    (tmp_path / "systemd").mkdir()
    assert describe()["init"] == "systemd"


@pytest.mark.parametrize("version", ["init (upstart 1.12.1)", "init: must be run as PID 1", ""])
def test_other_programs_called_init_are_not_reported(describe: Describe, version: str, tmp_path: Path) -> None:
    runs_init(tmp_path, version)
    assert "init" not in describe()
