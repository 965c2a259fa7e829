# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Switching to a user that may only set the clock, where no service manager starts the agent as that user.

This corresponds to systemd's ``User=``, ``CapabilityBoundingSet=``, ``AmbientCapabilities=`` and ``NoNewPrivileges=``.
It fails closed: after an error, the process may have lost some of its privileges and must exit.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
from typing import Any, Callable

# include/uapi/linux/capability.h
CAP_SYS_TIME = 25
_VERSION_3 = 0x20080522
# More than any kernel has (41 in Linux 6.1): the first number that the kernel does not know ends the loop.
_MOST_CAPABILITIES = 64
# CAP_SETFCAP, the last one of Linux 2.6.24. That kernel cannot drop capabilities from the bounding set yet.
_LAST_EVERYWHERE = 31
# include/uapi/linux/prctl.h
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39


class PrivilegeError(Exception):
    """A step failed; the text is one sentence, and says what to do."""


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct (capget(2))."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """struct __user_cap_data_struct: 32 capabilities of each set."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_BothHalves = _Sets * 2
_SYS_TIME_ALONE = ((1 << CAP_SYS_TIME, 1 << CAP_SYS_TIME, 0), (0, 0, 0))


def libc() -> Any:
    """Return this process's C library: glibc and musl have the three functions."""
    return ctypes.CDLL(None, use_errno=True)


def drop(user: str, library: Callable[[], Any] = libc, system: Any = os) -> None:
    """Switch to ``user`` permanently, with CAP_SYS_TIME and no other capability.

    Tests replace ``library`` (the C library) and ``system`` (the module os).

    :raises PrivilegeError: any step failed
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"the user {user!r} does not exist: create it, or name another user in --user") from None
    if entry.pw_uid == 0:
        raise PrivilegeError(f"{user!r} is root, which keeps all privileges: name another user in --user")
    if system.geteuid() != 0:
        raise PrivilegeError(f"only root can switch to user {user!r}: start the agent as root, or omit --user")
    try:
        _drop(entry, library(), system)
    # AttributeError: the C library lacks a function.
    except (OSError, AttributeError) as error:
        raise PrivilegeError(f"cannot switch to user {user!r} with only CAP_SYS_TIME: {error}") from error


def _drop(entry: pwd.struct_passwd, library: Any, system: Any) -> None:
    _leave_bounding_set(library)
    # The permitted set survives the change of user, the effective set does not.
    _prctl(library, PR_SET_KEEPCAPS, 1)
    system.setgroups([])
    system.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    system.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    _checked("capset", library.capset(_header(), _BothHalves(*(_Sets(*half) for half in _SYS_TIME_ALONE))))
    _prctl(library, PR_SET_NO_NEW_PRIVS, 1)
    _require_dropped(entry, library, system)


def _leave_bounding_set(library: Any) -> None:
    for capability in range(_MOST_CAPABILITIES):
        if capability == CAP_SYS_TIME:
            continue
        try:
            _prctl(library, PR_CAPBSET_DROP, capability)
        except OSError as error:
            # EINVAL: the kernel has no capability with this number.
            if error.errno != errno.EINVAL or capability <= _LAST_EVERYWHERE:
                raise
            return


def _require_dropped(entry: pwd.struct_passwd, library: Any, system: Any) -> None:
    found = _BothHalves()
    _checked("capget", library.capget(_header(), found))
    has = tuple((half.effective, half.permitted, half.inheritable) for half in found)
    expected: list[tuple[str, object, object]] = [
        ("capabilities", has, _SYS_TIME_ALONE),
        ("users", tuple(system.getresuid()), (entry.pw_uid,) * 3),
        ("groups", (*system.getresgid(), *system.getgroups()), (entry.pw_gid,) * 3),
        ("no_new_privs", _prctl(library, PR_GET_NO_NEW_PRIVS), 1),
    ]
    for name, is_now, wanted in expected:
        if is_now != wanted:
            raise OSError(errno.EPERM, f"{name}: {is_now} instead of {wanted} afterward")


def _header() -> Any:
    return ctypes.byref(_Header(_VERSION_3, 0))


def _prctl(library: Any, option: int, argument: int = 0) -> int:
    # prctl is variadic, and the kernel requires unused arguments to be 0.
    rest = [ctypes.c_ulong(value) for value in (argument, 0, 0, 0)]
    return _checked(f"prctl {option}", library.prctl(ctypes.c_int(option), *rest))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
