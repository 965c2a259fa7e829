"""Refusals of the agent's own commands on behalf of the stock agent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.extended_agent import module

policy = module("policy")

COUNTERPARTS = {
    "guest-update-time": "guest-set-time",
    "guest-get-clock": "guest-get-time",
    "guest-get-command-info": "guest-info",
}


def listing(**enabled: bool) -> SimpleNamespace:
    """A stock agent that lists these commands (with underscores for hyphens); file systems are not frozen."""
    commands = {name.replace("_", "-"): SimpleNamespace(enabled=value) for name, value in enabled.items()}
    return SimpleNamespace(info=SimpleNamespace(refused=None, commands=commands), is_frozen=False, is_list_frozen=False)


def lists(allowed: Any = None, blocked: Any = ()) -> Any:
    return policy.Lists(None if allowed is None else frozenset(allowed), frozenset(blocked))


def test_a_list_refuses_existing_commands_and_others_are_not_found() -> None:
    for which in (lists(allowed=["guest-ping"]), lists(blocked=["guest-exec", "guest-lacking", "guest-get-clock"])):
        rules = policy.Policy(which, listing(guest_exec=True, guest_ping=True))
        assert "has been disabled" in str(rules.refusal("guest-exec"))
        assert "has been disabled" in str(rules.refusal("guest-get-clock"))
        assert "has not been found" in str(rules.refusal("guest-lacking"))


def test_a_list_refuses_unknown_commands_while_the_stock_agents_commands_are_unknown() -> None:
    unlisted = SimpleNamespace(refused=SimpleNamespace(), commands={})
    for info in (None, unlisted):
        stock = SimpleNamespace(info=info, is_frozen=False, is_list_frozen=False)
        assert "has been disabled" in str(policy.Policy(lists(allowed=["guest-ping"]), stock).refusal("guest-lacking"))


@pytest.mark.parametrize("command", COUNTERPARTS)
def test_an_allow_list_that_names_a_command_permits_it(command: str) -> None:
    stock = listing(**{COUNTERPARTS[command].replace("-", "_"): False})
    assert policy.Policy(lists(allowed=[command]), stock).is_enabled(command)
    assert not policy.Policy(lists(allowed=[COUNTERPARTS[command]]), stock).is_enabled(command)
    assert not policy.Policy(lists(allowed=[COUNTERPARTS[command]]), stock).is_enabled(COUNTERPARTS[command])
    assert not policy.Policy(lists(allowed=[command], blocked=[command]), stock).is_enabled(command)
    stock.info.refused = SimpleNamespace(description="no", kind="CommandNotFound")
    assert policy.Policy(lists(allowed=[command]), stock).is_enabled(command), "which commands it disables is not known"
    assert not policy.Policy(lists(), stock).is_enabled(command)
    stock.is_frozen = True
    assert not policy.Policy(lists(allowed=[command]), stock).is_enabled(command)


def test_a_list_from_frozen_file_systems_does_not_disable_commands() -> None:
    stock = listing(guest_get_time=False)
    assert policy.Policy(lists(), stock).refusal("guest-get-time") is not None
    stock.is_list_frozen = True
    assert policy.Policy(lists(), stock).refusal("guest-get-time") is None


def test_commands_that_an_old_stock_agent_lacks_are_allowed() -> None:
    rules = policy.Policy(lists(), listing(guest_ping=True))
    assert all(rules.is_enabled(command) for command in COUNTERPARTS)
