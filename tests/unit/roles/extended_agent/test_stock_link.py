# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way to the stock agent: what goes to it, and which of its lines is whose reply."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.tests.support.extended_agent import module

stock_link = module("stock_link")

COSTS = module("limits").Costs(reconnect_seconds=0.01, longest_reconnect_seconds=0.02, farewell_seconds=0.05)
SYNC = b'{"execute": "guest-sync-delimited"'


class Observed:
    """A way to the played stock agent, and all that it told."""

    def __init__(self, turned: Any, stock: Any, costs: Any = COSTS, log: Any = None) -> None:
        log = log or module("log").Log("/dev/null")
        self.turned = turned
        self.stock = stock
        self.told: list[tuple[str, ...]] = []
        self.replies: list[bytes] = []
        self.failures: list[str] = []
        self.watched = {"guest-exec", "guest-shutdown"}
        self.way = stock_link.StockLink(turned.loop, stock.path, costs, log, self)

    def connected(self) -> None:
        self.told.append(("connected",))

    def sent(self, command: str) -> None:
        self.told.append(("sent", command))

    def answered(self, command: str, line: bytes) -> None:
        self.told.append(("answered", command, bytes(line).decode()))

    def freed(self) -> None:
        self.told.append(("freed",))

    def connect(self) -> None:
        assert self.way.connect()
        self.turned.settle()
        self.told.clear()
        self.stock.received = b""

    def ask(self, command: str = "guest-exec", raw: bytes | None = None, is_silent: bool = False) -> Any:
        raw = b'{"execute": "%b"}' % command.encode() if raw is None else raw
        replied = lambda line: self.replies.append(bytes(line))  # noqa: E731
        asked = self.way.ask(raw + b"\n", command, replied, self.failures.append, is_silent)
        self.turned.settle()
        return asked

    def shut_down(self) -> Any:
        return self.ask("guest-shutdown", is_silent=True)


@pytest.fixture
def observed(turned: Any, stock: Any) -> Observed:
    observed = Observed(turned, stock)
    observed.connect()
    return observed


def test_a_connection_begins_with_what_ends_half_a_request_of_anybody_before(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock)
    assert not observed.way.is_connected
    assert observed.way.connect()
    assert observed.way.expected, "it owes the reply to the sync"
    turned.settle()
    assert stock.received.startswith(b"\xff" + SYNC)
    assert observed.told == [("connected",), ("freed",)]
    assert not observed.way.expected


def test_a_request_passes_and_its_reply_comes_back_as_they_are(observed: Observed) -> None:
    raw = b"{ 'execute':'guest-exec', \"id\":  1.50 }"
    line = b'{"return":  {"pid": 1.10, "text": "\\u00E9\\/"},   "id": 1.50}\n'
    observed.stock.answers["guest-exec"] = line
    observed.ask(raw=raw)
    assert observed.stock.received == raw + b"\n"
    assert observed.replies == [line]
    assert observed.told == [("sent", "guest-exec"), ("answered", "guest-exec", line.decode()), ("freed",)]


def test_a_reply_in_pieces_is_one_reply(observed: Observed) -> None:
    observed.ask()
    for piece in (b'{"ret', b'urn": {', b"}}", b"\n"):
        assert observed.replies == []
        assert observed.way.expected
        observed.stock.say(piece)
        observed.turned.settle()
    assert observed.replies == [b'{"return": {}}\n']


def test_a_reply_of_many_reads_is_one_reply(observed: Observed) -> None:
    line = b'{"return": "' + b"x" * 300_000 + b'"}\n'
    observed.stock.answers["guest-exec"] = line
    observed.ask()
    assert observed.replies == [line]


