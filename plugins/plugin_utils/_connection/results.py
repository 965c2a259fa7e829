# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command's limits, timings and result, and the reports of the scripts in ``guest`` on it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...module_utils._protocol.errors import RemoteProtocolError
from ...module_utils._untrusted import visible
from .errors import NoPlaceError, ResultLostError
from .programs import Ended, UnknownProcessError

REPORT = "qga-report"

# The exit status of run.sh and prepare.sh if they could not begin; the reason is on their standard error.
NOT_STARTED = 97


class SessionLimits(NamedTuple):
    """``request`` and ``reply`` are the maximum bytes of input, output or a file in one exchange; as base64 they are a
    third larger on the wire.

    ``output`` is for each stream of a command, ``fetch`` for a fetched file; both are in bytes. ``exec_timeout`` is for
    a whole command or file, in seconds, and infinite for no limit. ``patience`` is the number of seconds that an agent
    may be unavailable during a command.
    """

    request: int
    reply: int
    output: int
    exec_timeout: float
    patience: float
    fetch: int


class Timings(NamedTuple):
    """Timings in seconds.

    ``begin``: after this, a request that has not started its command never will. ``grace``: after ``exec_timeout``, the
    output of a command that ended in time may still be read for so long; and if the agent is unavailable then, this is
    how long the connection waits for it, to kill the command. ``clean`` and ``give_up``: for removing the directory,
    and an incomplete file.
    """

    begin: float = 5.0
    grace: float = 5.0
    clean: float = 2.0
    give_up: float = 5.0


DEFAULT_TIMINGS = Timings()


# A status above 128 probably means one of these signals. Others are left out: programs use those exit statuses, too.
_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


class Finished(NamedTuple):
    """The result of a command. As in shells, its status is above 128 if a signal killed it."""

    status: int
    output: bytes
    errors: bytes

    @property
    def signal_note(self) -> bytes:
        """A line about the signal that killed the command; otherwise empty."""
        number = self.status - 128
        if number not in _SIGNALS:
            return b""
        line = f"the exit status {self.status} means that signal {number} ({_SIGNALS[number]}) killed the command\n"
        return (b"" if self.errors[-1:] in (b"", b"\n") else b"\n") + line.encode("ascii")


class Report(NamedTuple):
    """The report of a script on a command. ``output`` and ``errors`` are the names of streams that are not empty.

    ``name`` is the name of the directory, and ``place`` the number from 0 of the place that it is in.
    """

    state: str
    status: int = 0
    is_kept: bool = True
    output: str = ""
    errors: str = ""
    place: int = 0
    name: str = ""


_WHERE = r"(0|[1-9][0-9]?) (qga-[A-Za-z0-9]{1,64})\Z"
_READY = re.compile(_WHERE)
_DONE = re.compile(r"(0|[1-9][0-9]{0,2}) (kept|lost) (out|-) (err|-) " + _WHERE)


def reported(ended: Ended, token: str, number: str) -> Report:
    """
    :raises NoPlaceError: the script could not begin
    :raises ResultLostError: the script was killed before it was done
    :raises UnknownProcessError: this is the output of another program
    """
    if ended.exit_status == NOT_STARTED:
        reason = stderr_text(ended.errors) or "no reason given"
        raise NoPlaceError(f"the guest has no usable directory for the connection's files: {reason}")
    if ended.signal is not None:
        raise ResultLostError(f"signal {ended.signal} killed the shell in the guest that supervised the command")
    line = ended.output[:1000]
    words = line.decode("utf-8", "replace").rstrip("\n").split(" ", 4)
    if words[:3] != [REPORT, token, number] or len(words) < 4:
        reason = stderr_text(ended.errors) or "no error output"
        raise UnknownProcessError(f"the guest's shell did not report in the expected form: {reason}")
    if words[3] == "ready":
        ready = _READY.match("".join(words[4:]))
        if ready is None:
            raise RemoteProtocolError("the guest's shell reported a directory in an unknown form")
        return Report("ready", place=int(ready.group(1)), name=ready.group(2))
    if words[3] != "done":
        return Report(words[3])
    found = _DONE.match("".join(words[4:]))
    if found is None:
        raise RemoteProtocolError("the guest's shell reported the end of a command in an unknown form")
    status, kept, output, errors, place, name = found.groups()
    return Report("done", int(status), kept == "kept", output.strip("-"), errors.strip("-"), int(place), name)


def stderr_text(data: bytes) -> str:
    """Return standard error as text for a sentence."""
    return visible(data.decode("utf-8", "replace").strip())
