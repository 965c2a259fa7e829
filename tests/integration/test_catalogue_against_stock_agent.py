"""The catalogue against a real stock agent: what the agent says of itself must be what the catalogue says.

A missing qemu-ga fails these tests, it does not skip them.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOGUE, answers_on_success

from tests.processes.stock_agent import ALWAYS_BLOCKED, StockAgent, StockAgentError, exchange, find_qemu_ga

# Present since 0.15 to 1.5 and in every build: an agent that does not report them was not understood.
EVERYWHERE = {"guest-info", "guest-ping", "guest-sync", "guest-sync-delimited", "guest-get-time", "guest-shutdown"}


def supported(agent: StockAgent) -> dict[str, dict[str, Any]]:
    reply = exchange(agent.socket, "guest-info")
    return {command["name"]: command for command in reply["return"]["supported_commands"]}


def test_every_command_is_in_the_catalogue_and_agrees_with_it() -> None:
    with StockAgent() as agent:
        commands = supported(agent)
    assert set(commands) >= EVERYWHERE
    assert sorted(name for name in commands if name not in CATALOGUE) == []
    assert {name for name in commands if CATALOGUE[name].origin != "stock"} == set()
    assert {name: command["success-response"] for name, command in commands.items()} == {
        name: answers_on_success(name) for name in commands
    }


def test_missing_arguments_are_those_that_the_catalogue_calls_required() -> None:
    # An agent complains of a missing argument before it does anything, so asking is harmless.
    with StockAgent() as agent:
        enabled = {name for name, command in supported(agent).items() if command["enabled"]}
        for name in sorted(enabled):
            required = [argument.name for argument in CATALOGUE[name].arguments if not argument.optional]
            if required:
                reply = exchange(agent.socket, name)
                assert reply["error"]["desc"] == f"Parameter '{required[0]}' is missing", name


def test_dangerous_commands_are_disabled_whatever_is_allowed() -> None:
    with StockAgent(allow_rpcs=("guest-set-time", "guest-sync-delimited", "guest-ping", "guest-info")) as agent:
        commands = supported(agent)
    enabled = {name for name, command in commands.items() if command["enabled"]}
    assert enabled == {"guest-sync-delimited", "guest-ping", "guest-info"}


def disabled(agent: StockAgent) -> set[str]:
    return {name for name, command in supported(agent).items() if not command["enabled"]}


def test_blocked_commands_are_disabled_and_no_others() -> None:
    # Compared with an unblocked run, as agents like 7.2 also report, disabled, what their build cannot do.
    with StockAgent() as agent:
        before = disabled(agent)
        assert ALWAYS_BLOCKED & set(supported(agent)) <= before
    with StockAgent(block_rpcs=("guest-exec",)) as agent:
        assert disabled(agent) - before == {"guest-exec"}


def test_an_agent_that_ignores_sigterm_is_killed() -> None:
    with StockAgent() as agent:
        pid = agent.pid
        # A stopped process does not act on SIGTERM, like a qemu-ga that hangs.
        os.kill(pid, signal.SIGSTOP)
    assert not Path(f"/proc/{pid}").exists()


def test_an_agent_leaves_nothing_behind() -> None:
    with StockAgent() as agent:
        pid, path = agent.pid, agent.socket
        for _try in range(20):
            assert exchange(path, "guest-ping") == {"return": {}}
        assert Path(f"/proc/{pid}").exists()
    assert not Path(path).parent.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_misspelt_command_is_refused() -> None:
    with pytest.raises(StockAgentError, match="does not have: guest-exce"), StockAgent(block_rpcs=("guest-exce",)):
        pass


def test_a_missing_agent_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_options: None)
    with pytest.raises(StockAgentError, match=r"^qemu-ga is not installed: install the package qemu-guest-agent\.$"):
        find_qemu_ga()
