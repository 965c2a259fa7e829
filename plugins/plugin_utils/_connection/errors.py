# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of commands and files in a guest; those of the way to its agent are in ``module_utils``."""

from __future__ import annotations

from ...module_utils._protocol.errors import QgaError


class OfTheCommandError(QgaError):
    """The guest is reached, and what it was asked to do failed."""


class CommandTimeoutError(OfTheCommandError):
    code = "exec_timeout"
    default_hint = "Raise exec_timeout (0 is no limit), or run what takes so long with async."


class TransferTimeoutError(CommandTimeoutError):
    default_hint = "Raise exec_timeout (0 is no limit), if the guest is merely slow."


class ResultLostError(QgaError):
    """The command was started, and nobody knows what became of it: it must not be taken for done, or for not done."""

    code = "result_lost"
    default_hint = "It may have done a part of its work, or all: look at the guest before it is run again."


class OutputTooLongError(OfTheCommandError):
    code = "output_too_long"
    default_hint = "Write it to a file in the guest and fetch that, or raise max_output."


class OutputLostError(OfTheCommandError):
    """The command ended, but the guest could not keep all that it wrote."""

    code = "output_lost"
    default_hint = "Make room in the guest, or name a place with room in guest_directories."


class NoPlaceError(OfTheCommandError):
    """The guest has no directory for what the connection keeps there."""

    code = "no_place"
    default_hint = "Make room in the guest, or name a directory in guest_directories that its agent may write to."


class BecomeError(OfTheCommandError):
    code = "become_failed"
    default_hint = "Check the become password, and that its user may use the become method in the guest."


class FileMissingError(OfTheCommandError):
    code = "file_missing"
    default_hint = "Check the path in the guest."


class FileTransferError(OfTheCommandError):
    code = "file_transfer"
    default_hint = "Check the path, the permissions and the free space in the guest."
