# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of the stock agent: its version and commands, and whether file systems are frozen.

It is learned from forwarded replies, and requested if they do not show it. The list of commands is kept while the stock
agent is away, and stored for the next start.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Mapping, NamedTuple

from guest_agent._protocol import messages, values
from guest_agent._protocol.commands import SILENT, answers_on_success
from guest_agent._protocol.errors import RemoteProtocolError

from . import trust
from .limits import Costs
from .log import Log
from .loop import Loop
from .stock_link import StockLink
from .stream import Data
from .syncs import DELIMITED

_FREEZING = frozenset(("guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list"))
_THAWING = "guest-fsfreeze-thaw"
_CHANGING_STATE = _FREEZING | {_THAWING}
_STATUS = "guest-fsfreeze-status"
INFO = "guest-info"
GET_TIME = "guest-get-time"
# These commands change nothing, so they can be tried if guest-info is refused. Whether guest-sync-delimited is refused
# is known from the beginning of the connection.
_TRIED: Mapping[str, Mapping[str, int]] = {GET_TIME: {}, "guest-ping": {}, "guest-sync": {"id": 1}}
# The replies that are parsed are far shorter: guest-info has about ten kilobytes.
_LONGEST_READ = 256 * 1024


class StockCommand(NamedTuple):
    enabled: bool
    success_response: bool


class StockInfo(NamedTuple):
    """The stock agent's ``guest-info``. ``refused`` is its error if it may not list commands; ``commands`` then has
    only those that were tried.
    """

    version: str
    commands: Mapping[str, StockCommand]
    refused: messages.Refused | None = None


def read_info(reply: messages.Reply) -> StockInfo:
    """Return the contents of a reply to guest-info, without malformed entries."""
    if isinstance(reply, messages.Refused):
        return StockInfo("", MappingProxyType({}), reply)
    value = reply.value if isinstance(reply.value, dict) else {}
    version, listed = value.get("version"), value.get("supported_commands")
    commands = {
        entry["name"]: StockCommand(
            entry.get("enabled") is True,
            # Agents before 1.7 omit it.
            entry["success-response"]
            if isinstance(entry.get("success-response"), bool)
            else answers_on_success(entry["name"]),
        )
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }
    return StockInfo(version if isinstance(version, str) else "", MappingProxyType(commands))


class Memory:
    """The stock agent's last list of commands, stored in a file for the next start. Without a path, nothing is stored.

    The time commands work even while the stock agent hangs. Commands that its administrator has disabled must still be
    disabled then, even if this agent has been restarted.
    """

    def __init__(self, path: str, log: Log) -> None:
        self._path = path
        self._log = log
        self.line = self._read() if path else b""  # the stored line; empty if there is none that can be trusted

    def keep(self, line: bytes) -> None:
        """Store a line, if it has changed. Not to be called while file systems are frozen."""
        if not self._path or line == self.line:
            return
        self.line = line
        try:
            self._write(line)
        except OSError as error:
            self._log.error(f"cannot store the stock agent's commands in '{self._path}': {error.strerror or error}")

    def _read(self) -> bytes:
        try:
            return trust.read(self._path).encode()
        except FileNotFoundError:
            return b""
        except (OSError, UnicodeDecodeError, trust.DistrustError) as error:
            reason = getattr(error, "strerror", None) or error
            self._log.error(f"the stored list of the stock agent's commands was rejected: {reason}")
            return b""

    def _write(self, line: bytes) -> None:
        unfinished = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(line)
            file.flush()
            os.fsync(descriptor)  # a guest may lose power at any time
        os.rename(unfinished, self._path)


