"""Syncs to the stock agent: recognizing their replies, and handling refusals."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.support.extended_agent import module

from .conftest import ERROR, LINK_COSTS, Observed

NO_REPLY = b""
ONE = b'{"return": 1}\n'
SYNC = b'{"execute": "guest-sync-delimited"'
SYNCS = ("guest-sync-delimited", "guest-sync")


@pytest.fixture
def logging(turned: Any, stock: Any) -> Observed:
    """A link that logs to standard error, and is not connected yet."""
    return Observed(turned, stock, log=module("log").Log(verbose=True))


@pytest.fixture
def stale(turned: Any, stock: Any) -> Observed:
    """The same, with a sync before every request."""
    return Observed(turned, stock, LINK_COSTS._replace(fresh_seconds=0.0), module("log").Log(verbose=True))


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split(": ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_if_the_delimited_sync_is_refused_the_plain_one_is_used(
    stale: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    stale.stock.disabled = {"guest-sync-delimited"}
    stale.connect()
    assert not stale.link.expected
    stale.stock.answers["guest-exec"] = ONE
    stale.ask()
    assert stale.stock.received.startswith(b'{"execute": "guest-sync", ')
    assert stale.replies == [ONE]
    assert logged(capsys) == [
        "info: connected to the stock agent",
        "info: the stock agent refuses guest-sync-delimited: using guest-sync instead",
    ]


def test_if_both_are_refused_that_is_logged_once_and_requests_work(
    stale: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    stale.stock.disabled = set(SYNCS)
    stale.stock.answers["guest-exec"] = ONE
    for _connection in range(3):
        stale.turned.until(stale.link.connect)
        stale.turned.settle()
        stale.ask()
        stale.ask()
        stale.hang_up()
    assert stale.replies == [ONE] * 6
    refusals = [line for line in logged(capsys) if line.startswith("error") and "refuses" in line]
    assert refusals == [f"error: the stock agent refuses {' and '.join(SYNCS)}: matching its replies by their order"]


@pytest.mark.parametrize("refused", [SYNCS[:1], SYNCS])
@pytest.mark.parametrize("answer", [NO_REPLY, ERROR])
def test_any_answer_to_the_closing_sync_completes_a_silent_command(
    logging: Observed, refused: tuple[str, ...], answer: bytes
) -> None:
    logging.stock.disabled = set(refused)
    logging.connect()
    if answer:
        logging.stock.answers["guest-shutdown"] = answer
    logging.shut_down()
    assert logging.replies == [answer]
    assert not logging.link.expected


@pytest.mark.parametrize("words", ["Parameter 'Command guest-sync has been disabled: x' is unexpected", "guest-sync"])
def test_an_error_that_only_names_a_sync_does_not_answer_it(logging: Observed, words: str) -> None:
    logging.stock.disabled = set(SYNCS)
    logging.connect()
    error = b'{"error": {"class": "GenericError", "desc": "%b"}}\n' % words.encode()
    logging.stock.answers["guest-shutdown"] = error
    logging.shut_down()
    assert logging.replies == [error]
    assert not logging.link.expected


def test_garbage_that_names_a_sync_does_not_answer_it(logging: Observed) -> None:
    logging.stock.disabled = set(SYNCS)
    logging.connect()
    logging.stock.answers["guest-shutdown"] = b"guest-sync\n"
    logging.shut_down()
    assert (logging.replies, len(logging.failures)) == ([], 1)


@pytest.mark.parametrize(
    "words",
    [
        "Command guest-sync-delimited has been disabled: the command is not allowed",
        "Command guest-sync-delimited has been disabled: the agent is in frozen state",
        "The command guest-sync-delimited has been disabled for this instance",
        "The command guest-sync-delimited has not been found",
    ],
)
def test_the_refusals_of_all_versions_are_recognized(
    logging: Observed, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = b'{"error": {"class": "CommandDisabled", "desc": "%b"}}\n' % words.encode()
    monkeypatch.setattr(sys.modules[type(logging.stock).__module__], "disabled", lambda _command: refusal)
    logging.stock.disabled = {"guest-sync-delimited"}
    logging.connect()
    assert not logging.link.expected
    assert logging.link.syncs.command == "guest-sync"


def test_a_refusal_in_the_middle_of_a_connection_is_an_answer(stale: Observed) -> None:
    stale.connect()
    # qemu-ga 10.0 allows all syncs while file systems are frozen, and applies its lists again after the thaw.
    stale.stock.disabled = {"guest-sync-delimited"}
    stale.stock.answers["guest-exec"] = ONE
    stale.ask()
    stale.ask()
    assert stale.replies == [ONE] * 2
    assert stale.stock.received.count(b'"guest-sync"') == 1


@pytest.mark.parametrize("refused", [(), SYNCS[:1]])
def test_a_sync_is_recognized_after_the_end_of_a_long_reply(turned: Any, stock: Any, refused: tuple[str, ...]) -> None:
    stock.disabled = set(refused)
    observed = Observed(turned, stock)
    observed.connect()
    observed.link._is_unsettled = True
    observed.stock.answers["guest-exec"] = ONE
    observed.stock.send(b'{"return": "' + b"x" * 200_000)
    observed.ask()
    assert observed.replies == [ONE]
