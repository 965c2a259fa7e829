"""The supervisor, a real stock agent and the extended agent as a program, where all commands are busybox's.

As in Alpine, but for the C library, which is this machine's. They run in a root directory and in namespaces of their
own. Commands that set a clock, run programs or end the machine are blocked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_client import Client
from tests.support.extended_agent import package_parent
from tests.support.init_scripts import STOCK_SCRIPT, program, rendered
from tests.support.until import until

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root directory"),
]

USER, USER_ID = "qemu-ga-extended", 990
BLOCKED = "guest-set-time,guest-exec,guest-shutdown,guest-suspend-ram,guest-suspend-disk,guest-fsfreeze-freeze"
DIRECTORIES = "bin dev etc/default etc/init.d lib lib64 proc run tmp usr/bin usr/lib usr/sbin var/agent"
SETTINGS = """\
[general]
method=unix-listen
path=/tmp/agent.sock
stock-path=/run/extended/stock.sock
stock-memory=/var/agent/stock.json
block-rpcs=guest-update-time
"""
ENTER = """\
mount -t proc proc {root}/proc
for directory in /usr/lib /lib /lib64; do mount --bind -o ro "$directory" "{root}$directory"; done
exec chroot {root} /bin/env -i PATH=/bin /bin/sh -c '/etc/init.d/qemu-guest-agent start; exec sh /lib-agent/supervise'
"""
CAP_SYS_TIME = f"{1 << 25:016x}"


class Alpinelike:
    """A root directory with busybox, both agents and the supervisor in it, which runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in DIRECTORIES.split():
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        (root / "dev/channel").touch()
        os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
        self._copy("busybox", root / "bin/busybox")
        self._copy("qemu-ga", root / "usr/sbin/qemu-ga")
        self._copy("/usr/bin/python3", root / "usr/bin/python3")
        listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout
        for applet in set(listed.split()) - {"busybox"}:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\n{USER}:x:{USER_ID}:{USER_ID}::/:/bin/false\n")
        (root / "etc/group").write_text(f"root:x:0:\n{USER}:x:{USER_ID}:\n")
        shutil.copytree(package_parent(), root / "lib-agent")
        (root / "etc/qemu-ga-extended.conf").write_text(SETTINGS)
        values: dict[str, Any] = {"directory": "/lib-agent", "python": "/usr/bin/python3", "user": USER}
        for name in ("supervise", "stock.sh"):
            (root / "lib-agent" / name).write_text(rendered(f"{name}.j2", Path("/"), **values))
        (root / "etc/default/qemu-guest-agent").write_text(". /lib-agent/stock.sh\n")
        stock = STOCK_SCRIPT.format(root="", qemu_ga=f"/usr/sbin/qemu-ga -b {BLOCKED}")
        program(root / "etc/init.d/qemu-guest-agent", stock)
        script = textwrap.dedent(ENTER).format(root=root)
        self._log = root.with_name("log").open("wb")
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-ec", script],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @staticmethod
    def _copy(command: str, path: Path) -> None:
        found = shutil.which(command)
        if found is None:
            pytest.skip(f"this machine has no {command}")
        shutil.copy2(os.path.realpath(found), path)

    @property
    def socket(self) -> str:
        return str(self.root / "tmp/agent.sock")

    def log(self) -> str:
        words = self.root / "run/extended/last-words"
        return self.root.with_name("log").read_text() + (words.read_text() if words.exists() else "")

    def ask(self, command: str) -> Any:
        """Return the reply; empty if the agent does not answer."""
        try:
            with Client(self.socket) as client:
                line = client.ask(b'{"execute": "%b"}' % command.encode())
        except (OSError, ValueError):
            return {}
        return line

    def run(self, script: str) -> str:
        """Run a script of the inside's shell inside."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        command = ["nsenter", "--mount", "--pid", "--root", f"--target={children[0]}", "/bin/env", "-i", "PATH=/bin"]
        done = subprocess.run([*command, "/bin/sh", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        self._log.close()


@pytest.fixture(name="guest")
def _guest(tmp_path: Path) -> Iterator[Alpinelike]:
    guest = Alpinelike(tmp_path / "root")
    try:
        until(lambda: "return" in guest.ask("guest-get-timezone"), guest.log)
        yield guest
    finally:
        guest.close()


def test_both_agents_are_kept_up_and_what_is_stopped_stays_stopped(guest: Alpinelike) -> None:
    status = guest.run("cat /proc/$(cat /run/extended/agent.pid)/status")
    fields = {key: value.split() for key, _colon, value in (line.partition(":") for line in status.splitlines())}
    assert fields["Uid"] == [str(USER_ID)] * 4
    assert [fields[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")] == [[CAP_SYS_TIME]] * 3
    assert fields["NoNewPrivs"] == ["1"]
    assert "return" in guest.ask("guest-get-clock")

    for pidfile in ("/run/qemu-ga.pid", "/run/extended/agent.pid"):
        before = guest.run(f"cat {pidfile}; kill -KILL $(cat {pidfile})").strip()
        until(lambda: "return" in guest.ask("guest-get-timezone"), guest.log)
        assert guest.run(f"cat {pidfile}").strip() != before

    guest.run("/etc/init.d/qemu-guest-agent stop")
    until(lambda: "it is not running" in str(guest.ask("guest-get-timezone")), guest.log)
    assert "return" in guest.ask("guest-get-clock")
