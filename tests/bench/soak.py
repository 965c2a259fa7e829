# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask the extended agent many mixed things, on this machine and with a fake clock; memory and descriptors stay flat.

``python -m tests.bench.soak 100000`` prints a line per tenth, and ends with 1 if memory grew or a descriptor leaked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent
from tests.support.stock_agent import StockAgent

REQUESTS = (
    b'{"execute": "guest-ping"}',
    b'{"execute": "guest-get-host-name", "id": [1, {"a": null}]}',
    b'{"execute": "guest-get-clock"}',
    b'{"command": "guest-update-time", "arguments": {"seconds": 0, "nanoseconds": "1", "relative": true}}',
    b'{"execute": "guest-info"}',
    b'{"execute": "guest-get-osinfo"}',
    b'{"execute": "guest-no-such-command"}',
    b'{"execute": "guest-sync", "arguments": {"id": true}}',
    b"[1, 2, 3]",
    b'{"execute": "guest-get-command-info", "arguments": {"name": "guest-exec"}}',
)
ROUNDS_PER_CLIENT = 50
ALLOWED_KIB = 512
# A client's descriptor is closed when the agent sees that it has gone.
SETTLE_S = 0.2


@dataclass(frozen=True)
class Soak:
    """What so many requests left behind."""

    requests: int
    grown_kib: int
    leaked_descriptors: int

    @property
    def is_flat(self) -> bool:
        return self.grown_kib <= ALLOWED_KIB and self.leaked_descriptors <= 0

    def as_dict(self) -> dict[str, int]:
        return {
            "soak_requests": self.requests,
            "soak_grown_kib": self.grown_kib,
            "soak_leaked_descriptors": self.leaked_descriptors,
        }


def soak(count: int, say: Callable[[str], None]) -> Soak:
    with StockAgent(permits_time=True) as stock, ExtendedAgent(stock.socket) as agent:

        def ask(requests: int) -> None:
            for first in range(0, requests, len(REQUESTS) * ROUNDS_PER_CLIENT):
                with Client(agent.socket) as client:
                    for request in REQUESTS * min(ROUNDS_PER_CLIENT, (requests - first) // len(REQUESTS)):
                        client.ask(request)

        ask(2 * len(REQUESTS) * ROUNDS_PER_CLIENT)  # until every path has been taken and every cache is full
        time.sleep(SETTLE_S)
        start_kib, descriptors = agent.resident_kib(), agent.descriptors()
        for tenth in range(1, 11):
            ask(count // 10)
            say(f"{count * tenth // 10:>9} requests: {agent.resident_kib()} KiB, {agent.descriptors()} descriptors")
        time.sleep(SETTLE_S)
        return Soak(count, agent.resident_kib() - start_kib, agent.descriptors() - descriptors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="number of requests")
    done = soak(parser.parse_args().count, print)
    print(f"memory grew by {done.grown_kib} KiB; {done.leaked_descriptors:+} descriptors")
    return int(not done.is_flat)


if __name__ == "__main__":
    sys.exit(main())
