# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the extended agent differs from the stock one on purpose. ``test_upstream_cases.py`` has what is equal.

``DIFFERENCES`` is the list on the page about the protocol, word by word. Each has a scene that shows both sides of it,
so that the list has neither too little nor too much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.tests.support.agent_client import Client, answers, said
from ansible_collections.qemu.guest_agent.tests.support.extended_agent import (
    PATIENT,
    ROOT,
    ExtendedAgent,
    package_parent,
)
from ansible_collections.qemu.guest_agent.tests.support.stock_agent import StockAgent, find_qemu_ga

from tests.support.processes import stopped
from tests.support.until import until

# How long the order of replies is kept, and how long the stock agent may be silent, where that is what is shown.
SLOW = {**PATIENT, "slow_seconds": 0.05}
SILENT = {"slow_seconds": 0.05, "alive_seconds": 0.3, "reply_seconds": 0.6}
HOST_NAME = b'{"execute": "guest-get-host-name"}'
SECRET = "correct-horse"  # noqa: S105  # nobody's


@dataclass(frozen=True)
class Pair:
    """A stock agent alone, and an extended one in front of another."""

    alone: StockAgent
    stock: StockAgent
    extended: ExtendedAgent

    def ask(self, data: bytes) -> tuple[list[Any], list[Any]]:
        """All replies of the stock agent alone, and of the extended one."""
        alone, extended = ([said(line)[1] for line in answers(path, data)] for path in self.sockets)
        return alone, extended

    @property
    def sockets(self) -> tuple[str, str]:
        return self.alone.socket, self.extended.socket


@pytest.fixture
def pair(difference: Difference) -> Iterator[Pair]:
    with (
        StockAgent(verbose=True) as alone,
        StockAgent() as stock,
        ExtendedAgent(stock.socket, costs=difference.costs, verbose=True) as extended,
        Client(extended.socket) as client,
    ):
        client.ask(HOST_NAME)  # it has heard of the stock agent by then
        client.socket.close()
        yield Pair(alone, stock, extended)


def text_of(replies: list[Any]) -> list[str]:
    return [reply["error"]["desc"] for reply in replies]


def commands_of_its_own(pair: Pair) -> None:
    alone, extended = (replies[0]["return"] for replies in pair.ask(b'{"execute": "guest-info"}'))
    assert extended.keys() - alone.keys() == {"extended-version"}
    names = [{entry["name"] for entry in each["supported_commands"]} for each in (alone, extended)]
    assert names[1] - names[0] == {"guest-update-time", "guest-get-clock", "guest-get-command-info"}
    refused, (clock,) = pair.ask(b'{"command": "guest-get-clock"}')
    assert text_of(refused) == ["QMP input member 'command' is unexpected"]
    assert "return" in clock


def reason_of_a_refusal(pair: Pair) -> None:
    ping, none = b'{"execute": "guest-ping"}', f"{pair.stock.socket}.none"
    with (
        StockAgent(["guest-ping"]) as alone,
        ExtendedAgent(none, ["guest-ping"], costs={"start_seconds": 0.1}) as extended,
    ):
        (stock,), (ours,) = (text_of([said(*answers(path, ping))[1]]) for path in (alone.socket, extended.socket))
    assert ours == "Command guest-ping has been disabled: the command is not allowed"
    assert stock in (ours, "Command guest-ping has been disabled")


def unknown_commands(_pair: Pair) -> None:
    unknown = b'{"execute": "guest-nonesuch"}'
    for refused, words in ((), "has not been found"), (("guest-info",), "has been disabled"):
        with (
            StockAgent(["guest-ping", *refused]) as alone,
            StockAgent(refused) as stock,
            ExtendedAgent(stock.socket, allow_rpcs=["guest-get-host-name"]) as extended,
        ):
            for path, expected in ((alone.socket, "has not been found"), (extended.socket, words)):
                with Client(path) as client:
                    client.ask(HOST_NAME)  # it has heard of the stock agent by then
                    assert expected in client.ask(unknown)["error"]["desc"]


def words_of_parse_errors(pair: Pair) -> None:
    for data in (b'{"execute": nonsense}', b"}"):
        alone, extended = (answers(path, data) for path in pair.sockets)
        assert alone != extended
        assert all(b"JSON parse error" in line for line in (*alone, *extended))
    alone, extended = pair.ask(b"[" * 1030 + b"]" * 1030)
    assert len(extended) == 1 < 1000 < len(alone)


def several_mistakes(pair: Pair) -> None:
    alone, extended = (text_of(each) for each in pair.ask(b'{"execute": "guest-ping", "foo": 1, "bar": 2}'))
    assert extended == ["QMP input member 'foo' is unexpected"]
    assert alone[0] in ("QMP input member 'foo' is unexpected", "QMP input member 'bar' is unexpected")


