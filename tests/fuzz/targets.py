"""The fuzzed functions. Each takes bytes and raises only on a bug.

They are deterministic, change no clock and never wait, so that an input has the same result in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fuzz.targets_agent import agent_requests, stock_replies
from tests.fuzz.targets_channel import libvirt, stream
from tests.fuzz.targets_replies import decoder, info, messages, resync, shapes

TARGETS: Mapping[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (decoder, messages, shapes, info, resync, stream, libvirt, agent_requests, stock_replies)
}
