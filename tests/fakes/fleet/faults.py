# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How simulated agents fail, by name. Whatever becomes of a reply, the command itself was carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.fakes.agent import WINDOWS_TICK_NS, HangUpAfter, Instead, Pause, Pieces, Sent, Silent

SLOW_SECONDS = 0.3
REPLIES_BEFORE_HANGING_UP = 4
# Not JSON in its first byte, and without the 0xFF byte that would make sense of it.
GARBAGE = b"Debian GNU/Linux 12 hvc0\r\n\r\nlogin: \r\n"


@dataclass(frozen=True)
class Sending(Sent):
    """A reply on its way out; no ``command``: it complains of bytes that were no request.

    ``steps``: so many requests to step the clock have come, what is answered here included.
    """

    steps: int = 0


@dataclass(frozen=True)
class SilentAfterStep:
    """Answers no more once it was asked to step its clock."""

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        assert isinstance(sent, Sending)
        return () if sent.steps else pieces


@dataclass(frozen=True)
class Slow:
    """Takes its time for each request."""

    seconds: float

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        return (Pause(self.seconds), *pieces) if sent.command else pieces


@dataclass(frozen=True)
class Fault:
    """What is wrong with an agent.

    ``replies``: what becomes of each. ``is_listening``: somebody listens on its socket. ``claims_only``: it says that
    it has stepped its clock, and has not.
    """

    replies: Callable[[Sent, Pieces], Pieces] | None = None
    is_listening: bool = True
    is_frozen: bool = False
    claims_only: bool = False
    tick_ns: int = 1


FAULTS: Mapping[str, Fault] = {
    "none": Fault(),
    "silent": Fault(replies=Silent()),
    "silent_after_step": Fault(replies=SilentAfterStep()),
    "refuses": Fault(is_listening=False),
    "hangs_up": Fault(replies=HangUpAfter(REPLIES_BEFORE_HANGING_UP)),
    "garbage": Fault(replies=Instead((GARBAGE,))),
    "liar": Fault(claims_only=True),
    "frozen": Fault(is_frozen=True),
    "slow": Fault(replies=Slow(SLOW_SECONDS)),
    "coarse": Fault(tick_ns=WINDOWS_TICK_NS),
}
