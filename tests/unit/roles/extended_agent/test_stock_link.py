"""The link to the stock agent: what is sent, and which line is the reply to which request."""

from __future__ import annotations

import os
from typing import Any

import pytest

from .conftest import ERROR, LINK_COSTS, Observed

ONE = b'{"return": 1}\n'
SYNC = b'{"execute": "guest-sync-delimited"'


def test_a_connection_begins_by_ending_an_incomplete_request_of_another_client(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock)
    assert not observed.link.is_connected
    assert observed.link.connect()
    assert observed.link.expected, "it owes the reply to the sync"
    turned.settle()
    assert stock.received.startswith(b"\xff" + SYNC)
    assert observed.events == [("connected",), ("freed",)]
    assert not observed.link.expected


def test_requests_and_replies_are_forwarded_unchanged(observed: Observed) -> None:
    raw = b"{ 'execute':'guest-exec', \"id\":  1.50 }"
    line = b'{"return":  {"pid": 1.10, "text": "\\u00E9\\/"},   "id": 1.50}\n'
    observed.stock.answers["guest-exec"] = line
    observed.ask(raw=raw)
    assert observed.stock.received == raw + b"\n"
    assert observed.replies == [line]
    assert observed.events == [("sent", "guest-exec"), ("answered", "guest-exec", line.decode()), ("freed",)]


def test_after_a_pause_a_sync_precedes_the_request(observed: Observed) -> None:
    observed.stock.is_hanging = True
    assert observed.ask().is_heard, "it was heard just now"
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.go_on()
    observed.stock.received = b""
    observed.stock.is_hanging = True
    observed.turned.loop.now += 2 * LINK_COSTS.fresh_seconds
    asked = observed.ask()
    assert not asked.is_heard
    observed.go_on()
    assert observed.stock.received.startswith(SYNC)
    assert asked.is_heard
    assert len(observed.replies) == 2


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\n", b"\n", b"[]\n", b'{"return": 1}{"return": 2}\n', b'{"return": NaN}\n', b'"' * 200_000 + b"\n"],
    ids=["words", "nothing", "a list", "two replies", "NaN", "a long text"],
)
def test_an_invalid_reply_becomes_a_failure_and_does_not_affect_the_next_one(
    observed: Observed, garbage: bytes
) -> None:
    observed.stock.answers["guest-exec"] = garbage
    observed.ask()
    assert observed.replies == []
    assert observed.failures == ["the stock agent answered guest-exec with something that is not a reply"]
    observed.stock.received = b""
    observed.stock.answers["guest-get-users"] = b'{"return": []}\n'
    observed.ask("guest-get-users")
    assert observed.stock.received.startswith(SYNC), "more of it might arrive"
    assert observed.replies == [b'{"return": []}\n']


def test_a_line_beyond_the_limit_is_not_stored_and_becomes_a_failure(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock, LINK_COSTS._replace(reply_bytes=100_000))
    observed.connect()
    observed.ask()
    for _piece in range(20):
        observed.send(b"x" * 50_000)
        assert len(observed.link._line) <= 100_000
    observed.send(b"\n")
    assert len(observed.failures) == 1
    stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.ask()
    assert observed.replies == [b'{"return": 1}\n']


# ------------------------------------------------------------------------- commands that are answered only if they fail

NO_REPLY = b""


def test_a_silent_command_is_sent_between_two_syncs_and_succeeds_if_only_their_replies_arrive(
    observed: Observed,
) -> None:
    observed.shut_down()
    lines = observed.stock.received.splitlines()
    assert [line.startswith(SYNC) for line in lines] == [True, False, True]
    assert lines[1] == b'{"execute": "guest-shutdown"}'
    assert (observed.replies, observed.failures) == ([NO_REPLY], [])
    assert observed.events == [("sent", "guest-shutdown"), ("freed",)]
    observed.send(ERROR)
    assert observed.replies == [NO_REPLY]


@pytest.mark.parametrize("fresh_seconds", [0.0, 60.0])
@pytest.mark.parametrize(
    ("answer", "replies", "failures"),
    [
        (ERROR, [ERROR], []),
        (ERROR * 5, [ERROR], []),
        (b"garbage\n", [], ["the stock agent answered guest-shutdown with something that is not a reply"]),
    ],
)
def test_it_has_at_most_one_reply_however_much_is_sent(
    turned: Any, stock: Any, fresh_seconds: float, answer: bytes, replies: list[bytes], failures: list[str]
) -> None:
    observed = Observed(turned, stock, LINK_COSTS._replace(fresh_seconds=fresh_seconds))
    observed.connect()
    observed.stock.answers["guest-shutdown"] = answer
    observed.shut_down()
    assert (observed.replies, observed.failures) == (replies, failures)
    assert not observed.link.expected


