# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalog of guest agent commands: the stock agent's 44 and the extended agent's 3 new ones.

The facts about stock commands are from ``qga/qapi-schema.json`` of QEMU 10.0.13. The one-sentence descriptions are our
own. The extended agent completes a fourth command, ``guest-info``, which keeps its stock entry. A new command of the
extended agent also needs a function in its own_commands.py and a row in its policy.py.

Conventions:

- Types are QAPI type names; ``[T]`` is a list of T, ``T | U`` is either; ``*`` marks optional members.
- A command returns ``none`` if its reply is empty, ``{"return": {}}``. A ``silent`` one sends no reply on success.
- The first version with the command is QEMU's for a stock command and this collection's for an extended one.
- ``if`` is the schema's build condition; without it, every build of the agent has the command.

``enabled`` and ``success-response`` in ``guest-info`` come from the agent itself and override this catalog, which is
used where the agent does not report them (before 1.7) or was not asked.

Types that only the extended agent returns:

- ``GuestUpdateTime``: before: int (ns), after: int (ns), *duration: int (ns), *rtc-error: str
- ``GuestClock``: received: int (ns), transmitted: int (ns), synchronized: bool, max-error: int (ns),
  *slewing: int (ns), *slewable: bool, *source: str
- ``GuestCommandInfo``: name: str, enabled: bool, success-response: bool, since: str, description: str,
  arguments: [{name: str, type: str, optional: bool}], returns: str, origin: str ("stock" or "extended")
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Iterator, Literal, Mapping, NamedTuple

# "path: str", "*mode: str", "*arg: [str]", "nanoseconds: int | str"
_ARGUMENT = re.compile(
    r"(?P<optional>\*?)"
    r"(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*): "
    r"(?P<type>(?:[A-Za-z][A-Za-z0-9]*|\[[A-Za-z][A-Za-z0-9]*\])(?: \| [A-Za-z][A-Za-z0-9]*)*)"
)

# "guest-file-close(handle: int) -> none", and a line with "0.15.0: Closes an open file."
_COMMAND = re.compile(
    r"(?P<name>[a-z-]+)\((?P<arguments>[^()]*)\) -> (?P<returns>[^,\s]+)(?P<silent>, silent)?\n"
    r" +(?P<since>[0-9.]+)(?:, if (?P<condition>[A-Za-z0-9_ ]+))?: (?P<description>[^\n]+)"
)


class Argument(NamedTuple):
    name: str
    type: str
    optional: bool = False


class Command(NamedTuple):
    """The facts about one command that are known without asking an agent."""

    name: str
    since: str
    arguments: tuple[Argument, ...]
    returns: str
    description: str
    success_response: bool = True
    condition: str = ""
    origin: Literal["stock", "extended"] = "stock"


def _argument(notation: str) -> Argument:
    match = _ARGUMENT.fullmatch(notation)
    if match is None:
        raise ValueError(f"{notation!r} is not an argument such as 'path: str' or '*mode: str'")
    return Argument(match["name"], match["type"], optional=bool(match["optional"]))


def parse_commands(table: str, origin: Literal["stock", "extended"]) -> Iterator[Command]:
    """Parse a table in the notation above."""
    for entry in re.split(r"\n(?! )", table.strip()):
        match = _COMMAND.fullmatch(entry)
        if match is None:
            raise ValueError(f"{entry!r} is not a command in the table's notation")
        arguments = match["arguments"].split(", ") if match["arguments"] else ()
        yield Command(
            match["name"],
            match["since"],
            tuple(map(_argument, arguments)),
            match["returns"],
            match["description"],
            success_response=match["silent"] is None,
            condition=match["condition"] or "",
            origin=origin,
        )


