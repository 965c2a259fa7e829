# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several runs at one guest at the same time, on a time line that nothing but they move."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Wait

from tests.fakes.guest import SECOND, Delays, SimulatedGuest, TimeLine

Result = TypeVar("Result")


def side_by_side(line: TimeLine, tasks: Sequence[Coroutine[Wait, Any, Result]]) -> list[Result]:
    """What each of them returns. Whichever's wait ends first goes on; they begin in their order."""
    results: dict[int, Result] = {}
    order = itertools.count()
    waiting = [(line.now_ns, next(order), number) for number in range(len(tasks))]
    while waiting:
        until_ns, _order, number = heapq.heappop(waiting)
        line.now_ns = max(line.now_ns, until_ns)
        try:
            wait = tasks[number].send(None)
        except StopIteration as ended:
            results[number] = ended.value
        else:
            heapq.heappush(waiting, (max(line.now_ns, round(wait.until * SECOND)), next(order), number))
    return [results[number] for number in range(len(tasks))]


def jitter(drawn: random.Random, forward_ns: int = 300_000, backward_ns: int = 200_000) -> Delays:
    """Delays of an emulated guest on a machine that has other things to do."""
    return lambda _command: (
        round(forward_ns * drawn.uniform(0.8, 1.6)),
        round(backward_ns * drawn.uniform(0.8, 1.6)),
    )


class SharedGuest:
    """A guest whose agent serves several clients, one exchange at a time and in their order, as libvirt has it.

    ``offsets`` is what the guest's clock has been off by, one after the other; the last one still is.
    """

    def __init__(self, line: TimeLine, guest: SimulatedGuest) -> None:
        self.guest = guest
        self.line = line
        self._free_at_ns = 0
        self.offsets = [guest.clock.offset_ns()]

    def client(self, gate: Callable[[Request], bool] = lambda _request: True) -> SharedGuestClient:
        """``gate``: a request is sent once it says yes."""
        return SharedGuestClient(self, gate)

    async def serve(self, request: Request) -> Exchange:
        line = self.line
        sent_ns = line.now_ns
        forward_ns, backward_ns = self.guest.delays(request.execute)
        begun_ns = max(sent_ns, self._free_at_ns)
        self._free_at_ns = begun_ns + forward_ns + backward_ns
        arguments = dict(request.arguments_at(sent_ns))
        await _until(begun_ns + forward_ns)
        self.guest.requests.append((request.execute, arguments))
        reply = self.guest.handlers[request.execute](arguments)
        if self.guest.clock.offset_ns() != self.offsets[-1]:
            self.offsets.append(self.guest.clock.offset_ns())
        done_ns = line.now_ns + backward_ns
        self._free_at_ns = max(self._free_at_ns, done_ns)
        await _until(done_ns)
        return Exchange(reply, sent_ns, line.now_ns)


class SharedGuestClient(Channel):
    is_shared = True

    def __init__(self, shared: SharedGuest, gate: Callable[[Request], bool]) -> None:
        self._shared = shared
        self._gate = gate

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # the agent is not slow
        while not self._gate(request):
            await _until(self._shared.line.now_ns + 1_000)
        return await self._shared.serve(request)

    async def close(self) -> None:
        pass


async def _until(at_ns: int) -> None:
    await Wait(at_ns / SECOND)
