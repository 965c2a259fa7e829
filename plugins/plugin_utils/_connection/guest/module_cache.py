# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cache of compiled code of Ansible's modules in the guest. It runs there, at the start of a module.

Ansible passes a module and its imports to Python as a zip archive of source code, which Python compiles again for each
task: most of a short task's time. This keeps the compiled code, as Python itself does for files (``__pycache__``).

Compiled code is code, so each user has a private directory, and each file in it must belong to the user. A file's name
is the SHA-256 of the source and of everything else that the code depends on; another SHA-256, of that and the code, is
at its start. Anything unexpected is left alone, and the source is compiled.
"""

# Python 3.8 or newer: the first with a zipimport in Python. All imports here are already loaded or built in: until
# Ansible has removed the working directory from sys.path, it may contain modules of any name.
import marshal
import os
import stat
import sys

MYPY = False
if MYPY:
    from types import CodeType
    from typing import Callable


class Cache:
    """``plain`` compiles a source; ``most`` is the maximum size of all files together in bytes."""

    def __init__(self, path: str, most: int, plain: "Callable[[str, bytes], CodeType]") -> None:
        magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
        self._path = path
        self._most = most
        self._plain = plain
        self._salt = repr((sys.implementation.cache_tag, magic, sys.version, sys.flags.optimize)).encode()
        self._user = os.geteuid()
        self._room = -1  # bytes; unknown until something is written

    def compiled(self, pathname: str, source: bytes) -> "CodeType":
        """Return the code of a source, from the cache if it is there."""
        code = None
        # No descriptor stays open between calls: the process belongs to the module.
        try:
            directory = self.opened()
            try:
                code = self._kept(pathname, source, directory)
            finally:
                os.close(directory)
        except Exception:  # noqa: S110  # the module runs without the cache
            pass
        return self._plain(pathname, source) if code is None else code

    def opened(self) -> int:
        """
        :raises OSError: it is not a directory, or other users have access to it
        """
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        found = os.fstat(directory)
        if found.st_uid == self._user and not found.st_mode & 0o077:
            return directory
        os.close(directory)
        raise OSError

    def _kept(self, pathname: str, source: bytes, directory: int) -> "CodeType | None":
        import hashlib

        digest = hashlib.sha256(self._salt + source)
        name, key = digest.hexdigest(), digest.digest()
        content = self._read(name, directory)
        if content and hashlib.sha256(key + content[32:]).digest() == content[:32]:
            # The checksum matches, and only the user can have written the file.
            code: CodeType = marshal.loads(content[32:])  # noqa: S302
            sys.modules["_imp"]._fix_co_filename(code, pathname)
            return code
        # Warning filters are shared by all threads, so there must not be another thread.
        if sys.dont_write_bytecode or sys.modules["_thread"]._count():
            return None
        import warnings

        with warnings.catch_warnings():
            # Code that warns when it is compiled must warn each time, so it is not cached.
            warnings.simplefilter("error")
            code = self._plain(pathname, source)
        try:
            body = marshal.dumps(code)
            self._write(name, hashlib.sha256(key + body).digest() + body, directory)
        except Exception:  # noqa: S110  # the code is not cached
            pass
        return code

    def _read(self, name: str, directory: int) -> bytes:
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        except FileNotFoundError:
            return b""
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != self._user or found.st_mode & 0o022:
                return b""
            return os.read(file, min(found.st_size, self._most))
        finally:
            os.close(file)

    def _write(self, name: str, content: bytes, directory: int) -> None:
        if self._room < 0:
            used = [os.stat(other, dir_fd=directory, follow_symlinks=False) for other in os.listdir(directory)]
            free = os.fstatvfs(directory)
            left = self._most - sum(other.st_size for other in used)
            self._room = max(0, min(left, free.f_bavail * free.f_frsize // 8))
        size = len(content) + -len(content) % 4096
        if size > self._room:
            self._room = 0
            return
        self._room -= size
        part = f"{name}.{os.urandom(8).hex()}"
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        try:
            try:
                if os.write(file, content) != len(content):
                    raise OSError
            finally:
                os.close(file)
            os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            self._room = 0
            os.unlink(part, dir_fd=directory)
            raise


def begin(places: "list[str]", most: int) -> None:
    """Make zipimport cache its compiled code in the first usable place, if there is one."""
    try:
        zipimport = sys.modules["zipimport"]
        plain = zipimport._compile_source
        if plain.__code__.co_varnames[: plain.__code__.co_argcount] != ("pathname", "source"):
            return
    except Exception:
        return
    for place in places:
        try:
            path = f"{place}/qga-code-{os.geteuid()}"
            cache = Cache(path, most, plain)
            try:  # noqa: SIM105  # contextlib may not be loaded
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            os.close(cache.opened())
        except Exception:  # noqa: S112  # the next one may do
            continue
        zipimport._compile_source = cache.compiled  # type: ignore[attr-defined]
        return
