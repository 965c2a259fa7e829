# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs that run in a guest, from the files in ``guest``: shell scripts, which need a POSIX shell and
``head -c``, and the cache of compiled modules, which is Python.

What a command writes goes to files in a directory of its own; ``guest/run.sh`` has the theory of operation. The agent
reports the end of a program only once, so that without the files a reply that is lost would be a result that is lost.
And replies have a limit, but a file can be had in pieces.

Everybody in a guest can read the argument list of every process there (and the stock agent copies those of its programs
to syslog: ``guest_exec_get_args`` in qga/commands.c, QEMU 10.0.13). So a script is given its words as the first line of
its input, by :func:`line_of`, and its argument list is the same in every guest. That line, unlike JSON, carries any
bytes. What the scripts start knows the directory as its working directory, and not by its name.

Where the names of others are as good as ours, a name proves nothing. The directory is made by ``mktemp``, under a name
that nobody knows before. It is found again by a file in it whose name is the connection's secret, and only if it is a
directory of the agent's user, no link, that nobody else may look into. What is laid down for a command goes to files
that a script has made there before, under names that are secrets as well.

Scripts are given the connection's directory in the guest, the number of the command, and a token, which is the secret
and comes back in the report: ``qga-report TOKEN COMMAND STATE ...``, the first line on their standard output. They are
sparing of programs: in a small guest, starting one takes longer than an exchange with its agent. So ``run.sh`` makes
the directory as well, if there is none yet, and reports its name and the number from 0 of its place.
"""

from __future__ import annotations

import contextlib
import pkgutil
import re
from typing import Iterable, Mapping

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import InvalidOptionError
from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._protocol.errors import QgaError
from .errors import CommandTimeoutError, ResultLostError
from .programs import Program, end_of, execute, start
from .results import Finished

# Seconds that ending what was begun may last.
END_PATIENCE = 5.0

# The bytes that the compiled code of one user may take in a guest.
MOST_KEPT = 16 * 1024 * 1024

_COMMENT = re.compile(r"^ *(#.*)?\n", re.MULTILINE)


def source(*names: str) -> str:
    """Return the text of these files one after the other, without comments and empty lines.

    :raises FileNotFoundError: the collection is not whole; Ansible's loader returns None then
    """
    text = ""
    for name in names:
        content = pkgutil.get_data(__name__, f"guest/{name}")
        if content is None:
            raise FileNotFoundError(name)
        text += _COMMENT.sub("", content.decode("ascii"))
    return text


PREPARE = source("common.sh", "directory.sh", "prepare.sh")
RUN = source("common.sh", "directory.sh", "process.sh", "run.sh")
RUN_ASKING = source("common.sh", "directory.sh", "process.sh", "family.sh", "dialogue.sh", "run.sh")
LEAD = source("process.sh", "lead.sh")
LOOK = source("common.sh", "directory.sh", "process.sh", "look.sh")
END = source("common.sh", "directory.sh", "process.sh", "family.sh", "end.sh")
STOP = source("common.sh", "process.sh", "family.sh", "stop.sh")
CLEAN = source("common.sh", "clean.sh")
LINK = source("common.sh", "link.sh")
PUT = source("common.sh", "path.sh", "put.sh")
FETCH = source("common.sh", "path.sh", "fetch.sh")
_MODULE_CACHE = source("module_cache.py")


def script(text: str, words: Mapping[str, str], places: Iterable[str] = (), data: bytes = b"") -> Program:
    """Return the program that runs a script with its words, its list of places, and ``data`` for its input.

    :raises InvalidOptionError: as :func:`line_of` does
    """
    return Program("/bin/sh", ("-c", text, "qga"), line_of(words, places) + data)


def line_of(words: Mapping[str, str], places: Iterable[str] = ()) -> bytes:
    """Return the line that gives a script its words, and its list of places.

    :raises InvalidOptionError: one of them has a NUL in it, which no shell can carry
    """
    assignments = [f"{name}={quoted(value)}" for name, value in words.items()]
    line = " ".join([*assignments, "&& set --" if assignments else "set --", *map(quoted, places)]) + "\n"
    if "\0" in line:
        raise InvalidOptionError("a command or a path in a guest cannot have a NUL character in it", "Remove it.")
    return line.encode("utf-8", "surrogateescape")


def quoted(value: str) -> str:
    """Return the value as one word of :func:`line_of`."""
    return "'" + value.replace("'", "'\"'\"'").replace("\n", "'\"$nl\"'") + "'"


async def ask(
    agent: GuestAgent, text: str, words: Mapping[str, str], data: bytes = b"", *, deadline: Deadline
) -> Finished:
    """Run a short script. Its result is as easily lost as a reply, so it has to be one that may be run again.

    :raises CommandTimeoutError: it took too long, and was ended
    :raises ResultLostError: something else ended it
    :raises QgaError: the agent could not be asked
    """
    process = await start(agent, script(text, words, data=data), deadline)
    try:
        ended = await end_of(agent, process, deadline)
    except QgaError:
        raise
    except BaseException:
        await stop(agent, process)
        raise
    if ended is None:
        await stop(agent, process)
        raise too_slow(deadline.seconds)
    if ended.exit_status is None or ended.is_truncated:
        raise ResultLostError("a short script in the guest was ended before it was done")
    return Finished(ended.exit_status, ended.output, ended.errors)


async def stop(agent: GuestAgent, process: int) -> None:
    """End a program that was started directly, and all that it has begun. The agent may not answer."""
    with contextlib.suppress(QgaError):
        await execute(agent, script(STOP, {"process": str(process)}), Deadline(END_PATIENCE))
        await end_of(agent, process, Deadline(END_PATIENCE))


def too_slow(seconds: float) -> CommandTimeoutError:
    return CommandTimeoutError(f"the command did not end within {seconds:g} s, and was ended")


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
    program = f"{_MODULE_CACHE}begin({[str(place) for place in places]!a}, {MOST_KEPT})\n"
    # On a line that was there: lines keep their numbers, which tracebacks have. ASCII, whatever the source's encoding.
    # Every Python can read it, also one that Ansible refuses to run modules with, which is to say so itself.
    line = f'__import__("sys").version_info >= (3, 8) and eval(compile({program!a}, "<cache>", "exec"), {{}}); '
    return data[: head.end()] + line.encode("ascii") + data[head.end() :]
