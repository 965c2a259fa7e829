"""The role extended_agent's shell programs for guests without systemd, outside of a guest.

All of their paths are below a directory of the test. They run in this machine's shells, and in busybox with only its
own commands, as in Alpine.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible.plugins.filter import core as filters

from tests.support.role_package import ROOT

TEMPLATES = ROOT / "roles/extended_agent/templates"
# As in Debian. Alpine's script consists of variables that OpenRC's program reads.
STOCK_SCRIPT = """\
#!/bin/sh
[ -r {root}/etc/default/qemu-guest-agent ] && . {root}/etc/default/qemu-guest-agent
echo "$1" >>{root}/stock.calls
case $1 in
    start) {qemu_ga} -d -t {root}/run -f {root}/run/qemu-ga.pid -m "${{TRANSPORT%%:*}}" -p "${{TRANSPORT#*:}}" ;;
    stop) test ! -e {root}/run/qemu-ga.pid || kill "$(cat {root}/run/qemu-ga.pid)" ;;
esac
"""


# Tests are repeated with the shell and commands of each.
USERLANDS = ["dash", "busybox", pytest.param("bash", marks=pytest.mark.thorough)]


class ShellGuest:
    """A directory in place of a guest, ``root``, with the init script of a stock agent, and one of ``USERLANDS``.

    The test is skipped if this machine lacks it. busybox's commands become links.
    """

    def __init__(self, directory: Path, userland: str) -> None:
        found = shutil.which(userland)
        if found is None:
            pytest.skip(f"{userland} is not installed")
        self.shell = [found]
        self.environment = dict(os.environ)
        if userland == "busybox":
            self.shell.append("sh")
            self.environment["PATH"] = str(directory / "applets")
            (directory / "applets").mkdir()
            for applet in subprocess.run([found, "--list"], capture_output=True, text=True, check=True).stdout.split():
                (directory / "applets" / applet).symlink_to(found)
        self.root = root = directory / "g"
        for name in ("bin", "dev", "etc/init.d", "etc/default", "lib", "run", "var"):
            (root / name).mkdir(parents=True)
        (root / "dev/channel").touch()
        (root / "lib/stock.sh").write_text(rendered("stock.sh.j2", root))
        program(root / "etc/init.d/qemu-guest-agent", STOCK_SCRIPT.format(root=root, qemu_ga=shutil.which("qemu-ga")))


def rendered(template: str, root: Path, init: str = "sysvinit", **changed: Any) -> str:
    """Return a template as it would be in a guest, with its paths below ``root``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # as in Ansible
    )
    environment.filters.update(filters.FilterModule().filters())
    values: Mapping[str, Any] = {
        "channel": f"{root}/dev/channel",
        "config": f"{root}/etc/qemu-ga-extended.conf",
        "directory": f"{root}/lib",
        "init_script": f"{root}/etc/init.d/qemu-ga-extended",
        "python": f"{root}/bin/agent",
        "state_directory": "agent",
        "stock_script": f"{root}/etc/init.d/qemu-guest-agent",
        "stock_settings": f"{root}/var/stock.sh",
        "stock_socket": f"{root}/run/extended/stock.sock",
        "switch_directory": f"{root}/run/switch",
        "user": getpass.getuser(),
        **changed,
    }
    text = environment.get_template(template).render(
        {f"extended_agent_{name}": value for name, value in values.items()}, qga_deployment_system={"init": init}
    )
    for path in ("/dev/rtc0", "/run/qemu-ga.pid", "/run/openrc", "/run/$service.pid", "/etc/conf.d/", "/etc/default/"):
        text = text.replace(path, f"{root}{path}")
    # A test chooses the commands.
    text = re.sub("^PATH=.*", "", text, flags=re.MULTILINE)
    return text.replace("/var/lib/agent", f"{root}/var/agent")


def program(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
