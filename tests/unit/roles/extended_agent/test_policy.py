# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which commands of those that are answered in front are refused on behalf of the stock agent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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