# In the schema's order.
_STOCK = """
guest-sync-delimited(id: int) -> int
    1.1: Returns the number given, after a 0xFF byte that marks where fresh output begins.
guest-sync(id: int) -> int
    0.15.0: Returns the number given, so that the caller can distinguish this reply from late ones.
guest-ping() -> none
    0.15.0: Does nothing; a reply shows that the agent is alive.
guest-get-time() -> int
    1.5: Returns the guest's time in nanoseconds since 1970 UTC.
guest-set-time(*time: int) -> none
    1.5: Sets the guest's clock, then its hardware clock; without a time, takes the time from the hardware clock.
guest-info() -> GuestAgentInfo
    0.15.0: Returns the agent's version and its commands, and whether each of them is enabled.
guest-shutdown(*mode: str) -> none, silent
    0.15.0: Powers down, halts or reboots the guest.
guest-file-open(path: str, *mode: str) -> int
    0.15.0: Opens a file in the guest and returns its handle.
guest-file-close(handle: int) -> none
    0.15.0: Closes an open file.
guest-file-read(handle: int, *count: int) -> GuestFileRead
    0.15.0: Reads from an open file; the data comes back in base64.
guest-file-write(handle: int, buf-b64: str, *count: int) -> GuestFileWrite
    0.15.0: Writes base64 data to an open file.
guest-file-seek(handle: int, offset: int, whence: GuestFileWhence) -> GuestFileSeek
    0.15.0: Moves the position in an open file.
guest-file-flush(handle: int) -> none
    0.15.0: Flushes the data written to an open file to the guest's kernel.
guest-fsfreeze-status() -> GuestFsfreezeStatus
    0.15.0, if CONFIG_WIN32 or CONFIG_FSFREEZE: Returns whether the guest's file systems are frozen.
guest-fsfreeze-freeze() -> int
    0.15.0, if CONFIG_WIN32 or CONFIG_FSFREEZE: Freezes all the guest's freezable file systems and returns how many.
guest-fsfreeze-freeze-list(*mountpoints: [str]) -> int
    2.2, if CONFIG_WIN32 or CONFIG_FSFREEZE: Freezes the file systems at the given mount points and returns how many.
guest-fsfreeze-thaw() -> int
    0.15.0, if CONFIG_WIN32 or CONFIG_FSFREEZE: Thaws all frozen file systems and returns how many.
guest-fstrim(*minimum: int) -> GuestFilesystemTrimResponse
    1.2, if CONFIG_WIN32 or CONFIG_FSTRIM: Discards the unused blocks of the guest's file systems.
guest-suspend-disk() -> none, silent
    1.1, if CONFIG_LINUX or CONFIG_WIN32: Suspends the guest to its own disk.
guest-suspend-ram() -> none, silent
    1.1, if CONFIG_LINUX or CONFIG_WIN32: Suspends the guest to memory.
guest-suspend-hybrid() -> none, silent
    1.1, if CONFIG_LINUX: Saves the guest to its own disk, then suspends it to memory.
guest-network-get-interfaces() -> [GuestNetworkInterface]
    1.1, if CONFIG_WIN32 or HAVE_GETIFADDRS: Lists the guest's network interfaces with their addresses and statistics.
guest-get-vcpus() -> [GuestLogicalProcessor]
    1.5, if CONFIG_LINUX or CONFIG_WIN32: Lists the guest's processors and whether they are online.
guest-set-vcpus(vcpus: [GuestLogicalProcessor]) -> int
    1.5, if CONFIG_LINUX: Takes processors of the guest online or offline and returns how many of the list were done.
guest-get-disks() -> [GuestDiskInfo]
    5.2, if CONFIG_WIN32 or CONFIG_LIBUDEV: Lists the guest's disks and partitions.
guest-get-fsinfo() -> [GuestFilesystemInfo]
    2.2, if CONFIG_WIN32 or CONFIG_LINUX: Lists the guest's mounted file systems with their sizes and disks.
guest-set-user-password(username: str, password: str, crypted: bool) -> none
    2.3, if CONFIG_WIN32 or CONFIG_LINUX or CONFIG_FREEBSD: Sets the password of a user in the guest.
guest-get-memory-blocks() -> [GuestMemoryBlock]
    2.3, if CONFIG_LINUX: Lists the guest's memory blocks and whether they are online.
guest-set-memory-blocks(mem-blks: [GuestMemoryBlock]) -> [GuestMemoryBlockResponse]
    2.3, if CONFIG_LINUX: Takes memory blocks of the guest online or offline.
guest-get-memory-block-info() -> GuestMemoryBlockInfo
    2.3, if CONFIG_LINUX: Returns the size of one memory block in bytes.
guest-exec-status(pid: int) -> GuestExecStatus
    2.5: Returns the status of a started process, and its output once it has ended.
guest-exec(path: str, *arg: [str], *env: [str], *input-data: str, *capture-output: GuestExecCaptureOutput) -> GuestExec
    2.5: Starts a program in the guest and returns its process id.
guest-get-host-name() -> GuestHostName
    2.10: Returns the guest's host name.
guest-get-users() -> [GuestUser]
    2.10, if CONFIG_WIN32 or HAVE_UTMPX: Lists the users logged in to the guest.
guest-get-timezone() -> GuestTimezone
    2.10: Returns the guest's time zone and its offset from UTC in seconds.
guest-get-osinfo() -> GuestOSInfo
    2.10: Returns the name and version of the guest's operating system and kernel.
guest-get-devices() -> [GuestDeviceInfo]
    5.2, if CONFIG_WIN32: Lists the guest's devices with their drivers.
guest-ssh-get-authorized-keys(username: str) -> GuestAuthorizedKeys
    5.2: Lists the SSH keys authorized for a user in the guest.
guest-ssh-add-authorized-keys(username: str, keys: [str], *reset: bool) -> none
    5.2: Authorizes SSH keys for a user in the guest; with reset, they replace the present ones.
guest-ssh-remove-authorized-keys(username: str, keys: [str]) -> none
    5.2: Removes authorized SSH keys of a user in the guest.
guest-get-diskstats() -> [GuestDiskStatsInfo]
    7.1, if CONFIG_LINUX: Returns the read and write statistics of the guest's disks.
guest-get-cpustats() -> [GuestCpuStats]
    7.1, if CONFIG_LINUX: Returns the time statistics of the guest's processors.
guest-get-load() -> GuestLoadAverage
    10.0, if CONFIG_GETLOADAVG: Returns the guest's load averages over 1, 5 and 15 minutes.
guest-network-get-route() -> [GuestNetworkRoute]
    9.1, if CONFIG_LINUX: Lists the routes in the guest's routing tables.
"""

_EXTENDED = """
guest-update-time(seconds: int, *nanoseconds: int | str, *relative: bool, *slew: bool, *rtc: bool) -> GuestUpdateTime
    1.0.0: Sets the guest's clock to an absolute time, or moves it by a difference, in one step or gradually.
guest-get-clock() -> GuestClock
    1.0.0: Returns the guest's time on receipt and on reply, and whether its clock is synchronized or being slewed.
guest-get-command-info(name: str) -> GuestCommandInfo
    1.0.0: Returns the details of one command.
"""

CATALOG: Mapping[str, Command] = MappingProxyType(
    {command.name: command for command in (*parse_commands(_STOCK, "stock"), *parse_commands(_EXTENDED, "extended"))}
)

# qga/main.c, ga_freeze_allowlist: a frozen agent runs only these, whatever the administrator allows.
FROZEN_ALLOWED: frozenset[str] = frozenset(
    ("guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-thaw")
)

SILENT: frozenset[str] = frozenset(name for name, command in CATALOG.items() if not command.success_response)


def answers_on_success(name: str) -> bool:
    """Return whether the command sends a reply on success; for an unknown command, QAPI's default: yes."""
    return name not in SILENT