def test_after_a_pause_a_sign_of_life_goes_before_the_request(
    observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed.stock.is_hanging = True
    assert observed.ask().is_heard, "it was heard just now"
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.stock.go_on()
    observed.turned.settle()
    monkeypatch.setattr(stock_link, "_FRESH_SECONDS", 0.0)
    observed.stock.received = b""
    observed.stock.is_hanging = True
    asked = observed.ask()
    assert not asked.is_heard
    observed.stock.go_on()
    observed.turned.settle()
    assert observed.stock.received.startswith(SYNC)
    assert asked.is_heard
    assert len(observed.replies) == 2


def test_nobody_gets_the_reply_to_what_was_abandoned_but_it_is_waited_for(observed: Observed) -> None:
    asked = observed.ask()
    asked.abandon()
    assert observed.way.expected
    observed.stock.say(b'{"return": "late"}\n')
    observed.turned.settle()
    assert observed.replies == []
    assert observed.told[-2:] == [("answered", "guest-exec", '{"return": "late"}\n'), ("freed",)]


@pytest.mark.parametrize(
    "garbage", [b"garbage\n", b"\n", b"[]\n", b'{"return": 1}{"return": 2}\n', b'{"return": NaN}\n', b"\xfe\n"]
)
def test_what_is_no_reply_becomes_a_failure_and_the_next_reply_is_told_from_it(
    observed: Observed, garbage: bytes
) -> None:
    observed.stock.answers["guest-exec"] = garbage
    observed.ask()
    assert observed.replies == []
    assert observed.failures == ["the stock agent has answered guest-exec with something that is no reply"]
    observed.stock.received = b""
    observed.stock.answers["guest-get-users"] = b'{"return": []}\n'
    observed.ask("guest-get-users")
    assert observed.stock.received.startswith(SYNC), "more of it might be on its way"
    assert observed.replies == [b'{"return": []}\n']


def test_what_nobody_asked_for_is_dropped(observed: Observed) -> None:
    observed.stock.say(b'{"return": "what?"}\n')
    observed.turned.settle()
    assert observed.told == [("freed",)]
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.ask()
    assert observed.replies == [b'{"return": 1}\n']


def test_a_line_beyond_the_limit_costs_no_more_than_the_limit_and_becomes_a_failure(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock, COSTS._replace(reply_bytes=100_000))
    observed.connect()
    observed.ask()
    for _piece in range(20):
        stock.say(b"x" * 50_000)
        turned.settle()
        assert len(observed.way._line) <= 100_000
    stock.say(b"\n")
    turned.settle()
    assert len(observed.failures) == 1
    stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.ask()
    assert observed.replies == [b'{"return": 1}\n']


# ------------------------------------------------------------------------- commands that are answered only if they fail

ERROR = b'{"error": {"class": "GenericError", "desc": "no"}}\n'
NO_REPLY = b""


def sync_numbers(received: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb'"id": (\d+)', received)]


def test_a_silent_command_goes_out_between_two_syncs(observed: Observed) -> None:
    observed.shut_down()
    first, second, third = observed.stock.received.splitlines()
    assert first.startswith(SYNC)
    assert second == b'{"execute": "guest-shutdown"}'
    assert third.startswith(SYNC)


def test_it_has_succeeded_when_nothing_came_in_front_of_the_closing_syncs_reply(observed: Observed) -> None:
    observed.shut_down()
    assert observed.replies == [NO_REPLY]
    assert observed.failures == []
    assert observed.told == [("sent", "guest-shutdown"), ("freed",)]
    observed.stock.say(ERROR)
    observed.turned.settle()
    assert observed.replies == [NO_REPLY]


def test_the_opening_syncs_reply_does_not_end_it(observed: Observed) -> None:
    observed.stock.is_hanging = True
    asked = observed.shut_down()
    assert not asked.is_heard
    opening, closing = sync_numbers(observed.stock._unread[0])
    observed.stock.say(b'\xff{"return": %d}\n' % opening)
    observed.turned.settle()
    assert asked.is_heard
    assert observed.replies == []
    assert observed.way.expected
    observed.stock.say(ERROR)
    observed.turned.settle()
    assert observed.replies == [ERROR]
    assert observed.way.expected, "the closing sync is still owed"
    observed.stock.say(b'\xff{"return": %d}\n' % closing)
    observed.turned.settle()
    assert not observed.way.expected


