"""The request queue: when requests are answered, also for clients that do not read or have disconnected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dispatcher_ends import Client, CountingClock
from tests.support.extended_agent import module

messages = module("_protocol.messages", "guest_agent")

COSTS = module("limits").Costs(
    waiting_requests=8,
    slow_seconds=0.03,
    alive_seconds=0.15,
    reply_seconds=0.3,
    request_bytes=10_000,
    fancy_bytes=1_000,
)
# Longer than a test takes on any machine.
PATIENT = COSTS._replace(slow_seconds=60.0, alive_seconds=60.0, reply_seconds=60.0)
PING = b'{"execute": "guest-ping"}'
PONG = {"return": {}}
EXEC = b'{"execute": "guest-exec"}'
SYNC = b'{"execute": "guest-sync", "arguments": {"id": 9}}'


class Dispatched:
    def __init__(self, turned: Any, stock: Any, directory: Path, costs: Any) -> None:
        self.turned = turned
        self.stock = stock
        self.clock = CountingClock()
        self.client = Client()
        log = module("log").Log("/dev/null")
        self.known = module("stock").Stock(turned.loop, stock.path, str(directory), costs, log)
        policy = module("policy")
        rules = policy.Policy(policy.Lists(blocked=frozenset(("guest-file-open",))), self.known)
        context = module("own_commands").Context(self.clock, self.known, rules, lambda: None)
        self.dispatcher = module("dispatch").Dispatcher(turned.loop, context, costs, log)
        self.dispatcher.begin(self.client)
        assert self.known.link.connect()
        turned.settle()
        stock.answers["guest-get-users"] = b'{"return": "users"}\n'

    def ask(self, data: bytes) -> list[Any]:
        """Send data; return all replies that the client has received."""
        self.dispatcher.received(data)
        self.turned.settle()
        return self.client.replies

    def send(self, line: bytes) -> list[Any]:
        """Have the stock agent send a line; return all replies that the client has received."""
        self.stock.send(line)
        self.turned.settle()
        return self.client.replies

    def go_on(self) -> None:
        self.stock.go_on()
        self.turned.settle()

    def shut_down(self, command: str = "guest-shutdown", is_heard: bool = True) -> None:
        """Have the stock agent receive the command, perhaps show that it responds, and disconnect before it answers."""
        self.stock.is_hanging = True
        self.ask(b'{"execute": "%b"}' % command.encode())
        if is_heard:
            self.send(self.opening())
        self.stock.hang_up()
        self.turned.settle()

    def opening(self) -> bytes:
        """Return the reply to the sync that precedes a silent command."""
        return b'\xff{"return": %d}\n' % json.loads(self.stock.unread.splitlines()[0])["arguments"]["id"]

    def until_replies(self, count: int) -> list[Any]:
        self.turned.until(lambda: len(self.client.lines) >= count)
        return self.client.replies


@pytest.fixture
def dispatched(turned: Any, stock: Any, tmp_path: Path) -> Dispatched:
    return Dispatched(turned, stock, tmp_path, PATIENT)


@pytest.fixture
def hasty(turned: Any, stock: Any, tmp_path: Path) -> Dispatched:
    """A dispatcher with short timeouts."""
    return Dispatched(turned, stock, tmp_path, COSTS)


# ---------------------------------------------------------------------------------------------------------- the order


def test_requests_are_answered_in_their_order(dispatched: Dispatched) -> None:
    assert dispatched.ask(PING) == [PONG]
    assert dispatched.ask(EXEC + EXEC) == dispatched.ask(PING) == [PONG]
    assert dispatched.stock.commands.count("guest-exec") == 1, "the stock agent gets one at a time"
    dispatched.send(b'{"return": 1}\n')
    assert dispatched.send(b'{"return": 2}\n') == [PONG, {"return": 1}, {"return": 2}, PONG]


def test_a_cached_request_is_refused_once_it_is_not_allowed_any_more(dispatched: Dispatched) -> None:
    clock = b'{"execute": "guest-get-clock"}'
    assert "return" in dispatched.ask(clock)[-1]
    dispatched.known.is_frozen = True
    assert "frozen" in dispatched.ask(clock)[-1]["error"]["desc"]


def test_the_clock_is_read_first_and_last(dispatched: Dispatched) -> None:
    (reply,) = dispatched.ask(b'{"execute": "guest-get-clock", "id": {"transmitted": 0}}')
    assert reply["id"] == {"transmitted": 0}
    readings = {"received": 1, "transmitted": 2}
    kept = {"synchronized": True, "max-error": 1000, "slewing": 0, "slewable": True}
    assert reply["return"] == {**readings, **kept}


# ------------------------------------------------------------------------------------------ a stock agent that is slow


@pytest.mark.parametrize(
    ("later", "reply"),
    [
        (b"\xff" + PING, {"error": {"class": "GenericError", "desc": "JSON parse error, stray '\ufffd'"}}),
        (SYNC, {"return": 9}),
        (b'{"execute": "guest-ping", "id": 1}', {"return": {}, "id": 1}),
    ],
    ids=["0xFF", "a sync", "an id"],
)
def test_a_sync_or_an_id_overtakes_a_slow_request(hasty: Dispatched, later: bytes, reply: Any) -> None:
    hasty.ask(EXEC + later)
    assert hasty.until_replies(1)[0] == reply


def test_a_new_client_does_not_wait_for_a_slow_request_of_the_previous_client(hasty: Dispatched) -> None:
    hasty.ask(EXEC)
    hasty.dispatcher.hang_up()
    hasty.client = Client()
    hasty.dispatcher.begin(hasty.client)
    hasty.ask(PING)
    assert hasty.until_replies(1) == [PONG]


def test_a_full_queue_does_not_wait_for_a_slow_request(hasty: Dispatched) -> None:
    # Otherwise, a sync that does not fit in the queue would have to wait, too.
    hasty.ask(EXEC + PING * COSTS.waiting_requests)
    replies = hasty.until_replies(1 + COSTS.waiting_requests)
    assert "may still carry it out" in replies[0]["error"]["desc"]
    assert replies[1:] == [PONG] * COSTS.waiting_requests


@pytest.mark.parametrize("command", ["guest-exec", "guest-shutdown"])
def test_a_missing_reply_becomes_an_error_and_so_does_the_next_request(hasty: Dispatched, command: str) -> None:
    hasty.stock.is_hanging = True
    hasty.ask(b'{"execute": "%b", "id": 1}{"execute": "guest-get-users"}' % command.encode())
    late, busy = hasty.until_replies(2)
    words = f"The stock agent did not answer {command} in time; it may still carry it out"
    assert late == {"error": {"class": "GenericError", "desc": words}, "id": 1}
    assert "busy with an earlier request" in busy["error"]["desc"]
    hasty.stock.answers["guest-exec"] = b'{"return": "late"}\n'
    hasty.go_on()
    hasty.turned.until(lambda: hasty.known.is_free)
    assert hasty.client.replies == [late, busy], "the late reply is dropped"


# ------------------------------------------------------------------------- commands that are answered only if they fail


SHUTDOWN = b'{"execute": "guest-shutdown", "id": 1}'
ERROR = {"error": {"class": "GenericError", "desc": "no"}, "id": 1}
AFTER_IT: dict[str, tuple[bytes, list[Any]]] = {
    "a command answered here": (PING, [PONG]),
    "one with an id": (b'{"execute": "guest-ping", "id": 2}', [{"return": {}, "id": 2}]),
    "one that is passed on": (b'{"execute": "guest-get-users"}', [{"return": "users"}]),
    "a sync": (SYNC, [{"return": 9}]),
    "the byte 0xFF": (b"\xff", [{"error": {"class": "GenericError", "desc": "JSON parse error, stray '\ufffd'"}}]),
    "what is refused": (b"[]", [{"error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}]),
    "the same again": (SHUTDOWN, [ERROR]),
}


@pytest.mark.parametrize("what", AFTER_IT)
def test_its_error_precedes_the_replies_to_later_requests(dispatched: Dispatched, what: str) -> None:
    sent, replies = AFTER_IT[what]
    dispatched.stock.is_hanging = True
    assert dispatched.ask(SHUTDOWN + sent) == []
    dispatched.stock.answers["guest-shutdown"] = json.dumps(ERROR).encode() + b"\n"
    dispatched.go_on()
    assert dispatched.client.replies == [ERROR, *replies]


@pytest.mark.parametrize("what", AFTER_IT)
def test_when_it_succeeds_later_requests_are_answered_at_once(dispatched: Dispatched, what: str) -> None:
    sent, replies = AFTER_IT[what]
    assert dispatched.ask(SHUTDOWN + sent) == ([] if sent == SHUTDOWN else replies)
    assert dispatched.known.is_free


def test_own_commands_do_not_wait_for_the_closing_sync_after_an_error(dispatched: Dispatched) -> None:
    dispatched.stock.is_hanging = True
    dispatched.ask(SHUTDOWN + PING)
    assert dispatched.send(dispatched.opening() + json.dumps(ERROR).encode() + b"\n") == [ERROR, PONG]


def test_a_stock_agent_that_a_shutdown_ends_causes_no_error_unless_this_agent_outlives_it(
    hasty: Dispatched,
) -> None:
    hasty.shut_down()
    assert hasty.client.replies == []
    (reply,) = hasty.until_replies(1)
    assert "did not answer guest-shutdown in time" in reply["error"]["desc"]


@pytest.mark.parametrize(
    ("command", "is_heard"),
    [("guest-suspend-ram", True), ("guest-shutdown", False)],
)
def test_a_stock_agent_that_ends_during_a_suspension_or_before_a_shutdown_causes_an_error(
    dispatched: Dispatched, command: str, is_heard: bool
) -> None:
    dispatched.shut_down(command, is_heard)
    (reply,) = dispatched.client.replies
    assert f"disconnected before it answered {command}" in reply["error"]["desc"]


def test_a_command_that_the_stock_agent_lists_as_silent_is_silent(dispatched: Dispatched) -> None:
    info = module("stock").read_info(
        messages.Returned({"supported_commands": [{"name": "guest-nap", "enabled": True, "success-response": False}]})
    )
    dispatched.known.info = info
    assert dispatched.ask(b'{"execute": "guest-nap"}' + PING) == [PONG]
    assert dispatched.known.is_free


# --------------------------------------------------------------------------------------------------------- the client


def test_a_client_that_does_not_read_gets_no_more_replies_until_it_does(dispatched: Dispatched) -> None:
    dispatched.client.is_congested = True
    assert dispatched.ask(PING + PING) == []
    dispatched.client.is_congested = False
    dispatched.dispatcher.drained()
    assert dispatched.client.replies == [PONG, PONG]


@pytest.mark.parametrize("is_begun_anew", [False, True])  # as with a device, whose stream stays the same
def test_a_full_queue_pauses_the_client_and_resumes_it(dispatched: Dispatched, is_begun_anew: bool) -> None:
    dispatched.ask(EXEC + PING * (COSTS.waiting_requests + 5))
    assert dispatched.client.flow == ["pause"]
    if is_begun_anew:
        dispatched.dispatcher.hang_up()
        dispatched.dispatcher.begin(dispatched.client)
    replies = dispatched.send(b'{"return": 1}\n')
    assert dispatched.client.flow == ["pause", "resume"]
    assert replies == ([] if is_begun_anew else [{"return": 1}] + [PONG] * (COSTS.waiting_requests + 5))


def test_large_requests_fill_the_queue(dispatched: Dispatched) -> None:
    large = b'{"execute": "guest-exec", "id": "%b"}' % (b"x" * (COSTS.request_bytes - 100))
    dispatched.ask(EXEC + large)
    assert dispatched.client.flow == []
    dispatched.ask(large)
    assert dispatched.client.flow == ["pause"]


def test_requests_of_a_disconnected_client_are_carried_out_but_not_answered(dispatched: Dispatched) -> None:
    dispatched.ask(EXEC + b'{"execute": "guest-get-users"}')
    dispatched.dispatcher.hang_up()
    after = Client()
    dispatched.dispatcher.begin(after)
    dispatched.send(b'{"return": 1}\n')
    assert dispatched.stock.commands[-2:] == ["guest-exec", "guest-get-users"]
    assert dispatched.client.lines == after.lines == []
    dispatched.ask(PING)
    assert after.replies == [PONG]


@pytest.mark.parametrize(("asked", "replies"), [(EXEC + PING, 2), (SHUTDOWN, 0)])
def test_it_reports_when_a_client_that_sends_no_more_has_all_of_its_replies(
    dispatched: Dispatched, asked: bytes, replies: int
) -> None:
    ended: list[int] = []
    dispatched.dispatcher.on_all_answered = lambda: ended.append(len(dispatched.client.lines))
    dispatched.stock.answers["guest-exec"] = b'{"return": 1}\n'
    dispatched.stock.is_hanging = True
    dispatched.ask(asked)
    dispatched.dispatcher.end()
    dispatched.turned.settle()
    assert ended == []
    dispatched.go_on()
    assert ended == [replies]
