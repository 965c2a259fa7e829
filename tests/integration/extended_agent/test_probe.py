# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The question that decides whether an agent may take the channel, put to a real stock agent."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.collection import ROOT
from tests.support.stock_agent import StockAgent

PROBE = ROOT / "roles/extended_agent/files/probe.py"


@pytest.fixture
def agent() -> Iterator[StockAgent]:
    with StockAgent() as started:
        yield started


def probe(path: object, *commands: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-E", "-s", "-S", str(PROBE), str(path), *commands]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_agent_that_answers(agent: StockAgent) -> None:
    assert probe(agent.socket, "guest-info", "guest-get-time").returncode == 0


def test_an_agent_that_lacks_the_command(agent: StockAgent) -> None:
    done = probe(agent.socket, "guest-get-clock")
    assert done.returncode == 1
    assert done.stderr.startswith(f"The agent on {agent.socket} did not answer: it answered guest-get-clock with")


def test_half_a_request_of_somebody_else_is_no_hindrance(agent: StockAgent) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.socket))
        client.sendall(b'{"execute": "guest-')
    assert probe(agent.socket, "guest-info").returncode == 0


def test_the_agent_outlives_the_question(agent: StockAgent) -> None:
    """The stock agent ends when a client leaves some of a reply unread."""
    for _time in range(3):
        assert probe(agent.socket, "guest-info").returncode == 0
