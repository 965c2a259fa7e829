# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of commands and files in a guest; errors of reaching its agent are in ``module_utils``."""

from __future__ import annotations

from ...module_utils._protocol.errors import QgaError


class FailedInGuestError(QgaError):
    """The guest was reached, and the command or the file copy failed in it."""


class CommandTimeoutError(FailedInGuestError):
    code = "exec_timeout"
    default_hint = "Raise exec_timeout (0 means no limit), or run the task with async."


class TransferTimeoutError(CommandTimeoutError):
    default_hint = "If the guest is merely slow, raise exec_timeout (0 means no limit)."


class ResultLostError(QgaError):
    """The command was started and its result is unknown: it must count neither as done nor as not done."""

    code = "result_lost"
    default_hint = "The command may have done all of its work or a part of it: check the guest before you run it again."


class OutputTooLongError(FailedInGuestError):
    code = "output_too_long"
    default_hint = "Write the output to a file in the guest and fetch that, or raise max_output."


class OutputLostError(FailedInGuestError):
    """The command ended, but the guest could not save all of its output."""

    code = "output_lost"
    default_hint = "Free disk space in the guest, or set guest_directories to a directory with free space."


class NoPlaceError(FailedInGuestError):
    """The guest has no directory for the connection's files."""

    code = "no_place"
    default_hint = "Free disk space in the guest, or set guest_directories to a directory that its agent can write to."


class BecomeError(FailedInGuestError):
    code = "become_failed"
    default_hint = "Check the become password, and that the user may use the become method in the guest."


class FileMissingError(FailedInGuestError):
    code = "file_missing"
    default_hint = "Check the path in the guest."


class FileTransferError(FailedInGuestError):
    code = "file_transfer"
    default_hint = "Check the path, the permissions and the free space in the guest."
