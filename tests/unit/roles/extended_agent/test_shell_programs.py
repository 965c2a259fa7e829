"""The shell programs that the role creates for each init work in any POSIX shell."""

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


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize(("template", "init"), PROGRAMS)
def test_it_is_posix(template: str, init: str, tmp_path: Path) -> None:
    names = ("dropin", "fallback_unit", "socket_unit", "stock_dropin", "stock_unit", "unit", "wanted_link")
    text = rendered(template, tmp_path, init, confirm_seconds=120, **dict.fromkeys(names, "x"))
    # The first line of OpenRC's script does not name a shell.
    command = ["shellcheck", "--shell=sh", "--severity=warning", "/dev/stdin"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
