# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors on the host's side, from options and hypervisors to clocks. They share a base with those of the protocol.

Each class has a stable ``code`` that playbooks may test, and a hint about what to do.
"""

from __future__ import annotations

from typing import TypeVar

from ._protocol.errors import QgaError

ErrorType = TypeVar("ErrorType", bound=BaseException)


def detached(error: ErrorType) -> ErrorType:
    """Return ``error`` without its traceback, cause and context.

    For errors that are kept: these refer to everything that the failing code worked on, including a guest's reply.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def sentence(error: QgaError) -> str:
    """Return the error as text: what was wrong and where, its code, and what to do."""
    message = error.message[:1].upper() + error.message[1:]
    return ("{} [{}]. {}".format(message.rstrip("."), error.code, error.hint)).rstrip()


# The request cannot be tried.


class InvalidOptionError(QgaError):
    code = "invalid_option"


class MissingLibraryError(QgaError):
    code = "missing_library"
    default_hint = (
        "Set ansible_python_interpreter to a Python that has it, such as /usr/bin/python3 with the package "
        "python3-libvirt; or install libvirt-python for this interpreter."
    )


# Reaching the agent: hypervisor, guest, channel.


class HypervisorUnavailableError(QgaError):
    """``in_call``: the connection broke during a call to a guest's agent; that agent's reply may be the cause."""

    code = "hypervisor_unavailable"
    default_hint = "Check uri, and that libvirt's daemon is running there and can be reached from this machine."

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
    default_hint = "Add a virtio channel named org.qemu.guest_agent.0 to the domain, then stop and start it."


class NotConnectedError(QgaError):
    code = "not_connected"
    default_hint = "Install and start qemu-guest-agent in the guest; use wait_timeout while a guest boots or wakes up."


class GuestReplacedError(QgaError):
    """The guest was replaced by another one, or restarted."""

    code = "replaced"
    default_hint = "Run the task again: it starts with a new measurement."


class UnresponsiveError(QgaError):
    code = "unresponsive"
    default_hint = "Check the agent's service in the guest; a busy guest may need a longer timeout or a wait_timeout."


class ExchangeTimeoutError(QgaError):
    code = "timeout"
    default_hint = "The agent may still run the command. Raise timeout if the guest is only slow."


class OptedOutError(QgaError):
    code = "opted_out"
    default_hint = "To allow it, remove the mark from the domain's metadata; docs/docsite/rst/fleets.rst explains how."


class DeadlineError(QgaError):
    code = "deadline"
    default_hint = "Raise deadline, or run the task again: guests whose clocks are already correct take little time."


class GuestsFailedError(QgaError):
    """Some of many guests failed; each has its own error in the results."""

    code = "guests_failed"
    default_hint = "Each guest's entry in guests has its error and a hint; fail_on decides when that fails the task."


# The agent refused the command.


class CommandError(QgaError):
    """``command`` is the name of the refused agent command."""

    def __init__(self, message: str, hint: str | None = None, command: str = "") -> None:
        super().__init__(message, hint)
        self.command = command


class CommandNotFoundError(CommandError):
    code = "command_not_found"
    default_hint = "This agent is too old, or built without that command; a newer qemu-guest-agent may have it."


class CommandDisabledError(CommandError):
    code = "command_disabled"
    default_hint = (
        "The guest's administrator disabled it: in the guest, check block-rpcs and allow-rpcs in "
        "/etc/qemu/qemu-ga.conf, or BLOCK_RPCS and FILTER_RPC_ARGS in /etc/sysconfig/qemu-ga."
    )


class FrozenError(CommandError):
    code = "frozen"
    # For guests without libvirt; for a domain, the hint has the virsh command.
    default_hint = (
        "Thaw the guest's file systems with the agent's command guest-fsfreeze-thaw, on Proxmox VE with "
        "`qm guest cmd VMID fsfreeze-thaw`; then run the task again."
    )


class NotSupportedError(CommandError):
    """The agent has the command but cannot run it in this guest; retrying does not help."""

    code = "not_supported"
    default_hint = "The guest lacks something that the command needs, or its agent does not support the guest's system."


class CommandFailedError(CommandError):
    code = "command_failed"
    default_hint = "The agent gave this reason; its log in the guest may have more."


# The clock.


class NotConvergedError(QgaError):
    code = "not_converged"
    default_hint = (
        "Something else in the guest sets or slews the clock, or the agent cannot set it precisely enough: "
        "stop the time service in the guest, raise tolerance, or choose another method."
    )


class HostClockUnsynchronizedError(QgaError):
    code = "host_clock_unsynchronized"
    default_hint = "Synchronize the host's clock first (chrony, ntpd), or remove require_synchronized_host."
