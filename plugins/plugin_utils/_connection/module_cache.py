# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiled code of Ansible's modules, kept in the guest.

Ansible gives Python a module and all that it imports as a zip archive of source code, which Python compiles anew for
each task: most of a short task's time. Here it gets a few lines before, by which it keeps what it has compiled, as it
does by itself for files (``__pycache__``).

Compiled code is code, so each user has a directory of their own, into which nobody else may look or write, and each
file in it is the user's own. Its name is the SHA-256 of the source and of what else the code depends on; another one,
over that and the code, stands at its beginning. Whatever is not as it should be is left alone, and the source compiled.
"""

from __future__ import annotations

import re

MOST_KEPT = 16 * 1024 * 1024

# It has to begin under every Python, if only to do nothing: so the words of Python 2, too. All that is imported is
# loaded already or built in, until Ansible has taken the working directory out of sys.path.
_PRELUDE = r"""
import marshal, os, stat, sys

def begin(places, most):
    import _imp, _thread
    zipimport = sys.modules["zipimport"]
    plain = zipimport._compile_source
    if plain.__code__.co_varnames[:plain.__code__.co_argcount] != ("pathname", "source"):
        return
    magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    salt = repr((sys.implementation.cache_tag, magic, sys.version, sys.flags.optimize)).encode()
    user = os.geteuid()
    room = []

    def opened(path):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        found = os.fstat(directory)
        if found.st_uid == user and not found.st_mode & 0o077:
            return directory
        os.close(directory)
        raise OSError

    def read(name, directory):
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        except FileNotFoundError:
            return b""
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != user or found.st_mode & 0o022:
                return b""
            return os.read(file, min(found.st_size, most))
        finally:
            os.close(file)

    def write(name, content, directory):
        size = len(content) + -len(content) % 4096
        if not room:
            used = [os.stat(other, dir_fd=directory, follow_symlinks=False) for other in os.listdir(directory)]
            free = os.fstatvfs(directory)
            room.append(min(most - sum(other.st_size for other in used), free.f_bavail * free.f_frsize // 8))
        room[0] -= size
        if room[0] < 0:
            return
        part = "%s.%s" % (name, os.urandom(8).hex())
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        try:
            try:
                if os.write(file, content) != len(content):
                    raise OSError
            finally:
                os.close(file)
            os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            room[0] = 0
            os.unlink(part, dir_fd=directory)
            raise

    def kept(pathname, source, directory):
        import hashlib
        key = hashlib.sha256(salt + source)
        name, key = key.hexdigest(), key.digest()
        content = read(name, directory)
        if content and hashlib.sha256(key + content[32:]).digest() == content[:32]:
            code = marshal.loads(content[32:])
            _imp._fix_co_filename(code, pathname)
            return code
        # Filters of warnings are everybody's.
        if sys.dont_write_bytecode or _thread._count():
            return None
        import warnings
        with warnings.catch_warnings():
            # Who is warned of something when it is compiled has to be warned each time.
            warnings.simplefilter("error")
            code = plain(pathname, source)
        try:
            body = marshal.dumps(code)
            write(name, hashlib.sha256(key + body).digest() + body, directory)
        except Exception:
            pass
        return code

    # Nothing stays open in between: the process is the module's.
    def compiled(pathname, source):
        code = None
        try:
            directory = opened(path)
            try:
                code = kept(pathname, source, directory)
            finally:
                os.close(directory)
        except Exception:
            pass
        return plain(pathname, source) if code is None else code

    for place in places:
        path = "%s/qga-code-%d" % (place, user)
        try:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            os.close(opened(path))
        except Exception:
            continue
        zipimport._compile_source = compiled
        break

try:
    begin(PLACES, MOST)
except Exception:
    pass
"""

# How the wrapper of ansible-core 2.17 to 2.21 begins, before anything is done in it.
_HEAD = re.compile(
    rb"(?:#[^\n]*\n|\n|from __future__ import annotations\n|import datetime\n)*(?=_ANSIBALLZ_WRAPPER = True\b)"
)
# The last word of a command, also of one that is another user's, and of one that Ansible has wrapped for SSH
# (ansible/plugins/action/__init__.py, ansible-core 2.19).
_INTERPRETER = re.compile(r"""(?:.*[ /])?(?:platform-)?python[0-9.]*['"]*(?: && sleep 0)?['"]*""", re.DOTALL)


def with_cache(command: str, data: bytes, places: tuple[str, ...]) -> bytes:
    """The input of a command with what keeps compiled code in one of the ``places``, if the command is an interpreter
    and its input a module as Ansible makes it; as it is otherwise.
    """
    head = _HEAD.match(data)
    if head is None or _INTERPRETER.fullmatch(command) is None:
        return data
    program = _PRELUDE.replace("PLACES, MOST", f"{[str(place) for place in places]!a}, {MOST_KEPT}")
    # On a line that was there: lines keep their numbers, which tracebacks tell. ASCII, whatever the source's encoding.
    line = f"exec({program!a}, {{}}); ".encode("ascii")
    return data[: head.end()] + line + data[head.end() :]