def form_of_ids(pair: Pair) -> None:
    data = b'{"execute": "guest-ping", "id": {"b": 99999999999999999999, "a": 1E5}}'
    alone, extended = (answers(path, data) for path in pair.sockets)
    assert alone == [b'{"return": {}, "id": {"a": 100000, "b": 1e+20}}']
    assert extended == [b'{"return": {}, "id": {"b": 99999999999999999999, "a": 100000.0}}']


def limits(pair: Pair) -> None:
    for identity in (b'"%b"' % (b"a" * 17 * 2**20), b'"%b"' % (b"\xc3\xa9" * 2**19), b"[%b1]" % (b"1," * 300_000)):
        data = b'{"execute": "guest-ping", "id": %b}' % identity
        alone, extended = pair.ask(data)
        assert [reply["return"] for reply in alone] == [{}]
        assert text_of(extended) == ["JSON parse error"]
    beyond = b'{"execute": "guest-ping", "id": 1e999}'
    assert [answers(path, beyond) for path in pair.sockets] == [[b'{"return": {}, "id": inf}'], [b'{"return": {}}']]


def time_in_nanoseconds(pair: Pair) -> None:
    readings = [pair.ask(b'{"execute": "guest-get-time"}') for _reading in range(8)]
    assert all(alone[0]["return"] % 1000 == 0 for alone, _extended in readings)
    assert any(extended[0]["return"] % 1000 for _alone, extended in readings)


def half_a_request(pair: Pair) -> None:
    for path in pair.sockets:
        assert answers(path, b'{"execute": "guest-ping", "id": ') == []
    alone, extended = pair.ask(b"3}")
    assert alone == [{"return": {}, "id": 3}]
    assert text_of(extended) == ["QMP input must be a JSON object", "JSON parse error"]


def replies_unread(pair: Pair) -> None:
    for path in pair.sockets:
        with Client(path) as client:
            client.send(HOST_NAME)
            client.line()
            client.send(HOST_NAME * 2)
            until(lambda client=client: client.socket.recv(1, 2), "nothing came")  # MSG_PEEK: it stays unread
    until(pair.alone.has_ended, "the stock agent lives")
    with Client(pair.extended.socket) as client:
        assert "return" in client.ask(HOST_NAME)
    assert not pair.stock.has_ended()


def order_beside_a_slow_request(pair: Pair) -> None:
    requests = HOST_NAME + b'{"execute": "guest-ping"}{"execute": "guest-ping", "id": 1}'
    (alone, extended) = (Client(path) for path in pair.sockets)
    with alone, extended, stopped(pair.alone.pid), stopped(pair.stock.pid):
        alone.send(requests)
        extended.send(requests)
        assert extended.reply() == {"return": {}, "id": 1}
        assert alone.is_quiet(0.05)


def order_restored(pair: Pair) -> None:
    """After a sync, too: what the stock agent owed is dropped."""
    sync = b'{"execute": "guest-sync", "arguments": {"id": 5}}'
    alone, extended = (Client(path) for path in pair.sockets)
    with alone, extended:
        with stopped(pair.alone.pid), stopped(pair.stock.pid):
            alone.send(HOST_NAME + sync)
            extended.send(HOST_NAME + sync)
            assert extended.reply() == {"return": 5}
        assert "host-name" in alone.reply()["return"]
        assert alone.reply() == {"return": 5}
        assert extended.execute("guest-get-timezone")["return"].keys() >= {"offset"}


def stock_agent_that_hangs(pair: Pair) -> None:
    alone, extended = (Client(path) for path in pair.sockets)
    with alone, extended, stopped(pair.alone.pid), stopped(pair.stock.pid):
        alone.send(HOST_NAME)
        assert "has not answered guest-get-host-name in time" in extended.ask(HOST_NAME)["error"]["desc"]
        assert "return" in extended.execute("guest-ping")
        assert alone.is_quiet(0.05)


def mode_of_its_socket(pair: Pair) -> None:
    alone, extended = (os.stat(path).st_mode & 0o777 for path in pair.sockets)
    assert alone & 0o055
    assert extended & 0o077 == 0


def options(pair: Pair) -> None:
    directory = Path(pair.extended.socket).parent
    for data in ("fsfreeze-hook=/x", "daemon=true", "block-rpcs=b,l,o"):
        (directory / "conf").write_text(f"[general]\n{data}\n")
        for program, variable, cwd, status in (
            ([find_qemu_ga()], "QGA_CONF", directory, 0),
            ([sys.executable, "-E", "-s", "-m", "qemu_ga_extended"], "QGA_EXTENDED_CONF", package_parent(), 2),
        ):
            environment = {variable: str(directory / "conf")}
            ended = subprocess.run([*program, "-D"], env=environment, cwd=cwd, capture_output=True, check=False)
            assert ended.returncode == status