@pytest.mark.parametrize("is_fresh", [True, False])
def test_its_error_is_its_reply(observed: Observed, monkeypatch: pytest.MonkeyPatch, is_fresh: bool) -> None:
    monkeypatch.setattr(stock_link, "_FRESH_SECONDS", 60.0 if is_fresh else 0.0)
    observed.stock.answers["guest-shutdown"] = ERROR
    observed.shut_down()
    assert observed.replies == [ERROR]
    assert not observed.way.expected


@pytest.mark.parametrize("end", [b'"}\n', b'"}\r\n'])
def test_an_error_that_repeats_a_long_id_is_its_reply(observed: Observed, end: bytes) -> None:
    error = ERROR[: -len(b"}\n")] + b', "id": "' + b"x" * 200_000 + end
    observed.stock.answers["guest-shutdown"] = error
    observed.shut_down()
    assert observed.replies == [error]


def test_it_has_one_reply_however_much_is_said(observed: Observed) -> None:
    observed.stock.answers["guest-shutdown"] = ERROR * 5
    observed.shut_down()
    assert observed.replies == [ERROR]
    assert not observed.way.expected


def test_what_is_no_reply_makes_it_fail(observed: Observed) -> None:
    observed.stock.answers["guest-shutdown"] = b"garbage\n"
    observed.shut_down()
    assert observed.failures == ["the stock agent has answered guest-shutdown with something that is no reply"]
    assert observed.replies == []
    assert not observed.way.expected


def test_when_the_stock_agent_goes_it_fails(observed: Observed) -> None:
    observed.stock.is_hanging = True
    observed.shut_down()
    observed.stock.hang_up()
    observed.turned.settle()
    assert observed.failures == [
        "the stock agent has gone before it answered guest-shutdown: it has closed the connection"
    ]


# -------------------------------------------------------------------------------------------- syncs that are refused

SYNCS = ("guest-sync-delimited", "guest-sync")


def logged(directory: Path) -> list[str]:
    return [line.split(": ", 1)[1] for line in (directory / "log").read_text().splitlines()]


@pytest.fixture
def logging(turned: Any, stock: Any, tmp_path: Path) -> Observed:
    return Observed(turned, stock, log=module("log").Log(str(tmp_path / "log"), verbose=True))


