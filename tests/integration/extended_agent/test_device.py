"""A device whose host side is opened and closed. A named pipe stands for the virtio console's port: its reader
also gets an end of file and a lasting POLLHUP while there is no writer."""

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
    """The host's side of the device."""

    def __init__(self, directory: Path) -> None:
        self.paths = (str(directory / "to-guest"), str(directory / "from-guest"))
        for path in self.paths:
            os.mkfifo(path)
        self._reader = os.open(self.paths[1], os.O_RDWR | os.O_NONBLOCK)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Host]:
        self._writer = os.open(self.paths[0], os.O_WRONLY)
        try:
            yield self
        finally:
            os.close(self._writer)

    def send(self, data: bytes) -> None:
        os.write(self._writer, data)

    def ask(self, data: bytes) -> Any:
        self.send(data)
        assert select.select([self._reader], [], [], 10)[0], "no reply came"
        return json.loads(os.read(self._reader, 65536).removeprefix(b"\xff"))

    def close(self) -> None:
        os.close(self._reader)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()


@pytest.fixture
def agent(host: Host) -> Iterator[ExtendedAgent]:
    with StockAgent() as stock, ExtendedAgent(stock.socket, device=host.paths) as agent:
        yield agent


@pytest.mark.usefixtures("agent")
def test_the_host_can_reconnect_and_incomplete_requests_are_discarded(host: Host) -> None:
    for number in range(20):
        with host.connected():
            reply = host.ask(b'{"execute": "guest-sync", "arguments": {"id": %d}}' % number)
            assert reply == {"return": number}
            assert "return" in host.ask(b'{"execute": "guest-get-host-name"}')
            if number % 10 == 0:
                host.send(b'{"execute": "guest-sync", "argum')
        if number % 10 == 0:
            time.sleep(0.2)


def test_it_sleeps_while_the_host_is_idle_and_does_not_spin_while_the_host_is_disconnected(
    agent: ExtendedAgent, host: Host
) -> None:
    with host.connected():
        host.ask(b'{"execute": "guest-ping"}')
        until(agent.sleeps_without_end, "it has set a timer")
    time.sleep(0.5)
    busy, wakeups = agent.cpu_seconds(), agent.wakeups()
    time.sleep(3)
    assert agent.cpu_seconds() - busy <= 0.02
    assert agent.wakeups() - wakeups <= 4
