# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command: its limits, how long is waited for it, its result, and the reports of the scripts in ``guest`` on it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...module_utils._protocol.errors import RemoteProtocolError
from ...module_utils._untrusted import visible
from .errors import NoPlaceError, ResultLostError
from .programs import Ended, UnknownProcessError

REPORT = "qga-report"

# What run.sh and prepare.sh exit with if they could not begin, besides saying why.
NOT_BEGUN = 97


class Limits(NamedTuple):
    """``request`` and ``reply`` are the bytes of input, output or a file that one exchange carries at the most; on the
    wire, as base64, they are a third more.

    ``output`` is for each stream of a command, ``fetch`` for a file that is fetched; both are in bytes.
    ``exec_timeout`` is for all of a command, or for a file, in seconds, and infinite for none; ``patience`` is how long
    an agent may be away in the middle of a command.
    """

    request: int
    reply: int
    output: int
    exec_timeout: float
    patience: float
    fetch: int


class Timings(NamedTuple):
    """In seconds.

    ``begin``: a request that has not begun its command by then does not any more. ``grace``: what a command
    that ended in time has written may still be read for so long after that time; and if the agent is away when it is
    over, that is how long it is waited for, to end the command. ``clean``, ``give_up``: for removing the directory, and
    half a file.
    """

    begin: float = 5.0
    grace: float = 5.0
    clean: float = 2.0
    give_up: float = 5.0


USUAL = Timings()


# Of these it is likely that a status above 128 stands for them; the others are exit statuses of programs, too.
_DEADLY = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


class Finished(NamedTuple):
    """The result of a command. Its status is above 128, as shells have it, if a signal ended it."""

    status: int
    output: bytes
    errors: bytes

    @property
    def epitaph(self) -> bytes:
        """A line about a command that a signal ended; empty for others."""
        number = self.status - 128
        if number not in _DEADLY:
            return b""
        line = f"signal {number} ({_DEADLY[number]}) ended the command, by its exit status {self.status}\n"
        return (b"" if self.errors[-1:] in (b"", b"\n") else b"\n") + line.encode("ascii")


class Report(NamedTuple):
    """The report of a script on a command. ``output`` and ``errors`` are the names of streams, if they are not empty.

    ``name`` is that of the directory, in the place of that number.
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
    :raises ResultLostError: it was ended before it was done
    :raises UnknownProcessError: it is another program's output
    """
    if ended.exit_status == NOT_BEGUN:
        raise NoPlaceError(f"the guest cannot keep a command, and said: {said(ended.errors) or 'nothing'}")
    if ended.signal is not None:
        raise ResultLostError(f"signal {ended.signal} ended the shell in the guest that looked after the command")
    line = ended.output[:1000]
    words = line.decode("utf-8", "replace").rstrip("\n").split(" ", 4)
    if words[:3] != [REPORT, token, number] or len(words) < 4:
        it_said = said(ended.errors) or "nothing"
        raise UnknownProcessError(f"the guest's shell did not report as it should; it said: {it_said}")
    if words[3] == "ready":
        ready = _READY.match("".join(words[4:]))
        if ready is None:
            raise RemoteProtocolError("the guest's shell reported of a directory in no known way")
        return Report("ready", place=int(ready.group(1)), name=ready.group(2))
    if words[3] != "done":
        return Report(words[3])
    found = _DONE.match("".join(words[4:]))
    if found is None:
        raise RemoteProtocolError("the guest's shell reported of the end of a command in no known way")
    status, kept, output, errors, place, name = found.groups()
    return Report("done", int(status), kept == "kept", output.strip("-"), errors.strip("-"), int(place), name)


def said(data: bytes) -> str:
    """Return what was written to standard error, for a sentence."""
    return visible(data.decode("utf-8", "replace").strip())