def test_where_the_delimited_sync_is_refused_the_plain_one_is_used(
    logging: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.stock.disabled = {"guest-sync-delimited"}
    assert logging.way.connect()
    logging.turned.settle()
    assert not logging.way.expected
    monkeypatch.setattr(stock_link, "_FRESH_SECONDS", 0.0)
    logging.stock.received = b""
    logging.stock.answers["guest-exec"] = b'{"return": 1}\n'
    logging.ask()
    assert logging.stock.received.startswith(b'{"execute": "guest-sync", ')
    assert logging.replies == [b'{"return": 1}\n']
    assert logged(tmp_path) == [
        "info: connected to the stock agent",
        "info: the stock agent refuses guest-sync-delimited: guest-sync is used instead",
    ]


def test_where_both_are_refused_that_is_logged_once_and_requests_pass(
    logging: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.stock.disabled = set(SYNCS)
    monkeypatch.setattr(stock_link, "_FRESH_SECONDS", 0.0)
    logging.stock.answers["guest-exec"] = b'{"return": 1}\n'
    for _connection in range(3):
        logging.turned.until(logging.way.connect)
        logging.turned.settle()
        logging.ask()
        logging.ask()
        logging.stock.hang_up()
        logging.turned.settle()
    assert logging.replies == [b'{"return": 1}\n'] * 6
    refusals = [line for line in logged(tmp_path) if line.startswith("error") and "refuses" in line]
    assert refusals == [f"error: the stock agent refuses {' and '.join(SYNCS)}: its replies are matched by their order"]


@pytest.mark.parametrize("refused", [SYNCS[:1], SYNCS])
@pytest.mark.parametrize("answer", [NO_REPLY, ERROR])
def test_a_silent_command_is_settled_by_whatever_answers_the_closing_sync(
    logging: Observed, refused: tuple[str, ...], answer: bytes
) -> None:
    logging.stock.disabled = set(refused)
    logging.connect()
    if answer:
        logging.stock.answers["guest-shutdown"] = answer
    logging.shut_down()
    assert logging.replies == [answer]
    assert not logging.way.expected


@pytest.mark.parametrize("words", ["Parameter 'Command guest-sync has been disabled: x' is unexpected", "guest-sync"])
def test_an_error_that_only_names_a_sync_does_not_answer_it(logging: Observed, words: str) -> None:
    logging.stock.disabled = set(SYNCS)
    logging.connect()
    error = b'{"error": {"class": "GenericError", "desc": "%b"}}\n' % words.encode()
    logging.stock.answers["guest-shutdown"] = error
    logging.shut_down()
    assert logging.replies == [error]
    assert not logging.way.expected


@pytest.mark.parametrize(
    "words",
    [
        "Command guest-sync-delimited has been disabled: the command is not allowed",
        "Command guest-sync-delimited has been disabled: the agent is in frozen state",
        "The command guest-sync-delimited has been disabled for this instance",
        "The command guest-sync-delimited has not been found",
    ],
)
def test_every_versions_refusal_is_known(logging: Observed, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b'{"error": {"class": "CommandDisabled", "desc": "%b"}}\n' % words.encode()
    monkeypatch.setattr(sys.modules[type(logging.stock).__module__], "disabled", lambda _command: refusal)
    logging.stock.disabled = {"guest-sync-delimited"}
    logging.connect()
    assert not logging.way.expected
    assert logging.way.syncs._command == "guest-sync"


def test_what_was_refused_is_tried_anew_by_the_next_connection(logging: Observed) -> None:
    logging.stock.disabled = set(SYNCS)
    logging.connect()
    logging.stock.disabled = set()
    logging.stock.hang_up()
    logging.turned.settle()
    logging.connect()
    logging.shut_down()
    assert logging.stock.received.count(SYNC) == 2


def test_a_sync_that_is_refused_amid_a_connection_is_answered_by_that(
    observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # qemu-ga 10.0 allows all syncs while file systems are frozen, and goes by its lists after the thaw.
    monkeypatch.setattr(stock_link, "_FRESH_SECONDS", 0.0)
    observed.stock.disabled = {"guest-sync-delimited"}
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.ask()
    observed.ask()
    assert observed.replies == [b'{"return": 1}\n'] * 2
    assert observed.stock.received.count(b'"guest-sync"') == 1


# ------------------------------------------------------------------------------------------------ coming and going


def test_when_it_goes_every_request_fails_and_its_reason_is_told(observed: Observed) -> None:
    observed.ask()
    observed.stock.hang_up()
    observed.turned.settle()
    assert observed.failures == ["the stock agent has gone before it answered guest-exec: it has closed the connection"]
    assert observed.told[-1] == ("freed",)
    assert not observed.way.is_connected
    assert observed.way.away_reason == "it has closed the connection"


def test_half_a_reply_of_the_connection_before_is_no_part_of_the_next(observed: Observed) -> None:
    observed.ask()
    observed.stock.say(b'{"return": "half')
    observed.turned.settle()
    observed.stock.hang_up()
    observed.turned.settle()
    observed.connect()
    observed.stock.answers["guest-exec"] = b'{"return": "whole"}\n'
    observed.ask()
    assert observed.replies == [b'{"return": "whole"}\n']


def test_it_tries_by_itself_until_the_stock_agent_is_back(observed: Observed) -> None:
    os.rename(observed.stock.path, observed.stock.path + ".away")
    observed.stock.hang_up()
    observed.turned.until(lambda: observed.way.away_reason.startswith("it is not running (nothing listens on "))
    os.rename(observed.stock.path + ".away", observed.stock.path)
    observed.turned.until(lambda: ("connected",) in observed.told)


def test_leaving_waits_until_all_replies_were_taken(observed: Observed) -> None:
    # The stock agent does not survive a client that leaves some unread.
    left: list[str] = []
    observed.stock.is_hanging = True
    observed.ask()
    observed.way.leave(lambda: left.append("left"))
    assert left == []
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.stock.go_on()
    observed.turned.until(lambda: bool(left))
    assert ("answered", "guest-exec", '{"return": 1}\n') in observed.told
    assert observed.replies == []
    assert not observed.way.connect(), "it has left"


def test_leaving_does_not_wait_for_one_that_hangs(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock)
    observed.connect()
    stock.is_hanging = True
    observed.ask()
    stock._stream.pause()
    left: list[str] = []
    observed.way.leave(lambda: left.append("left"))
    turned.until(lambda: bool(left))


def test_leaving_one_that_is_away_is_immediate(turned: Any, stock: Any) -> None:
    left: list[str] = []
    Observed(turned, stock).way.leave(lambda: left.append("left"))
    assert left == ["left"]


@pytest.mark.parametrize(
    "flood",
    [
        b"{}\n" * 50,
        b'{"return": {}}\n' * 50,
        b"\n" * 50,
        b'\xff{"return": 0}\n' * 50,
        b"x" * 1001,
        b"x" * 999 + b"\n" * 2,
    ],
)
def test_who_says_too_much_unasked_is_left_alone_for_a_while(turned: Any, stock: Any, flood: bytes) -> None:
    observed = Observed(turned, stock, COSTS._replace(unasked_lines=49, reply_bytes=1000))
    observed.connect()
    stock.say(flood)
    turned.settle()
    assert not observed.way.is_connected
    assert observed.way.away_reason == "it has sent too much that nobody had asked for"
    turned.until(lambda: observed.way.is_connected)


def test_some_of_it_is_passed_over_and_a_reply_starts_the_count_anew(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock, COSTS._replace(unasked_lines=49, reply_bytes=1000))
    observed.connect()
    stock.answers["guest-exec"] = b'{"return": 1}\n'
    for _time in range(5):
        stock.say(b'{"return": {}}\n' * 49)
        turned.settle()
        observed.ask()
    assert observed.replies == [b'{"return": 1}\n'] * 5


def test_what_is_left_of_a_flood_is_not_heard_by_the_next_connection(turned: Any, stock: Any) -> None:
    observed = Observed(turned, stock, COSTS._replace(unasked_lines=9))
    observed.connect()
    reconnected: list[bool] = []
    observed.freed = lambda: reconnected.append(observed.way.connect())  # type: ignore[method-assign]
    stock.say(b"\n" * 30)
    turned.settle()
    assert observed.way.is_connected
    assert len(reconnected) == 9 + 1 + 1, "behind each line, when it was dropped, and behind the new synchronisation"


@pytest.mark.parametrize("refused", [(), SYNCS[:1]])
def test_a_sync_is_found_after_the_end_of_a_long_reply(turned: Any, stock: Any, refused: tuple[str, ...]) -> None:
    stock.disabled = set(refused)
    observed = Observed(turned, stock)
    observed.connect()
    observed.way._is_unsettled = True
    observed.stock.answers["guest-exec"] = b'{"return": 1}\n'
    observed.stock.say(b'{"return": "' + b"x" * 200_000)
    observed.ask()
    assert observed.replies == [b'{"return": 1}\n']
