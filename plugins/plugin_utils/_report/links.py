# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links from error codes to their sections in the troubleshooting guide."""

from __future__ import annotations

from .codes import HINTS

# Beside the file that galaxy.yml has as the collection's documentation.
TROUBLESHOOTING = "https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/docs/docsite/rst/troubleshooting.rst"
# Those that have a section and can be in a report. A guest may have sent any other text as a code.
CODES = frozenset(
    (
        *("invalid_option", "missing_library", "host_clock_unsynchronized", "hypervisor_unavailable"),
        *("permission_denied", "not_found", "not_running", "not_configured", "not_connected", "replaced"),
        *("unresponsive", "timeout", "protocol_error", "command_not_found", "command_disabled", "frozen"),
        *("not_supported", "command_failed", "not_converged", "opted_out", "guests_failed", "deadline"),
        "internal_error",
        *HINTS,
    )
)


def troubleshooting(code: str) -> str:
    """Return the address of the section on that code; empty if there is none."""
    # docutils, and so GitHub, makes such an anchor of a heading.
    return f"{TROUBLESHOOTING}#{code.replace('_', '-')}" if code in CODES else ""
