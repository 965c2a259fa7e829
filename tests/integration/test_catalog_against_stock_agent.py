"""The catalog against a real stock agent: it must agree with the agent's own report.

A missing qemu-ga fails these tests; it does not skip them.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG, answers_on_success

from tests.processes.stock_agent import ALWAYS_BLOCKED, StockAgent, exchange

# Present since 0.15 to 1.5 and in every build. If they are missing, the agent's report was not understood.
EVERYWHERE = {"guest-info", "guest-ping", "guest-sync", "guest-sync-delimited", "guest-get-time", "guest-shutdown"}


def supported(agent: StockAgent) -> dict[str, dict[str, Any]]:
    reply = exchange(agent.socket, "guest-info")
    return {command["name"]: command for command in reply["return"]["supported_commands"]}


def test_every_command_agrees_with_the_catalog() -> None:
    with StockAgent() as agent:
        commands = supported(agent)
        # An agent rejects a missing argument before it does anything, so these requests are harmless.
        for name in (name for name, command in commands.items() if command["enabled"]):
            required = [argument.name for argument in CATALOG[name].arguments if not argument.optional]
            if required:
                reply = exchange(agent.socket, name)
                assert reply["error"]["desc"] == f"Parameter '{required[0]}' is missing", name
    assert set(commands) >= EVERYWHERE
    assert {name for name in commands if name not in CATALOG or CATALOG[name].origin != "stock"} == set()
    assert {name: command["success-response"] for name, command in commands.items()} == {
        name: answers_on_success(name) for name in commands
    }


def enabled_of(agent: StockAgent) -> set[str]:
    with agent:
        return {name for name, command in supported(agent).items() if command["enabled"]}


def test_commands_that_would_change_this_machine_are_always_disabled() -> None:
    usual = enabled_of(StockAgent())
    assert not usual & ALWAYS_BLOCKED
    assert usual - enabled_of(StockAgent(block_rpcs=("guest-exec",))) == {"guest-exec"}
    allowed = {"guest-sync-delimited", "guest-ping", "guest-info"}
    assert enabled_of(StockAgent(allow_rpcs=("guest-set-time", *allowed))) == allowed
