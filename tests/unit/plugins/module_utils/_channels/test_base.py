from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import (
    NO_REPLY,
    Channel,
    Exchange,
    ForwardingChannel,
    Request,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Returned

from tests.support.blocking import Blocking

PING = Request("guest-ping")


def test_arguments_may_be_a_function_of_the_time_of_sending() -> None:
    assert PING.arguments_at(7) == {}
    assert Request("guest-set-time", {"time": 5}).arguments_at(7) == {"time": 5}
    assert Request("guest-set-time", lambda now_ns: {"time": now_ns + 1}).arguments_at(7) == {"time": 8}


def test_the_value_of_an_exchange_is_the_returned_value() -> None:
    assert Exchange(Returned(42), 1, 2).value == 42
    assert Exchange(Refused("GenericError", "no"), 1, 2).value is None
    assert Exchange(NO_REPLY, 1, 1).value == {}


def recording(name: str) -> Any:
    async def method(channel: RecordingChannel, *arguments: Any) -> str:
        channel.calls.append((name, *arguments))
        return name

    return method


class RecordingChannel(Channel):
    """Records its calls, and returns the name of each."""

    is_shared = "is_shared"  # type: ignore[assignment]
    guest_name = "guest_name"  # type: ignore[assignment]
    thaw_hint = "thaw_hint"  # type: ignore[assignment]
    call = recording("call")
    metadata = recording("metadata")
    macs = recording("macs")
    require_same = recording("require_same")
    let_go = recording("let_go")
    regain = recording("regain")
    close = recording("close")

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __str__(self) -> str:
        return "a channel"

    def pin(self) -> None:
        self.calls.append(("pin",))


def test_a_channel_is_closed_at_the_end_of_its_block_whatever_happens() -> None:
    channel = RecordingChannel()
    with pytest.raises(ZeroDivisionError), Blocking(channel):
        raise ZeroDivisionError
    assert channel.calls == [("close",)]


# The arguments of each call.
CALLS: dict[str, tuple[Any, ...]] = {
    "call": (PING, 5.0),
    "metadata": ("urn:x", 2.0),
    "macs": (2.0,),
    "pin": (),
    "require_same": (2.0,),
    "let_go": (3600.0,),
    "regain": (5.0,),
    "close": (),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_forwarded_to_the_channel_and_its_result_returned(name: str) -> None:
    channel = RecordingChannel()
    answer = getattr(Blocking(ForwardingChannel(channel)), name)(*CALLS[name])
    assert answer == (name if name in ("call", "metadata", "macs") else None)
    assert channel.calls == [(name, *CALLS[name])]


def test_every_member_of_a_channel_is_forwarded() -> None:
    channel = ForwardingChannel(RecordingChannel())
    assert (channel.is_shared, channel.guest_name, channel.thaw_hint) == ("is_shared", "guest_name", "thaw_hint")
    assert str(channel) == "a channel"
    assert {name for name in vars(Channel) if not name.startswith("_")} == {
        "is_shared",
        "guest_name",
        "thaw_hint",
        *CALLS,
    }
