# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on the resources that a peer may use: bytes, requests and seconds."""

from __future__ import annotations

from typing import NamedTuple


class Costs(NamedTuple):
    """
    ``request_bytes``: the size of the largest request (libvirt's own limit is 4 MiB), and of all queued requests
    together. A request larger than ``fancy_bytes`` must be plain ASCII. ``waiting_requests``: the most queued requests.
    ``reply_bytes``: the stock agent's own limit for a message, with room for encoding. Up to this size, and up to
    ``unasked_lines``, may arrive between two expected replies, because they may be replies to a former client.
    ``slow_seconds``: how long the order of replies is kept; after this time, a sync overtakes requests that the stock
    agent has not answered. ``alive_seconds``: the stock agent must show within this time that it responds (libvirt
    waits as long for a sync). ``reply_seconds``: the time limit for a reply; freezing file systems under load takes
    minutes. ``return_seconds``: how long requests wait for a stock agent that has ended, since it is restarted a second
    after a crash. ``start_seconds``: how long the host waits for the stock agent at the start. ``fresh_seconds``: a
    stock agent that sent a line within this time is assumed to respond. After it, a sync precedes the request, which
    costs less than a request that hangs.
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
