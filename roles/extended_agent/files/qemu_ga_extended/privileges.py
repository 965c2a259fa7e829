# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Become a user that may set the clock and nothing else, where no service manager starts the agent as one.

What systemd does by ``User=``, ``CapabilityBoundingSet=``, ``AmbientCapabilities=`` and ``NoNewPrivileges=``. It fails
closed: after an error the process has lost some privileges or none, and must not go on.
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
# More than any kernel has (41 in Linux 6.1): asking for one that it lacks ends the list earlier.
_MOST_CAPABILITIES = 64
# CAP_SETFCAP, the last one of Linux 2.6.24, which cannot drop one of the bounding set yet.
_LAST_EVERYWHERE = 31
# include/uapi/linux/prctl.h
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39


class PrivilegeError(Exception):
    """One sentence on which step failed, and what to do about it."""


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct (capget(2))."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """struct __user_cap_data_struct: 32 capabilities of each set."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_BothHalves = _Sets * 2
_SYS_TIME_ALONE = ((1 << CAP_SYS_TIME, 1 << CAP_SYS_TIME, 0), (0, 0, 0))


def libc() -> Any:
    """Return the C library that this process runs with: glibc and musl have the three functions."""
    return ctypes.CDLL(None, use_errno=True)


def drop(user: str, library: Callable[[], Any] = libc, system: Any = os) -> None:
    """Become ``user``, with CAP_SYS_TIME and no other capability, for good.

    ``library`` and ``system`` stand for the C library and the module os.

    :raises PrivilegeError: it did not succeed as a whole
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"there is no user {user!r}: create it, or name another one in --user") from None
    if entry.pw_uid == 0:
        raise PrivilegeError(f"{user!r} is root, which keeps all privileges: name another user in --user")
    if system.geteuid() != 0:
        raise PrivilegeError(f"only root can become {user!r}: start the agent as root, or leave out --user")
    try:
        _drop(entry, library(), system)
    # AttributeError: the C library lacks a function.
    except (OSError, AttributeError) as error:
        raise PrivilegeError(f"the agent could not become {user!r} with CAP_SYS_TIME alone: {error}") from error


def _drop(entry: pwd.struct_passwd, library: Any, system: Any) -> None:
    _leave_bounding_set(library)
    # The permitted set outlives the change of the user, the effective one does not.
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
            # The kernel has no capability of that number.
            if error.errno != errno.EINVAL or capability <= _LAST_EVERYWHERE:
                raise
            return


def _require_dropped(entry: pwd.struct_passwd, library: Any, system: Any) -> None:
    found = _BothHalves()
    _checked("capget", library.capget(_header(), found))
    has = tuple((half.effective, half.permitted, half.inheritable) for half in found)
    expected: list[tuple[str, object, object]] = [
        ("the capabilities", has, _SYS_TIME_ALONE),
        ("the users", tuple(system.getresuid()), (entry.pw_uid,) * 3),
        ("the groups", (*system.getresgid(), *system.getgroups()), (entry.pw_gid,) * 3),
        ("no_new_privs", _prctl(library, PR_GET_NO_NEW_PRIVS), 1),
    ]
    for name, is_now, wanted in expected:
        if is_now != wanted:
            raise OSError(errno.EPERM, f"{name} are {is_now} afterward, and not {wanted}")


def _header() -> Any:
    return ctypes.byref(_Header(_VERSION_3, 0))


def _prctl(library: Any, option: int, argument: int = 0) -> int:
    # prctl is variadic, and the kernel wants those that are not used to be 0.
    rest = [ctypes.c_ulong(value) for value in (argument, 0, 0, 0)]
    return _checked(f"prctl {option}", library.prctl(ctypes.c_int(option), *rest))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
