# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base class of all errors, and the errors of the protocol.

Each class has a stable ``code`` that playbooks may test, and a hint about what to do.
"""

from __future__ import annotations

from typing import ClassVar


class QgaError(Exception):
    """Base class of all errors that this collection raises on purpose.

    ``message`` is one sentence: what was wrong, and where. ``hint`` is one sentence: what to do about it.
    """

    code: ClassVar[str] = "internal_error"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


class ProtocolError(QgaError):
    code = "protocol_error"


class LocalProtocolError(ProtocolError):
    """This end tried to send something that the protocol cannot carry."""

    default_hint = "This is a bug in the caller; please report it."


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow, or more than the limits allow."""

    default_hint = "Check that the address belongs to a guest agent, and that no other program writes to its channel."
