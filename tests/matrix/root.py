# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root directory of another Debian release, for its Python: made once, and entered by chroot."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.collection import PACKAGE, copy_sources
from tests.vm.image import debian_mirror
from tests.vm.paths import cache_dir

# Raise it when this file makes something else of the same release and packages.
VERSION = 1

# libvirt-python comes from Debian: to build it takes a compiler and libvirt's headers.
PACKAGES = ("ca-certificates", "git", "python3", "python3-libvirt", "python3-venv")
_WITHOUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

# What makes pip find its packages here makes it find them there. ansible-test passes none of pip's variables on.
_LENT = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/xdg/pip")
_LENT_FROM_HOME = (".config/pip", ".pip")
_HOME = "root"

# The mounts are in a namespace of their own, and gone with it. The shell stays: as process 1 it takes what a command
# left behind, and no test expects to be process 1.
_ENTER = """
set -e
root=$1 directory=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
chroot "$root" sh -c 'cd "$0" && exec "$@"' "$directory" "$@" || exit $?
"""


class MatrixError(Exception):
    """A combination could not be tried. The message says what to do."""


@dataclass(frozen=True)
class Root:
    """A root in the cache. What is done in it is done under its lock."""

    release: str

    @property
    def directory(self) -> Path:
        made_of = repr((self.release, PACKAGES, _WITHOUT, VERSION))
        return cache_dir() / f"root-{self.release}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"

    @property
    def lock(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.lock")

    @property
    def sources(self) -> Path:
        """The collection, as the root has it."""
        return Path("/src") / PACKAGE

    @property
    def kept(self) -> Path:
        return Path("/var/tmp")  # noqa: S108  # in the root, which is root's alone

    def prepare(self, log: Path, say: Callable[[str], None]) -> None:
        """Make the root unless it is there, lend it this machine's network, and copy the sources into it."""
        _require_means()
        if not self.directory.is_dir():
            say(f"making a root of {self.release} (about a minute, then it is kept)")
            _make(self, log)
        for path in (Path(each) for each in _LENT):
            _lend(path, self.directory / path.relative_to("/"))
        for name in _LENT_FROM_HOME:
            _lend(Path.home() / name, self.directory / _HOME / name)
        copy = copy_sources(self.directory / "src")
        # ansible-test and the tests ask git which files there are.
        subprocess.run(["git", "init", "--quiet", str(copy)], check=True)

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
        """Run a command in the sources; its exit status."""
        passed_on = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        with log.open("ab") as output:
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            return subprocess.run(
                [
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                    *("sh", "-c", _ENTER, "sh", str(self.directory), str(self.sources)),
                    *command,
                ],
                env={
                    **passed_on,
                    "HOME": f"/{_HOME}",
                    "LANG": "C.UTF-8",
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

    def virtual_environment(self, name: str, requirements: Sequence[str], log: Path) -> Path:
        """An environment that sees Debian's libvirt-python; made anew if it is to hold something else.

        :raises MatrixError: pip failed
        """
        inside = Path("/venv") / name
        ready = self.directory / inside.relative_to("/") / ".ready"
        wanted = "\n".join(requirements)
        if not (ready.is_file() and ready.read_text() == wanted):
            shutil.rmtree(ready.parent, ignore_errors=True)
            for command in (
                ["python3", "-m", "venv", "--system-site-packages", str(inside)],
                [f"{inside}/bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements],
            ):
                if self.run(command, log) != 0:
                    raise MatrixError(f"{command[0]} failed in {self.directory}; see {log}")
            ready.write_text(wanted)
        return inside


def _require_means() -> None:
    if shutil.which("mmdebstrap") is None:
        raise MatrixError("Other releases' roots are made by mmdebstrap: apt-get install mmdebstrap")
    if os.geteuid() != 0:
        raise MatrixError("Other releases' roots belong to root, and only root can enter them: run this as root.")


def _make(root: Root, log: Path) -> None:
    # It is there whole or not at all.
    part = root.directory.with_name(f"{root.directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    command = [
        *("mmdebstrap", "--mode=root", "--variant=minbase"),
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude={path}" for path in _WITHOUT),
        root.release,
        str(part),
        f"deb {debian_mirror()} {root.release} main",
    ]
    with log.open("ab") as output:
        # A namespace of its own: if it is killed, no mount is left below what is removed next time.
        status = subprocess.run(
            ["unshare", "--mount", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status != 0:
        raise MatrixError(f"mmdebstrap made no root of {root.release}; see {log}")
    part.rename(root.directory)


def _lend(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
