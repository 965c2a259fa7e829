# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs that run in a guest, from the files in ``guest``: shell scripts, which need a POSIX shell and
``head -c``, and the cache of compiled modules, which is Python.

The output of a command goes to files in a private directory; ``guest/run.sh`` has the theory of operation. The agent
reports the end of a program only once, so without the files a lost reply would be a lost result. Also, replies have a
size limit, but a file can be read in pieces.

Every user of a guest can read the argument list of every process there (and the stock agent copies those of its
programs to syslog: ``guest_exec_get_args`` in qga/commands.c, QEMU 10.0.13). So a script gets its variables as the
first line of its input, from :func:`line_of`, and its argument list is the same in every guest. Unlike JSON, that line
can carry any bytes. The processes that the scripts start have the directory as their working directory and do not know
its name.

Other users can create files in the same places, so a name proves nothing. ``mktemp`` makes the directory, under an
unguessable name. It is recognized by a file in it whose name is the connection's secret, and only if it is a directory
and not a link, belongs to the agent's user, and is closed to all others. Data for a command is stored in files that a
script has created there before, and their names are secrets, too.

Scripts get the connection's directory in the guest, the number of the command, and a token. The token is the secret,
and is returned in the report: ``qga-report TOKEN COMMAND STATE ...``, the first line on standard output. They start as
few programs as possible: in a small guest, starting one takes longer than an exchange with its agent. So ``run.sh``
also makes the directory if there is none yet, and reports its name and the number from 0 of its place.
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

# Seconds for killing what was started.
END_PATIENCE = 5.0

# Bytes of compiled code for each user of a guest.
CACHE_LIMIT = 16 * 1024 * 1024

_COMMENT = re.compile(r"^ *(#.*)?\n", re.MULTILINE)


def source(*names: str) -> str:
    """Return the concatenated text of these files, without comments and empty lines.

    :raises FileNotFoundError: the collection is incomplete; Ansible's loader returns None then
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
RUN_WITH_DIALOG = source("common.sh", "directory.sh", "process.sh", "family.sh", "dialog.sh", "run.sh")
LEAD = source("process.sh", "lead.sh")
LOOK = source("common.sh", "directory.sh", "process.sh", "look.sh")
END = source("common.sh", "directory.sh", "process.sh", "family.sh", "end.sh")
STOP = source("common.sh", "process.sh", "family.sh", "stop.sh")
CLEAN = source("common.sh", "clean.sh")
LINK = source("common.sh", "link.sh")
PUT = source("common.sh", "path.sh", "put.sh")
FETCH = source("common.sh", "path.sh", "fetch.sh")
_MODULE_CACHE = source("module_cache.py")


def script(text: str, variables: Mapping[str, str], places: Iterable[str] = (), data: bytes = b"") -> Program:
    """Return the program that runs a script with its variables, its list of places, and ``data`` for its input.

    :raises InvalidOptionError: as :func:`line_of` does
    """
    return Program("/bin/sh", ("-c", text, "qga"), line_of(variables, places) + data)


def line_of(variables: Mapping[str, str], places: Iterable[str] = ()) -> bytes:
    """Return the line that gives a script its variables, and its list of places.

    :raises InvalidOptionError: one of them has a NUL in it, which no shell supports
    """
    assignments = [f"{name}={quoted(value)}" for name, value in variables.items()]
    line = " ".join([*assignments, "&& set --" if assignments else "set --", *map(quoted, places)]) + "\n"
    if "\0" in line:
        raise InvalidOptionError("a command or path in a guest cannot contain a NUL character", "Remove it.")
    return line.encode("utf-8", "surrogateescape")


def quoted(value: str) -> str:
    """Return the value as one word of :func:`line_of`."""
    return "'" + value.replace("'", "'\"'\"'").replace("\n", "'\"$nl\"'") + "'"


async def ask(
    agent: GuestAgent, text: str, variables: Mapping[str, str], data: bytes = b"", *, deadline: Deadline
) -> Finished:
    """Run a short script. Its result is lost with a lost reply, so it must be safe to repeat.

    :raises CommandTimeoutError: it took too long, and was killed
    :raises ResultLostError: something else killed it
    :raises QgaError: a request to the agent failed
    """
    process = await start(agent, script(text, variables, data=data), deadline)
    try:
        ended = await end_of(agent, process, deadline)
    except QgaError:
        raise
    except BaseException:
        await stop(agent, process)
        raise
    if ended is None:
        await stop(agent, process)
        raise timed_out(deadline.seconds)
    if ended.exit_status is None or ended.is_truncated:
        raise ResultLostError("a script in the guest was killed before it was done")
    return Finished(ended.exit_status, ended.output, ended.errors)


async def stop(agent: GuestAgent, process: int) -> None:
    """Kill a program that was started directly, and all processes that it started. Errors of the agent are ignored."""
    with contextlib.suppress(QgaError):
        await execute(agent, script(STOP, {"process": str(process)}), Deadline(END_PATIENCE))
        await end_of(agent, process, Deadline(END_PATIENCE))


def timed_out(seconds: float) -> CommandTimeoutError:
    return CommandTimeoutError(f"the command timed out after {seconds:g} s and was killed")


# The start of the wrapper of ansible-core 2.17 to 2.21, before its first statement with an effect.
_HEAD = re.compile(
    rb"(?:#[^\n]*\n|\n|from __future__ import annotations\n|import datetime\n)*(?=_ANSIBALLZ_WRAPPER = True\b)"
)
# The end of a command, also of one with privilege escalation, and of one that Ansible has wrapped for SSH
# (ansible/plugins/action/__init__.py, ansible-core 2.19).
_INTERPRETER = re.compile(r"""(?:.*[ /])?(?:platform-)?python[0-9.]*['"]*(?: && sleep 0)?['"]*""", re.DOTALL)


def with_cache(command: str, data: bytes, places: tuple[str, ...]) -> bytes:
    """Return the input of a command, with the module cache added if the command is an interpreter and its input is a
    module in Ansible's wrapper. The cache is in one of the ``places``.
    """
    head = _HEAD.match(data)
    if head is None or _INTERPRETER.fullmatch(command) is None:
        return data
    program = f"{_MODULE_CACHE}begin({[str(place) for place in places]!a}, {CACHE_LIMIT})\n"
    # It goes on an existing line, so that line numbers in tracebacks stay correct. ASCII fits any source encoding.
    # Every Python can parse it, also one that Ansible does not support, which must reach Ansible's own error message.
    line = f'__import__("sys").version_info >= (3, 8) and eval(compile({program!a}, "<cache>", "exec"), {{}}); '
    return data[: head.end()] + line.encode("ascii") + data[head.end() :]
