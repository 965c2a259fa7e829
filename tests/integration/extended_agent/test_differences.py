"""Intended differences between the extended agent and the stock agent. ``test_upstream_cases.py`` tests what is equal.

The page about the protocol lists these differences, by the titles in ``SCENES``. Each scene shows both agents'
behavior.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes.state import stopped
from tests.processes.stock_agent import StockAgent, find_qemu_ga
from tests.support.agent_client import Client, answers, parsed
from tests.support.extended_agent import PATIENT, ROOT, ExtendedAgent, package_parent
from tests.support.until import until

# Short limits for the scenes that show how long the order is kept, and how long the stock agent may be silent.
SLOW = {**PATIENT, "slow_seconds": 0.05}
SILENT = {"slow_seconds": 0.05, "alive_seconds": 0.3, "reply_seconds": 0.6}
HOST_NAME = b'{"execute": "guest-get-host-name"}'
SECRET = "correct-horse"  # noqa: S105  # not a real one


@dataclass(frozen=True)
class Pair:
    """A stock agent alone, and an extended agent in front of another one."""

    alone: StockAgent
    stock: StockAgent
    extended: ExtendedAgent

    def ask(self, data: bytes) -> tuple[list[Any], list[Any]]:
        """Return all replies of the stock agent alone, and of the extended agent."""
        alone, extended = ([parsed(line)[1] for line in answers(path, data)] for path in self.sockets)
        return alone, extended

    @property
    def sockets(self) -> tuple[str, str]:
        return self.alone.socket, self.extended.socket


@pytest.fixture
def pair(scene: Callable[[Pair], None]) -> Iterator[Pair]:
    with (
        StockAgent(verbose=True) as alone,
        StockAgent() as stock,
        ExtendedAgent(stock.socket, costs=COSTS.get(scene, PATIENT), verbose=True) as extended,
        Client(extended.socket) as client,
    ):
        client.ask(HOST_NAME)  # by then, it has the stock agent's list
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
        (stock,), (ours,) = (text_of([parsed(*answers(path, ping))[1]]) for path in (alone.socket, extended.socket))
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
                    client.ask(HOST_NAME)  # by then, it has the stock agent's list
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
        assert "id" not in extended[0]
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
            until(lambda client=client: client.socket.recv(1, 2), "nothing came")  # MSG_PEEK leaves it unread
    until(pair.alone.has_ended, "the stock agent is still running")
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
    """A sync restores the order: replies that the stock agent still owed are dropped."""
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
        assert "did not answer guest-get-host-name in time" in extended.ask(HOST_NAME)["error"]["desc"]
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


# By the title of each difference on the page.
SCENES: Mapping[str, Callable[[Pair], None]] = {
    "Its own commands": commands_of_its_own,
    "The reason of a refusal": reason_of_a_refusal,
    "Unknown commands": unknown_commands,
    "The words of parse errors": words_of_parse_errors,
    "Several mistakes in one request": several_mistakes,
    "The form of an id": form_of_ids,
    "Limits": limits,
    "The resolution of the time": time_in_nanoseconds,
    "Half a request of a client that has gone": half_a_request,
    "A client that hangs up with replies unread": replies_unread,
    "Order next to a slow request": order_beside_a_slow_request,
    "A sync after a slow request": order_restored,
    "A request that is not answered": stock_agent_that_hangs,
    "The mode of a unix socket": mode_of_its_socket,
    "Options": options,
    "The log": logs,
}
COSTS = {order_beside_a_slow_request: SLOW, order_restored: SLOW, stock_agent_that_hangs: SILENT}


@pytest.mark.parametrize("scene", SCENES.values(), ids=lambda scene: scene.__name__)
def test_a_documented_difference_exists(scene: Callable[[Pair], None], pair: Pair) -> None:
    scene(pair)


def test_the_page_about_the_protocol_lists_the_same_differences() -> None:
    page = (ROOT / "docs/docsite/rst/protocol.rst").read_text()
    section = page.partition("Where it differs from QEMU's agent\n=")[2].partition("Detecting the commands\n=")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*:", section, re.MULTILINE) == list(SCENES)
