# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue of guest agent commands: the stock agent's 44 and the extended agent's 3 new ones.

Source of every fact about a stock command: ``qga/qapi-schema.json`` of QEMU 10.0.13. The one-sentence descriptions are
our own. The extended agent completes a fourth command, ``guest-info``, which keeps its stock entry. A new
command of the extended agent also has a function in its own_commands.py, and a row in its policy.py.

Conventions:

- Types are QAPI type names; ``[T]`` is a list of T, ``T | U`` is either.
- ``returns`` is ``NO_DATA`` (``"none"``) for a command whose reply carries nothing, ``{"return": {}}``.
- ``since`` is QEMU's version for a stock command and this collection's for an extended one.
- ``condition`` is the schema's build condition; empty: every build of the agent has the command.

What ``guest-info`` says about ``enabled`` and ``success-response`` comes from the agent itself and goes
before this catalogue. The catalogue answers where the agent is silent (before 1.7) or was not asked.

The types that only the extended agent returns (``*`` = may be absent):

- ``GuestUpdateTime``: before: int (ns), after: int (ns), *duration: int (ns), *rtc-error: str
- ``GuestClock``: received: int (ns), transmitted: int (ns), synchronized: bool, max-error: int (ns),
  *slewing: int (ns), *slewable: bool, *source: str
- ``GuestCommandInfo``: name: str, enabled: bool, success-response: bool, since: str, description: str,
  arguments: [{name: str, type: str, optional: bool}], returns: str, origin: str ("stock" or "extended")
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Literal, Mapping, NamedTuple

NO_DATA = "none"

# "path: str", "*mode: str", "*arg: [str]", "nanoseconds: int | str"
_ARGUMENT = re.compile(
    r"(?P<optional>\*?)"
    r"(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*): "
    r"(?P<type>(?:[A-Za-z][A-Za-z0-9]*|\[[A-Za-z][A-Za-z0-9]*\])(?: \| [A-Za-z][A-Za-z0-9]*)*)"
)


class Argument(NamedTuple):
    """One argument of a command."""

    name: str
    type: str
    optional: bool = False


class Command(NamedTuple):
    """What is known of one command without asking an agent."""

    name: str
    since: str
    arguments: tuple[Argument, ...]
    returns: str
    description: str
    success_response: bool = True
    condition: str = ""
    origin: Literal["stock", "extended"] = "stock"


def parse_arguments(notation: str) -> tuple[Argument, ...]:
    """Read the table's notation: ``"path: str, *mode: str"``, where ``*`` marks an optional argument."""
    if not notation:
        return ()
    arguments: list[Argument] = []
    for part in notation.split(", "):
        match = _ARGUMENT.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} in {notation!r} is not an argument such as 'path: str' or '*mode: str'")
        if any(match["name"] == known.name for known in arguments):
            raise ValueError(f"argument {match['name']!r} is given twice in {notation!r}")
        arguments.append(Argument(match["name"], match["type"], optional=bool(match["optional"])))
    return tuple(arguments)


def _stock(
    name: str,
    since: str,
    returns: str,
    arguments: str,
    description: str,
    condition: str = "",
    success_response: bool = True,
) -> Command:
    return Command(name, since, parse_arguments(arguments), returns, description, success_response, condition)


def _extended(name: str, since: str, returns: str, arguments: str, description: str) -> Command:
    return Command(name, since, parse_arguments(arguments), returns, description, origin="extended")


_FREEZE = "CONFIG_WIN32 or CONFIG_FSFREEZE"

