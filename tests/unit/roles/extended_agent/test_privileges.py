from __future__ import annotations

import ctypes
import errno
import os
import pwd
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.extended_agent import module, package_parent

privileges = module("privileges")

USER = "nobody"
ENTRY = pwd.getpwnam(USER)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch to another user")


class Libc:
    """A fake C library, on a kernel with that many ``capabilities``. The call ``refused`` fails with EPERM; the call
    ``stays`` has no effect."""

    def __init__(self, refused: str = "", stays: str = "", capabilities: int = 41) -> None:
        self.done: list[str] = []
        self._refused = refused
        self._stays = stays
        self._capabilities = capabilities
        self._sets: Any = ((0xFFFFFFFF, 0xFFFFFFFF, 0), (0x1FF, 0x1FF, 0))
        self._no_new_privileges = 0

    def prctl(self, option: ctypes.c_int, argument: ctypes.c_ulong, *_rest: ctypes.c_ulong) -> int:
        name = f"prctl {option.value}"
        if option.value == privileges.PR_CAPBSET_DROP and argument.value >= self._capabilities:
            ctypes.set_errno(errno.EINVAL)
            return -1
        if option.value == privileges.PR_SET_NO_NEW_PRIVS and name != self._stays:
            self._no_new_privileges = argument.value
        status = self._status_of(name)
        return self._no_new_privileges if status == 0 and option.value == privileges.PR_GET_NO_NEW_PRIVS else status

    def capset(self, _header: Any, sets: Any) -> int:
        if self._stays != "capset":
            self._sets = tuple((half.effective, half.permitted, half.inheritable) for half in sets)
        return self._status_of("capset")

    def capget(self, _header: Any, sets: Any) -> int:
        for half, held in zip(sets, self._sets, strict=True):
            half.effective, half.permitted, half.inheritable = held
        return self._status_of("capget")

    def _status_of(self, name: str) -> int:
        self.done.append(name)
        ctypes.set_errno(errno.EPERM)
        return -1 if name == self._refused else 0


class System:
    """Fake functions of the module os for a root process. Setting ``stays`` has no effect."""

    def __init__(self, stays: str = "", uid: int = 0) -> None:
        self.held: dict[str, Any] = {"uid": (uid,) * 3, "gid": (0,) * 3, "groups": [0, 4]}
        self.geteuid = lambda: uid
        self.getresuid = lambda: self.held["uid"]
        self.getresgid = lambda: self.held["gid"]
        self.getgroups = lambda: self.held["groups"]
        self.setresuid = lambda *users: self._set("uid", users)
        self.setresgid = lambda *groups: self._set("gid", groups)
        self.setgroups = lambda groups: self._set("groups", groups)
        self._stays = stays

    def _set(self, name: str, value: Any) -> None:
        if name != self._stays:
            self.held[name] = value


def test_all_capabilities_but_one_are_dropped_from_the_bounding_set() -> None:
    library, system = Libc(capabilities=41), System()
    privileges.drop(USER, lambda: library, system)
    assert library.done.count(f"prctl {privileges.PR_CAPBSET_DROP}") == 40
    assert system.held == {"uid": (ENTRY.pw_uid,) * 3, "gid": (ENTRY.pw_gid,) * 3, "groups": []}


@pytest.mark.parametrize(
    ("library", "system", "message"),
    [
        *((Libc(refused=step), System(), step) for step in ("prctl 8", "prctl 24", "prctl 38", "prctl 39")),
        *((Libc(refused=step), System(), step) for step in ("capset", "capget")),
        # Without effect.
        *((Libc(stays=step), System(), "afterward") for step in ("prctl 38", "capset")),
        *((Libc(), System(stays=step), "afterward") for step in ("groups", "gid", "uid")),
        (Libc(capabilities=20), System(), "prctl 24"),  # implausibly few capabilities
        (SimpleNamespace(), System(), "prctl"),  # a C library without the functions
    ],
)
def test_a_step_that_is_refused_or_has_no_effect_is_an_error(library: Any, system: System, message: str) -> None:
    with pytest.raises(
        privileges.PrivilegeError, match=f"cannot switch to user 'nobody' with only CAP_SYS_TIME: .*{message}"
    ):
        privileges.drop(USER, lambda: library, system)


@pytest.mark.parametrize(
    ("user", "system", "message"),
    [
        ("no-such-user", System(), "the user 'no-such-user' does not exist"),
        ("root", System(), "'root' is root"),
        (USER, System(uid=1000), "only root can switch to"),
    ],
)
def test_an_unsuitable_user_is_refused_before_any_change(user: str, system: System, message: str) -> None:
    library = Libc()
    with pytest.raises(privileges.PrivilegeError, match=message):
        privileges.drop(user, lambda: library, system)
    assert library.done == []


SHOW = """
import sys
sys.path.insert(0, sys.argv[1])
from qemu_ga_extended import privileges
privileges.drop(sys.argv[2])
print(open("/proc/self/status").read())
"""


@needs_root
@pytest.mark.slow
def test_a_root_process_switches_to_the_user_and_keeps_one_capability() -> None:
    command = [sys.executable, "-I", "-c", SHOW, str(package_parent()), USER]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    sys_time = f"{1 << privileges.CAP_SYS_TIME:016x}"
    assert [status[key] for key in ("CapEff", "CapPrm", "CapBnd")] == [sys_time] * 3
    assert [status[key] for key in ("CapInh", "CapAmb")] == [f"{0:016x}"] * 2
    assert status["Uid"].split() == [str(ENTRY.pw_uid)] * 4
    assert status["Gid"].split() == [str(ENTRY.pw_gid)] * 4
    assert (status["Groups"].strip(), status["NoNewPrivs"]) == ("", "1")
