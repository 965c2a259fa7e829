# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on what a peer may cost, in bytes, requests and seconds."""

from __future__ import annotations

from typing import NamedTuple


class Costs(NamedTuple):
    """
    ``request_bytes``: the largest request (libvirt's own limit is 4 MiB), and the sum of those that wait; one of more
    than ``fancy_bytes`` must be plain ASCII. ``waiting_requests``: so many are read ahead. ``reply_bytes``: the stock
    agent's own limit for its messages, and room for what encoding adds; so much, and ``unasked_lines``, may come
    between two replies that were asked for: what a former client was owed. ``slow_seconds``: an order of replies is
    kept for so long; then a synchronisation goes before whatever the stock agent still owes. ``alive_seconds``: the
    stock agent must say by then that it listens (libvirt waits as long for a sync). ``reply_seconds``: a request's
    reply must have come by then; freezing file systems under load takes minutes. ``return_seconds``: requests wait so
    long for a stock agent that has gone, since a crash is followed by a restart after a second. ``start_seconds``: the
    host waits so long for the stock agent at the start. ``fresh_seconds``: a stock agent that was heard so recently is
    taken to live; later, a sync asks it first, which costs less than a request that hangs.
    """

    request_bytes: int = 16 * 1024 * 1024
    fancy_bytes: int = 1024 * 1024
    waiting_requests: int = 64
    reply_bytes: int = 66 * 1024 * 1024
    unasked_lines: int = 256
    slow_seconds: float = 0.5
    alive_seconds: float = 5.0
    reply_seconds: float = 600.0
    return_seconds: float = 3.0
    start_seconds: float = 2.0
    reconnect_seconds: float = 0.1  # doubled at each failure
    longest_reconnect_seconds: float = 5.0
    farewell_seconds: float = 2.0
    fresh_seconds: float = 1.0
