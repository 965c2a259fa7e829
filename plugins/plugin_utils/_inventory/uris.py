# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hypervisors by their libvirt URIs: ``driver[+transport]://[user@][host][:port]/path[?parameters]``."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

LOCALHOST = "localhost"


def host_of(uri: str) -> str:
    """Return the host in a URI, or ``localhost`` if it has none."""
    try:
        return urlsplit(uri).hostname or LOCALHOST
    except ValueError:
        return uri


def local_uri(uri: str) -> str:
    """Return the URI by which the hypervisor itself reaches the same libvirt daemon.

    libvirt derives it the same way: from the parameter ``name``, or else by removing the transport, the user, the host,
    the port and the parameters (https://libvirt.org/uri.html). A URI without a host is local and stays as it is.
    """
    try:
        parts = urlsplit(uri)
        if parts.hostname is None:
            return uri
    except ValueError:
        return uri
    names = parse_qs(parts.query).get("name")
    return names[0] if names else f"{parts.scheme.partition('+')[0]}://{parts.path}"
