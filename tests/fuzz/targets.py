"""What is fuzzed: functions of bytes that raise on a defect, and on nothing else.

Each is deterministic, touches no clock and waits for nothing, so that an input means the same at every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fuzz.targets_agent import agent_requests
from tests.fuzz.targets_channel import libvirt, stream
from tests.fuzz.targets_replies import info, resync, shapes
from tests.fuzz.targets_stock import stock_replies
from tests.fuzz.targets_wire import decoder, messages

Target = Callable[[bytes], None]

TARGETS: Mapping[str, Target] = {
    "decoder": decoder,
    "messages": messages,
    "shapes": shapes,
    "info": info,
    "resync": resync,
    "stream": stream,
    "libvirt": libvirt,
    "agent_requests": agent_requests,
    "stock_replies": stock_replies,
}
