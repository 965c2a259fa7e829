"""What the roles ask a system first, with files in the place of its os-release."""

from __future__ import annotations

import os
import shutil
import subprocess
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


def describe(directory: Path, shell: str = "sh") -> dict[str, str]:
    """What is said, by its key. Each place that the script looks at has a name in the directory (``PLACES``)."""
    script = SCRIPT
    for place, name in PLACES.items():
        assert place in script
        script = script.replace(place, str(directory / name))
    command = [shell, "sh", "-c", script] if shell == "busybox" else [shell, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=directory)
    assert done.stderr == ""
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def system(directory: Path, text: str, shell: str = "sh") -> tuple[str, str, str]:
    """Families, version and name of a system with such an os-release."""
    (directory / "etc").write_bytes(text.encode("utf-8"))
    said = describe(directory, shell)
    return said["families"], said["version"], said["name"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n', ("debian ", "12", "Debian GNU/Linux")),
        (
            'NAME="Rocky Linux"\nVERSION_ID="9.4"\nID="rocky"\nID_LIKE="rhel centos fedora"\n',
            ("rocky rhel centos fedora", "9", "Rocky Linux"),
        ),
        ("ID=arch\n", ("arch ", "", "")),
        ("", (" ", "", "")),
        ("# ID=comment\n\n;\nID=debian", ("debian ", "", "")),  # the last line has no end
        ('ID=debian\r\nVERSION_ID="11"\r\n', ("debian ", "11", "")),
        ("ID='debian'\nNAME='It says $HOME \\n'\n", ("debian ", "", "It says $HOME \\n")),
        ('NAME="A \\"B\\" \\$C \\`D\\` \\\\ \\x"\n', (" ", "", 'A "B" $C `D` \\ \\x')),
        ("NAME=a\\ b\nVERSION_ID=7\\.5\n", (" ", "7", "a b")),
        ("ID=first\nID=last\n", ("last ", "", "")),
        ("PRETTY_NAME=x\nVARIANT_ID=y\nXID=z\n ID=w\n", (" ", "", "")),
        ("NAME=-n\nID=-e\n", ("-e ", "", "-n")),
        ("NAME=%s%n\\\\c\n", (" ", "", "%s%n\\c")),
        ("NAME=\u00c4rger\n", (" ", "", "\u00c4rger")),
    ],
)
def test_os_release_is_read_as_its_manual_says(
    shell: str, text: str, said: tuple[str, str, str], tmp_path: Path
) -> None:
    assert system(tmp_path, text, shell) == said


@pytest.mark.parametrize("shell", SHELLS)
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
def test_nothing_that_os_release_says_is_run(shell: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text(text + "\n", encoding="utf-8")
    said = describe(tmp_path, shell)
    assert said["uid"] == str(os.getuid())
    assert {"families", "version", "name"} <= said.keys()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_system_without_os_release_says_what_else_there_is(shell: str, tmp_path: Path) -> None:
    said = describe(tmp_path, shell)
    assert said["uid"] == str(os.getuid())
    assert said.get("python") == "full"
    assert not {"families", "version", "name"} & said.keys()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_other_place_is_looked_at_where_the_first_has_none(shell: str, tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("ID=fedora\n", encoding="utf-8")
    assert describe(tmp_path, shell)["families"] == "fedora "
    (tmp_path / "etc").write_text("ID=debian\n", encoding="utf-8")
    assert describe(tmp_path, shell)["families"] == "debian "


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("module", ["json", "ctypes", "sysconfig"])
def test_no_python_of_the_working_directory_is_run(shell: str, module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("open('canary', 'w')\n", encoding="utf-8")
    assert describe(tmp_path, shell)["python"] == "full"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_no_file_is_passed_over(shell: str, tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("ID=fedora\n", encoding="utf-8")
    os.mkfifo(tmp_path / "etc")
    assert describe(tmp_path, shell)["families"] == "fedora "
    (tmp_path / "etc").unlink()
    (tmp_path / "etc").mkdir()
    assert describe(tmp_path, shell)["families"] == "fedora "
    (tmp_path / "etc").rmdir()
    (tmp_path / "etc").symlink_to("nowhere")
    assert describe(tmp_path, shell)["families"] == "fedora "


@pytest.mark.parametrize("shell", SHELLS)
def test_selinux_is_reported_where_the_kernel_has_it_enabled_and_whether_its_modules_can_be_managed(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("id", "sed", "python3", shell):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    assert "selinux" not in describe(tmp_path, shell)
    (tmp_path / "enforce").write_text("0")
    assert describe(tmp_path, shell)["selinux"] == "enabled"
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "semodule").touch(mode=0o755)
    assert describe(tmp_path, shell)["selinux"] == "managed"


# ---------------------------------------------------------------------------------------------------------- its init


def has_systemd(directory: Path) -> None:
    (directory / "systemd").mkdir()


def has_openrc(directory: Path) -> None:
    (directory / "softlevel").write_text("default")


def runs_init(directory: Path, version: str) -> None:
    (directory / "comm").write_text("init\n")
    (directory / "init").write_text(f"#!/bin/sh\necho '{version}'\n")
    (directory / "init").chmod(0o755)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_init_that_runs_is_named(shell: str, tmp_path: Path) -> None:
    assert "init" not in describe(tmp_path, shell)
    runs_init(tmp_path, "SysV init version: 3.06")
    assert describe(tmp_path, shell)["init"] == "sysvinit"
    has_openrc(tmp_path)
    assert describe(tmp_path, shell)["init"] == "openrc"
    has_systemd(tmp_path)
    assert describe(tmp_path, shell)["init"] == "systemd"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("version", ["init (upstart 1.12.1)", "init: must be run as PID 1", ""])
def test_another_program_of_the_name_init_is_not_named(shell: str, version: str, tmp_path: Path) -> None:
    runs_init(tmp_path, version)
    assert "init" not in describe(tmp_path, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_an_init_that_is_installed_and_does_not_run_is_not_named(shell: str, tmp_path: Path) -> None:
    runs_init(tmp_path, "SysV init version: 3.06")
    (tmp_path / "comm").write_text("runit\n")
    assert "init" not in describe(tmp_path, shell)
