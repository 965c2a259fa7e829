"""A device whose host side comes and goes. A named pipe stands for the virtio console's port: to its reader it
behaves alike, with an end of file and a lasting POLLHUP for as long as nobody writes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.stock_agent import StockAgent
from tests.support.extended_agent import ExtendedAgent
from tests.support.until import until


class Host:
    """The host's side: connected between ``with Host(...)`` and its end."""

    def __init__(self, to_guest: Path, from_guest: Path) -> None:
        self._to_guest = to_guest
        self._reader = os.open(from_guest, os.O_RDWR | os.O_NONBLOCK)
        self._writer = -1

    @contextlib.contextmanager
    def connected(self) -> Iterator[Host]:
        self._writer = os.open(self._to_guest, os.O_WRONLY)
        try:
            yield self
        finally:
            os.close(self._writer)

    def send(self, data: bytes) -> None:
        os.write(self._writer, data)

    def reply(self) -> Any:
        assert select.select([self._reader], [], [], 10)[0], "no reply came"
        return json.loads(os.read(self._reader, 65536).removeprefix(b"\xff"))

    def close(self) -> None:
        os.close(self._reader)


@pytest.fixture
def pipes(tmp_path: Path) -> tuple[Path, Path]:
    paths = (tmp_path / "to-guest", tmp_path / "from-guest")
    for path in paths:
        os.mkfifo(path)
    return paths


@pytest.fixture
def host(pipes: tuple[Path, Path]) -> Iterator[Host]:
    host = Host(*pipes)
    yield host
    host.close()


@pytest.fixture
def agent(pipes: tuple[Path, Path]) -> Iterator[ExtendedAgent]:
    with StockAgent() as stock, ExtendedAgent(stock.socket, device=(str(pipes[0]), str(pipes[1]))) as agent:
        yield agent


@pytest.mark.usefixtures("agent")
def test_the_host_may_come_and_go(host: Host) -> None:
    for number in range(20):
        with host.connected():
            host.send(b'{"execute": "guest-sync", "arguments": {"id": %d}}' % number)
            assert host.reply() == {"return": number}
            host.send(b'{"execute": "guest-get-host-name"}')
            assert "return" in host.reply()


@pytest.mark.usefixtures("agent")
def test_half_a_request_is_forgotten_when_the_host_goes(host: Host) -> None:
    with host.connected():
        host.send(b'{"execute": "guest-sync", "argum')
    time.sleep(0.2)
    with host.connected():
        host.send(b'{"execute": "guest-ping"}')
        assert host.reply() == {"return": {}}


def test_it_does_not_spin_while_the_host_is_away(agent: ExtendedAgent, host: Host) -> None:
    with host.connected():
        host.send(b'{"execute": "guest-ping"}')
        host.reply()
    time.sleep(0.5)
    busy, wakeups = agent.cpu_seconds(), agent.wakeups()
    time.sleep(3)
    assert agent.cpu_seconds() - busy <= 0.02
    assert agent.wakeups() - wakeups <= 4


def test_it_sleeps_while_the_host_is_connected_and_silent(agent: ExtendedAgent, host: Host) -> None:
    with host.connected():
        host.send(b'{"execute": "guest-ping"}')
        host.reply()
        until(agent.sleeps_without_end, "it has set itself a timer")