# In the order of the schema, then our own. Columns: name, since, returns, arguments (* = optional), description,
# and where they apply: build condition, success_response.
_TABLE: tuple[Command, ...] = (
    _stock(
        "guest-sync-delimited",
        "1.1",
        "int",
        "id: int",
        "Returns the number given, after a 0xFF byte that marks where fresh output begins.",
    ),
    _stock(
        "guest-sync",
        "0.15.0",
        "int",
        "id: int",
        "Returns the number given, so that the caller can tell this reply from late ones.",
    ),
    _stock("guest-ping", "0.15.0", NO_DATA, "", "Does nothing; a reply shows that the agent is alive."),
    _stock("guest-get-time", "1.5", "int", "", "Returns the guest's time in nanoseconds since 1970 UTC."),
    _stock(
        "guest-set-time",
        "1.5",
        NO_DATA,
        "*time: int",
        "Sets the guest's clock, then its hardware clock; without a time, takes the time from the hardware clock.",
    ),
    _stock(
        "guest-info",
        "0.15.0",
        "GuestAgentInfo",
        "",
        "Returns the agent's version and its commands, and tells which of them are enabled.",
    ),
    _stock(
        "guest-shutdown",
        "0.15.0",
        NO_DATA,
        "*mode: str",
        "Powers down, halts or reboots the guest.",
        success_response=False,
    ),
    _stock(
        "guest-file-open",
        "0.15.0",
        "int",
        "path: str, *mode: str",
        "Opens a file in the guest and returns its handle.",
    ),
    _stock("guest-file-close", "0.15.0", NO_DATA, "handle: int", "Closes an open file."),
    _stock(
        "guest-file-read",
        "0.15.0",
        "GuestFileRead",
        "handle: int, *count: int",
        "Reads from an open file; the data comes back in base64.",
    ),
    _stock(
        "guest-file-write",
        "0.15.0",
        "GuestFileWrite",
        "handle: int, buf-b64: str, *count: int",
        "Writes base64 data to an open file.",
    ),
    _stock(
        "guest-file-seek",
        "0.15.0",
        "GuestFileSeek",
        "handle: int, offset: int, whence: GuestFileWhence",
        "Moves the position in an open file.",
    ),
    _stock(
        "guest-file-flush",
        "0.15.0",
        NO_DATA,
        "handle: int",
        "Hands what was written to an open file over to the guest's kernel.",
    ),
    _stock(
        "guest-fsfreeze-status",
        "0.15.0",
        "GuestFsfreezeStatus",
        "",
        "Tells whether the guest's file systems are frozen.",
        _FREEZE,
    ),
    _stock(
        "guest-fsfreeze-freeze",
        "0.15.0",
        "int",
        "",
        "Freezes all the guest's freezable file systems and returns how many.",
        _FREEZE,
    ),
    _stock(
        "guest-fsfreeze-freeze-list",
        "2.2",
        "int",
        "*mountpoints: [str]",
        "Freezes the file systems at the given mount points and returns how many.",
        _FREEZE,
    ),
    _stock("guest-fsfreeze-thaw", "0.15.0", "int", "", "Thaws all frozen file systems and returns how many.", _FREEZE),
    _stock(
        "guest-fstrim",
        "1.2",
        "GuestFilesystemTrimResponse",
        "*minimum: int",
        "Discards the unused blocks of the guest's file systems.",
        "CONFIG_WIN32 or CONFIG_FSTRIM",
    ),
    _stock(
        "guest-suspend-disk",
        "1.1",
        NO_DATA,
        "",
        "Suspends the guest to its own disk.",
        "CONFIG_LINUX or CONFIG_WIN32",
        success_response=False,
    ),
    _stock(
        "guest-suspend-ram",
        "1.1",
        NO_DATA,
        "",
        "Suspends the guest to memory.",
        "CONFIG_LINUX or CONFIG_WIN32",
        success_response=False,
    ),
    _stock(
        "guest-suspend-hybrid",
        "1.1",
        NO_DATA,
        "",
        "Saves the guest to its own disk, then suspends it to memory.",
        "CONFIG_LINUX",
        success_response=False,
    ),
    _stock(
        "guest-network-get-interfaces",
        "1.1",
        "[GuestNetworkInterface]",
        "",
        "Lists the guest's network interfaces with their addresses and statistics.",
        "CONFIG_WIN32 or HAVE_GETIFADDRS",
    ),
    _stock(
        "guest-get-vcpus",
        "1.5",
        "[GuestLogicalProcessor]",
        "",
        "Lists the guest's processors and tells which are online.",
        "CONFIG_LINUX or CONFIG_WIN32",
    ),
    _stock(
        "guest-set-vcpus",
        "1.5",
        "int",
        "vcpus: [GuestLogicalProcessor]",
        "Takes processors of the guest online or offline and returns how many of the list were done.",
        "CONFIG_LINUX",
    ),
    _stock(
        "guest-get-disks",
        "5.2",
        "[GuestDiskInfo]",
        "",
        "Lists the guest's disks and partitions.",
        "CONFIG_WIN32 or CONFIG_LIBUDEV",
    ),
    _stock(
        "guest-get-fsinfo",
        "2.2",
        "[GuestFilesystemInfo]",
        "",
        "Lists the guest's mounted file systems with their sizes and disks.",
        "CONFIG_WIN32 or CONFIG_LINUX",
    ),
    _stock(
        "guest-set-user-password",
        "2.3",
        NO_DATA,
        "username: str, password: str, crypted: bool",
        "Sets the password of a user in the guest.",
        "CONFIG_WIN32 or CONFIG_LINUX or CONFIG_FREEBSD",
    ),
    _stock(
        "guest-get-memory-blocks",
        "2.3",
        "[GuestMemoryBlock]",
        "",
        "Lists the guest's memory blocks and tells which are online.",
        "CONFIG_LINUX",
    ),
    _stock(
        "guest-set-memory-blocks",
        "2.3",
        "[GuestMemoryBlockResponse]",
        "mem-blks: [GuestMemoryBlock]",
        "Takes memory blocks of the guest online or offline.",
        "CONFIG_LINUX",
    ),
    _stock(
        "guest-get-memory-block-info",
        "2.3",
        "GuestMemoryBlockInfo",
        "",
        "Returns the size of one memory block in bytes.",
        "CONFIG_LINUX",
    ),
    _stock(
        "guest-exec-status",
        "2.5",
        "GuestExecStatus",
        "pid: int",
        "Tells how a started process is doing, and returns its output once it has ended.",
    ),
    _stock(
        "guest-exec",
        "2.5",
        "GuestExec",
        "path: str, *arg: [str], *env: [str], *input-data: str, *capture-output: GuestExecCaptureOutput",
        "Starts a program in the guest and returns its process id.",
    ),
    _stock("guest-get-host-name", "2.10", "GuestHostName", "", "Returns the guest's host name."),
    _stock(
        "guest-get-users",
        "2.10",
        "[GuestUser]",
        "",
        "Lists the users logged in to the guest.",
        "CONFIG_WIN32 or HAVE_UTMPX",
    ),
    _stock(
        "guest-get-timezone",
        "2.10",
        "GuestTimezone",
        "",
        "Returns the guest's time zone and its offset from UTC in seconds.",
    ),
    _stock(
        "guest-get-osinfo",
        "2.10",
        "GuestOSInfo",
        "",
        "Returns the name and version of the guest's operating system and kernel.",
    ),
    _stock(
        "guest-get-devices",
        "5.2",
        "[GuestDeviceInfo]",
        "",
        "Lists the guest's devices with their drivers.",
        "CONFIG_WIN32",
    ),
    _stock(
        "guest-ssh-get-authorized-keys",
        "5.2",
        "GuestAuthorizedKeys",
        "username: str",
        "Lists the SSH keys authorised for a user in the guest.",
    ),
    _stock(
        "guest-ssh-add-authorized-keys",
        "5.2",
        NO_DATA,
        "username: str, keys: [str], *reset: bool",
        "Authorises SSH keys for a user in the guest, in place of the present ones if reset is set.",
    ),
    _stock(
        "guest-ssh-remove-authorized-keys",
        "5.2",
        NO_DATA,
        "username: str, keys: [str]",
        "Withdraws SSH keys from a user in the guest.",
    ),
    _stock(
        "guest-get-diskstats",
        "7.1",
        "[GuestDiskStatsInfo]",
        "",
        "Returns the read and write statistics of the guest's disks.",
        "CONFIG_LINUX",
    ),
    _stock(
        "guest-get-cpustats",
        "7.1",
        "[GuestCpuStats]",
        "",
        "Returns how the guest's processors have spent their time.",
        "CONFIG_LINUX",
    ),
    _stock(
        "guest-get-load",
        "10.0",
        "GuestLoadAverage",
        "",
        "Returns the guest's load averages over 1, 5 and 15 minutes.",
        "CONFIG_GETLOADAVG",
    ),
    _stock(
        "guest-network-get-route",
        "9.1",
        "[GuestNetworkRoute]",
        "",
        "Lists the routes in the guest's routing tables.",
        "CONFIG_LINUX",
    ),
    _extended(
        "guest-update-time",
        "1.0.0",
        "GuestUpdateTime",
        "seconds: int, *nanoseconds: int | str, *relative: bool, *slew: bool, *rtc: bool",
        "Sets the guest's clock to an absolute time, or moves it by a difference, in one step or gradually.",
    ),
    _extended(
        "guest-get-clock",
        "1.0.0",
        "GuestClock",
        "",
        "Returns the guest's time on receipt and on reply, and whether its clock is synchronized or being slewed.",
    ),
    _extended(
        "guest-get-command-info",
        "1.0.0",
        "GuestCommandInfo",
        "name: str",
        "Returns the details of one command.",
    ),
)

CATALOGUE: Mapping[str, Command] = MappingProxyType({command.name: command for command in _TABLE})

# qga/main.c, ga_freeze_allowlist: whatever the administrator allows, a frozen agent runs only these.
FROZEN_ALLOWED: frozenset[str] = frozenset(
    (
        *("guest-ping", "guest-info", "guest-sync", "guest-sync-delimited"),
        *("guest-fsfreeze-status", "guest-fsfreeze-thaw"),
    )
)

# Commands that send no reply when they succeed.
SILENT: frozenset[str] = frozenset(command.name for command in _TABLE if not command.success_response)


def answers_on_success(name: str) -> bool:
    """Whether the command sends a reply when it succeeds; for a command unknown here, QAPI's default: yes."""
    return name not in SILENT