# ------------------------------------------------------------------------------------------------ coming and going


@pytest.mark.parametrize("command", ["guest-exec", "guest-shutdown"])
def test_when_it_disconnects_every_request_fails_with_the_reason(observed: Observed, command: str) -> None:
    observed.stock.is_hanging = True
    observed.ask(command, is_silent=command == "guest-shutdown")
    observed.hang_up()
    assert observed.failures == [f"the stock agent disconnected before it answered {command}: it closed the connection"]
    assert observed.events[-1] == ("freed",)
    assert not observed.link.is_connected
    assert observed.link.away_reason == "it closed the connection"


def test_a_reply_may_arrive_in_pieces_and_an_incomplete_one_does_not_affect_the_next_connection(
    observed: Observed,
) -> None:
    observed.ask()
    observed.send(b'{"return": "half')
    assert observed.replies == []
    observed.hang_up()
    observed.connect()
    observed.ask()
    for piece in (b'{"ret', b'urn": "whole"', b"}", b"\n"):
        assert observed.replies == []
        observed.send(piece)
    assert observed.replies == [b'{"return": "whole"}\n']


def test_it_reconnects_by_itself(observed: Observed) -> None:
    os.rename(observed.stock.path, observed.stock.path + ".away")
    observed.stock.hang_up()
    observed.turned.until(lambda: observed.link.away_reason.startswith("it is not running (nothing listens on "))
    os.rename(observed.stock.path + ".away", observed.stock.path)
    observed.turned.until(lambda: ("connected",) in observed.events)


def test_leaving_waits_until_all_replies_are_read(observed: Observed) -> None:
    # The stock agent does not survive a client that leaves some unread.
    left: list[str] = []
    observed.stock.is_hanging = True
    observed.ask()
    observed.link.leave(lambda: left.append("left"))
    assert left == []
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.stock.go_on()
    observed.turned.until(lambda: bool(left))
    assert ("answered", "guest-exec", '{"return": 1}\n') in observed.events
    assert observed.replies == []
    assert not observed.link.connect(), "it has left"


def test_leaving_does_not_wait_for_a_hanging_or_absent_stock_agent(turned: Any, stock: Any) -> None:
    left: list[str] = []
    observed = Observed(turned, stock)
    observed.link.leave(lambda: left.append("left"))
    assert left == ["left"]
    observed = Observed(turned, stock)
    observed.connect()
    stock.is_hanging = True
    observed.ask()
    stock.pause()
    observed.link.leave(lambda: left.append("left"))
    turned.until(lambda: len(left) == 2)


@pytest.mark.parametrize(
    "flood",
    [b'{"return": {}}\n' * 50, b"\n" * 50, b'\xff{"return": 0}\n' * 50, b"x" * 1001, b"x" * 999 + b"\n" * 2],
    ids=["replies", "empty lines", "false syncs", "no end", "many bytes"],
)
def test_an_agent_that_floods_is_disconnected_for_a_while(turned: Any, stock: Any, flood: bytes) -> None:
    observed = Observed(turned, stock, LINK_COSTS._replace(unasked_lines=49, reply_bytes=1000))
    observed.connect()
    observed.send(flood)
    assert not observed.link.is_connected
    assert observed.link.away_reason == "it sent too much unsolicited data"
    turned.until(lambda: observed.link.is_connected)


def test_a_few_unsolicited_lines_are_dropped_and_a_reply_resets_the_count(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock, LINK_COSTS._replace(unasked_lines=49, reply_bytes=1000))
    observed.connect()
    stock.answers["guest-exec"] = b'{"return": 1}\n'
    for _time in range(5):
        observed.send(b'{"return": {}}\n' * 49)
        observed.ask()
    assert observed.replies == [b'{"return": 1}\n'] * 5


def test_the_rest_of_a_flood_does_not_reach_the_next_connection(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock, LINK_COSTS._replace(unasked_lines=9))
    observed.connect()
    reconnected: list[bool] = []
    observed.freed = lambda: reconnected.append(observed.link.connect())  # type: ignore[method-assign]
    observed.send(b"\n" * 30)
    assert observed.link.is_connected
    assert len(reconnected) == 9 + 1 + 1, "after each line, when it was disconnected, and after the new sync"