class Stock:
    """``on_freed`` is called when the stock agent can take the next request, or has disconnected; ``on_known`` when it
    has listed its commands. ``is_frozen``: file systems are frozen or being frozen, so any write to one may hang.
    ``is_list_frozen``: the list of commands is from that state.
    """

    watched = _CHANGING_STATE

    def __init__(
        self, loop: Loop, path: str, state_directory: str, costs: Costs, log: Log, memory: Memory | None = None
    ) -> None:
        self._log = log
        self._memory = Memory("", log) if memory is None else memory
        # The file that records across a restart that the stock agent has frozen file systems (qga/main.c).
        self._state_file = Path(state_directory) / "qga.state.isfrozen"
        self.is_frozen = False
        self._freeze(self._state_file.exists())
        remembered = _reply(self._memory.line) if self._memory.line else None
        self.info = read_info(remembered) if remembered is not None else None
        self.is_list_frozen = False
        self._is_list_due = False  # the list is from while file systems were frozen and must be requested again
        self._questions: deque[str] = deque()
        self.on_freed: Callable[[], None] = lambda: None
        self.on_known: Callable[[], None] = lambda: None
        self.link = StockLink(loop, path, costs, log, self)

    def _freeze(self, is_frozen: bool) -> None:
        self.is_frozen = self._log.is_silent = is_frozen

    @property
    def is_free(self) -> bool:
        return not self.link.expected and not self._questions

    def answers_on_success(self, command: str) -> bool:
        """Return whether a command has a reply when it succeeds. A command that is known to have none has none,
        whatever the agent lists.
        """
        known = self.info.commands.get(command) if self.info is not None else None
        return command not in SILENT and (known is None or known.success_response)

    # -------------------------------------------------------------------------------------- the link's observer

    def connected(self) -> None:
        self._questions = deque((_STATUS, INFO))

    def sent(self, command: str) -> None:
        if command in _FREEZING:
            self._freeze(True)

    def answered(self, command: str, line: Data) -> None:
        if isinstance(_reply(line), messages.Returned):
            self._freeze(command != _THAWING)
        # A freeze that fails has usually thawed what it had frozen, and a freeze may have had nothing to freeze.
        self._questions.append(_STATUS)

    def freed(self) -> None:
        if self._questions and not self.link.expected and self.link.is_connected:
            command = self._questions.popleft()
            request = messages.request(command, _TRIED.get(command))
            self.link.ask(values.encode(request), command, lambda line: self._learn(command, line))
        if not self.link.is_connected:
            self._questions.clear()
        self.on_freed()

    def _learn(self, command: str, line: Data) -> None:
        reply = _reply(line)
        if reply is None:
            return
        if command == INFO:
            self._take_info(reply, bytes(line))
        elif command in _TRIED:
            self._take_permission(command, isinstance(reply, messages.Returned))
        else:
            self._take_status(reply)

    def _take_info(self, reply: messages.Reply, line: bytes) -> None:
        if self.is_frozen:
            # It lists nearly all commands as disabled now. The list from before is more useful.
            self._is_list_due = True
            if self.info is None:
                self.info, self.is_list_frozen = read_info(reply), True
            self.on_known()
            return
        self._is_list_due = self.is_list_frozen = False
        before, self.info = self.info, read_info(reply)
        self._memory.keep(line)
        if self.info.refused is None:
            self.on_known()
            return
        # The last results count until the commands have been tried again.
        if before is not None and before.refused is not None:
            self.info = self.info._replace(commands=before.commands)
        self._take_permission(DELIMITED, DELIMITED not in self.link.syncs.refused)
        self._questions.extend(_TRIED)

    def _take_permission(self, command: str, is_enabled: bool) -> None:
        if self.info is not None and self.info.refused is not None and not self.is_frozen:
            commands = {**self.info.commands, command: StockCommand(is_enabled, True)}
            self.info = self.info._replace(commands=MappingProxyType(commands))
        if command == [*_TRIED][-1]:
            self.on_known()

    def _take_status(self, reply: messages.Reply) -> None:
        if isinstance(reply, messages.Returned):
            self._freeze(reply.value == "frozen")
        else:
            self._freeze(self._state_file.exists())
        if self._is_list_due and not self.is_frozen:
            self._questions.append(INFO)


def _reply(line: Data) -> messages.Reply | None:
    if len(line) > _LONGEST_READ:
        return None
    try:
        return messages.read_reply(values.decode(bytes(line).strip()))
    except RemoteProtocolError:
        return None
