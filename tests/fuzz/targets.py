"""What is fuzzed: functions of bytes that raise on a defect, and on nothing else.

Each is deterministic, touches no clock and waits for nothing, so that an input means the same at every run.
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
