# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mark in a domain's definition that forbids touching its guest's clock.

``<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>`` among the domain's metadata (docs/formatdomain.html,
"General metadata", libvirt 11.3.0).
"""

from __future__ import annotations

from .._channels.base import Channel
from .._errors import OptedOutError

NAMESPACE = "urn:qemu.guest_agent:resync"


async def require_allowed(channel: Channel, timeout: float) -> None:
    """Make sure that the guest's clock may be touched.

    :raises OptedOutError: it may not
    :raises QgaError: the hypervisor is not available
    """
    element = await channel.metadata(NAMESPACE, timeout)
    if element is None:
        return
    # Few domains have one, and the parser is slow to import.
    from xml.etree import ElementTree

    # libvirt has checked the XML. Anything other than a clear yes counts as no: the purpose of the mark is to forbid.
    if ElementTree.fromstring(element).get("enabled", "").strip().lower() not in ("yes", "true", "on", "1"):
        raise OptedOutError(f"{channel} is opted out: its metadata has {NAMESPACE}")
