# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the host's side, from options and hypervisors to clocks: one tree, with those of the protocol.

Each class has a stable ``code`` that playbooks may test, and a hint that says what to do.
"""

from __future__ import annotations

from typing import TypeVar

from ._protocol.errors import QgaError

ErrorType = TypeVar("ErrorType", bound=BaseException)


def detached(error: ErrorType) -> ErrorType:
    """Return ``error`` without its traceback, cause and context.

    For errors that are kept: these hold everything that the code worked on when it failed, a guest's reply included.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def sentence(error: QgaError) -> str:
    """The error for a reader: what was wrong and where, its code, and what to do."""
    message = error.message[:1].upper() + error.message[1:]
    return ("{} [{}]. {}".format(message.rstrip("."), error.code, error.hint)).rstrip()


# What the caller asked for cannot be tried.


class InvalidOptionError(QgaError):
    code = "invalid_option"


class MissingLibraryError(QgaError):
    code = "missing_library"
    default_hint = (
        "Install the Python bindings of libvirt (python3-libvirt or libvirt-python) for the interpreter "
        "that runs this module, or address the guest by its socket."
    )


# The way to the agent: hypervisor, guest, channel.


class HypervisorUnavailableError(QgaError):
    """``in_call``: its connection broke while a guest's agent was being asked; that guest's answer may have done it."""

    code = "hypervisor_unavailable"
    default_hint = "Check the uri, and that the libvirt daemon it names is running and may be reached from here."

    def __init__(self, message: str, hint: str | None = None, in_call: bool = False) -> None:
        super().__init__(message, hint)
        self.in_call = in_call


class PermissionDeniedError(QgaError):
    code = "permission_denied"
    default_hint = "Run the task with become, or give its user access to libvirt or to the agent's socket."


class NotFoundError(QgaError):
    code = "not_found"
    default_hint = "Check the name; `virsh list --all` shows the domains that the hypervisor knows."


class NotRunningError(QgaError):
    code = "not_running"
    default_hint = "Start or resume the guest first; an agent answers only while its guest runs."


class NotConfiguredError(QgaError):
    code = "not_configured"
    default_hint = "Add a virtio channel named org.qemu.guest_agent.0 to the domain, and start it anew."


class NotConnectedError(QgaError):
    code = "not_connected"
    default_hint = (
        "Install and start qemu-guest-agent in the guest; while a guest boots or wakes, wait_timeout waits for it."
    )


class GuestReplacedError(QgaError):
    """Where the guest was, there is another one now, or the same one started anew."""

    code = "replaced"
    default_hint = "Run the task again: it begins with a new measurement."


class UnresponsiveError(QgaError):
    code = "unresponsive"
    default_hint = "Look at the agent's service in the guest; a busy guest may need a longer timeout or a wait_timeout."


class ExchangeTimeoutError(QgaError):
    code = "timeout"
    default_hint = "The agent may still carry the command out. Raise timeout if the guest is merely slow."


class OptedOutError(QgaError):
    code = "opted_out"
    default_hint = "To allow it, remove the mark from the domain's metadata; docs/docsite/rst/fleets.rst tells how."


class DeadlineError(QgaError):
    code = "deadline"
    default_hint = "Raise deadline, or run the task again: guests that are right by now cost little."


class GuestsFailedError(QgaError):
    """Some guests of many; each has its own error in the results."""

    code = "guests_failed"
    default_hint = (
        "Each guest's entry in guests tells its reason and what to do; fail_on says when that fails the task."
    )


# The agent understood, and said no.


class CommandError(QgaError):
    """``command`` is the agent command that was refused."""

    def __init__(self, message: str, hint: str | None = None, command: str = "") -> None:
        super().__init__(message, hint)
        self.command = command


class CommandNotFoundError(CommandError):
    code = "command_not_found"
    default_hint = "This agent is too old, or built without that command; a newer qemu-guest-agent may have it."


class CommandDisabledError(CommandError):
    code = "command_disabled"
    default_hint = (
        "The guest's administrator disabled it: see block-rpcs and allow-rpcs in /etc/qemu/qemu-ga.conf, "
        "or BLOCK_RPCS, FILTER_RPC_ARGS in /etc/sysconfig/qemu-ga, inside the guest."
    )


class FrozenError(CommandError):
    code = "frozen"
    default_hint = "Thaw the guest's file systems (virsh domfsthaw) and run the task again."


class NotSupportedError(CommandError):
    """The agent has the command, and cannot carry it out in this guest; asking again does not help."""

    code = "not_supported"
    default_hint = "This guest's system lacks what the command needs, or its agent cannot do it on this system."


class CommandFailedError(CommandError):
    code = "command_failed"
    default_hint = "The reason is the agent's own; look at its log in the guest."


# The clock.


class NotConvergedError(QgaError):
    code = "not_converged"
    default_hint = (
        "Something in the guest sets or slews the clock as well, or the agent cannot set it finely enough: "
        "stop the time service in the guest, raise tolerance, or choose another method."
    )


class HostClockUnsynchronizedError(QgaError):
    code = "host_clock_unsynchronized"
    default_hint = "Synchronise the host's clock first (chrony, ntpd), or drop require_synchronized_host."
