# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which commands of those that are answered in front are refused on behalf of the stock agent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.extended_agent import module

policy = module("policy")


def rules(enabled: bool, is_list_frozen: bool) -> Any:
    """With a stock agent whose list has guest-get-time. File systems are not frozen now."""
    commands = {"guest-get-time": SimpleNamespace(enabled=enabled)}
    info = SimpleNamespace(refused=None, commands=commands)
    stock = SimpleNamespace(info=info, is_frozen=False, is_list_frozen=is_list_frozen)
    return policy.Policy(policy.Lists(), stock)


def test_what_the_stock_agent_disables_is_refused() -> None:
    assert rules(enabled=False, is_list_frozen=False).refusal("guest-get-time") is not None
    assert rules(enabled=True, is_list_frozen=False).refusal("guest-get-time") is None


def test_a_list_that_was_made_while_file_systems_were_frozen_says_nothing_of_what_is_disabled() -> None:
    assert rules(enabled=False, is_list_frozen=True).refusal("guest-get-time") is None


def test_what_the_stock_agent_does_not_list_is_answered() -> None:
    assert rules(enabled=False, is_list_frozen=False).refusal("guest-info") is None


# ---------------------------------------------------------------------------------------------------- our own commands

COUNTERPARTS = {
    "guest-update-time": "guest-set-time",
    "guest-get-clock": "guest-get-time",
    "guest-get-command-info": "guest-info",
}


def listing(**enabled: bool) -> SimpleNamespace:
    """A stock agent whose list has these, with underscores for hyphens; file systems are not frozen now."""
    commands = {name.replace("_", "-"): SimpleNamespace(enabled=value) for name, value in enabled.items()}
    return SimpleNamespace(info=SimpleNamespace(refused=None, commands=commands), is_frozen=False, is_list_frozen=False)


def lists(allowed: Any = None, blocked: Any = ()) -> Any:
    return policy.Lists(None if allowed is None else frozenset(allowed), frozenset(blocked))


def test_a_list_refuses_what_there_is_and_what_neither_agent_has_is_not_found() -> None:
    for which in (lists(allowed=["guest-ping"]), lists(blocked=["guest-exec", "guest-lacking", "guest-get-clock"])):
        rules = policy.Policy(which, listing(guest_exec=True, guest_ping=True))
        assert "has been disabled" in str(rules.refusal("guest-exec"))
        assert "has been disabled" in str(rules.refusal("guest-get-clock"))
        assert "has not been found" in str(rules.refusal("guest-lacking"))


def test_a_list_refuses_everything_it_may_while_the_stock_agents_commands_are_not_known() -> None:
    not_told = SimpleNamespace(refused=SimpleNamespace(), commands={})
    for info in (None, not_told):
        stock = SimpleNamespace(info=info, is_frozen=False, is_list_frozen=False)
        assert "has been disabled" in str(policy.Policy(lists(allowed=["guest-ping"]), stock).refusal("guest-lacking"))


def test_every_command_of_ours_has_a_counterpart() -> None:
    assert {command: policy.COUNTERPARTS[command] for command in policy.EXTENDED} == COUNTERPARTS


@pytest.mark.parametrize("command", COUNTERPARTS)
def test_a_command_of_ours_needs_its_counterparts_permission(command: str) -> None:
    for is_enabled in (True, False):
        rules = policy.Policy(lists(), listing(**{COUNTERPARTS[command].replace("-", "_"): is_enabled}))
        assert rules.is_enabled(command) is is_enabled
        assert (rules.refusal(command) is None) is is_enabled


@pytest.mark.parametrize("command", COUNTERPARTS)
def test_an_allow_list_that_names_a_command_permits_it(command: str) -> None:
    stock = listing(**{COUNTERPARTS[command].replace("-", "_"): False})
    assert policy.Policy(lists(allowed=[command]), stock).is_enabled(command)
    assert not policy.Policy(lists(allowed=[COUNTERPARTS[command]]), stock).is_enabled(command)
    assert not policy.Policy(lists(allowed=[command], blocked=[command]), stock).is_enabled(command)
    stock.is_frozen = True
    assert not policy.Policy(lists(allowed=[command]), stock).is_enabled(command)


def test_an_allow_list_does_not_permit_what_is_the_stock_agents_own() -> None:
    rules = policy.Policy(lists(allowed=["guest-get-time"]), listing(guest_get_time=False))
    assert not rules.is_enabled("guest-get-time")


def test_what_an_old_stock_agent_lacks_is_ours_to_give() -> None:
    rules = policy.Policy(lists(), listing(guest_ping=True))
    assert all(rules.is_enabled(command) for command in COUNTERPARTS)


def test_an_agent_that_has_never_been_heard_forbids_nothing() -> None:
    stock = SimpleNamespace(info=None, is_frozen=False, is_list_frozen=False)
    assert all(policy.Policy(lists(), stock).is_enabled(command) for command in COUNTERPARTS)
