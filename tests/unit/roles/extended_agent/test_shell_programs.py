"""The shell programs that the role makes for each init: none has what a guest's shell would stumble over."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.init_scripts import rendered

pytestmark = pytest.mark.slow

PROGRAMS = [
    ("switch.j2", "systemd"),
    ("switch.j2", "sysvinit"),
    ("supervise.j2", "sysvinit"),
    ("stock.sh.j2", "sysvinit"),
    ("qemu-ga-extended.sysvinit.j2", "sysvinit"),
    ("qemu-ga-extended.openrc.j2", "openrc"),
]
CHECKERS = {
    "dash": ("dash", "-n"),
    "busybox": ("busybox", "sh", "-n"),
    # The first line of OpenRC's script names a program that is not a shell.
    "shellcheck": ("shellcheck", "--shell=sh", "--severity=warning"),
}


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(("template", "init"), PROGRAMS)
def test_it_is_posix(template: str, init: str, checker: str, tmp_path: Path) -> None:
    command = CHECKERS[checker]
    if shutil.which(command[0]) is None:
        pytest.skip(f"this machine has no {command[0]}")
    names = ("dropin", "fallback_unit", "socket_unit", "stock_dropin", "stock_unit", "unit", "wanted_link")
    text = rendered(template, tmp_path, init, confirm_seconds=120, **dict.fromkeys(names, "x"))
    done = subprocess.run([*command, "/dev/stdin"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
