"""A small disk in memory that only programs started for it can see; the machine itself is not changed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def may_be_mounted() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


class SmallDisk:
    """A file system of so many KiB in place of a directory: ``with SmallDisk(path, 16) as disk:``."""

    def __init__(self, path: Path, kib: int) -> None:
        self._path = path
        self._kib = kib

    def __enter__(self) -> SmallDisk:
        # A mount namespace exists as long as a process in it. This process ends with its standard input.
        hold = 'mount -t tmpfs -o "size=$1k" tmpfs "$0" && echo mounted && exec cat'
        command = ["unshare", "--mount", "sh", "-c", hold, str(self._path), str(self._kib)]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "mounted\n":
            self._holder.communicate()
            raise RuntimeError(f"no small disk could be mounted at {self._path}")
        return self

    def __exit__(self, *_what: object) -> None:
        self._holder.communicate()

    @property
    def within(self) -> tuple[str, ...]:
        """Return the beginning of a command that sees the disk. It starts in the root directory."""
        return ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--")

    @property
    def content(self) -> Path:
        """Return a path to the disk's content for processes that do not see the disk."""
        return Path(f"/proc/{self._holder.pid}/root", *self._path.parts[1:])

    def remount(self, options: str) -> None:
        """Change its mount options, such as ``ro`` or a larger ``size=4m``."""
        subprocess.run([*self.within, "mount", "-o", f"remount,{options}", str(self._path)], check=True)