def logs(pair: Pair) -> None:
    for path in pair.sockets:
        with Client(path) as client:
            client.execute("guest-file-open", path=f"/nonexistent/{SECRET}")
    assert SECRET in pair.alone.read_log()
    assert "guest-file-open" in pair.extended.read_log()
    assert SECRET not in pair.extended.read_log()


@dataclass(frozen=True)
class Difference:
    """As the page has it, and what shows it."""

    title: str
    text: str
    scene: Callable[[Pair], None]
    costs: Mapping[str, float] = field(default_factory=lambda: PATIENT)


DIFFERENCES = (
    Difference(
        "Its own commands",
        "``guest-info`` lists three more, and has ``extended-version``; these three may be sent as ``command``. They "
        "are what the agent is for.",
        commands_of_its_own,
    ),
    Difference(
        "The reason of a refusal",
        "a list refuses with ``the command is not allowed``, as QEMU 10.0 does; QEMU 7.2 gives no reason. The words "
        "``has been disabled`` are the same.",
        reason_of_a_refusal,
    ),
    Difference(
        "Unknown commands",
        "where an allow list is in front of an agent of QEMU's that refuses ``guest-info``, they are reported as "
        "disabled rather than not found, since it is not known which commands there are.",
        unknown_commands,
    ),
    Difference(
        "The words of parse errors",
        "the text after ``JSON parse error`` differs, as it does between versions of QEMU, and a request that is "
        "nested too deeply gets one error in place of a thousand.",
        words_of_parse_errors,
    ),
    Difference(
        "Several mistakes in one request",
        "the error names the first one. QEMU's agent names the one that comes first in a hash table.",
        several_mistakes,
    ),
    Difference(
        "The form of an id",
        "in replies to commands that it answers itself, members keep their order and integers their digits. QEMU's "
        "agent sorts members, and rounds integers beyond 64 bits.",
        form_of_ids,
    ),
    Difference(
        "Limits",
        "a request has at most 16 MiB and 262,144 values, and one of more than 1 MiB must be plain ASCII; QEMU's agent "
        "takes more. An ``id`` beyond the range of a double is left out of the reply, where QEMU's agent sends "
        "``inf``. The reasons are above, under Limits.",
        limits,
    ),
    Difference(
        "The resolution of the time",
        "``guest-get-time`` returns nanoseconds, where QEMU's agent has microseconds.",
        time_in_nanoseconds,
    ),
    Difference(
        "Half a request of a client that has gone",
        "it is forgotten. QEMU's agent takes what the next client sends for its other half.",
        half_a_request,
    ),
    Difference(
        "A client that hangs up with replies unread",
        "the next client is served. QEMU's agent ends, and its service manager has to start it again.",
        replies_unread,
    ),
    Difference(
        "Order next to a slow request",
        "after half a second, requests with an ``id`` that it answers itself go before one that QEMU's agent has not "
        "answered yet: the clock can be set while that one is busy.",
        order_beside_a_slow_request,
        SLOW,
    ),
    Difference(
        "A sync after a slow request",
        "after half a second, the sync is answered, and the late reply is dropped. QEMU's agent sends the late reply "
        "first. A client that syncs has given that reply up.",
        order_restored,
        SLOW,
    ),
    Difference(
        "A request that is not answered",
        "it gets an error after 5 s without a sign of life from QEMU's agent, and after 10 min in any case. QEMU's "
        "agent alone stays silent. The commands that the extended agent answers itself work meanwhile.",
        stock_agent_that_hangs,
        SILENT,
    ),
    Difference(
        "The mode of a unix socket",
        "with ``unix-listen``, only the agent's own user can connect. QEMU's agent leaves that to its umask.",
        mode_of_its_socket,
    ),
    Difference(
        "Options",
        "``daemon`` and ``fsfreeze-hook`` are refused, since the service manager and QEMU's agent do that, and so are "
        "lists with names that no command can have. QEMU's agent ignores such names.",
        options,
    ),
    Difference(
        "The log",
        "it has the names of commands, and never what they carry. With ``--verbose``, QEMU's agent logs whole "
        "requests.",
        logs,
    ),
)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.scene.__name__)
def test_a_documented_difference_is_there(difference: Difference, pair: Pair) -> None:
    difference.scene(pair)


def test_the_page_about_the_protocol_lists_the_same_differences() -> None:
    page = " ".join((ROOT / "docs/docsite/rst/protocol.rst").read_text().split())
    section = page.partition("Where it differs from QEMU's agent =")[2].partition(" How a client finds out =")[0]
    listed = [item.strip() for item in section.split(" - **")[1:]]
    assert listed == [f"{difference.title}**: {difference.text}" for difference in DIFFERENCES]
