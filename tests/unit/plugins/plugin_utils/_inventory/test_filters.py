# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.template import Templar
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.filters import is_taken
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import Filter
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import untrusted

from tests.support.templates import trusted

VARIABLES = {"inventory_hostname": "web1", "os": untrusted({"id": "debian", "name": "{{ nosuch }}"})}


class Evaluating(BaseInventoryPlugin, Constructable):  # type: ignore[misc]  # Ansible has no types
    """What the plugin evaluates expressions by, without its options."""

    templar = Templar(DataLoader())


def include(condition: str | bool) -> Filter:
    return Filter(True, trusted(condition) if isinstance(condition, str) else condition)


def exclude(condition: str | bool) -> Filter:
    return include(condition)._replace(is_included=False)


def taken(*filters: Filter, is_strict: bool = False, variables: dict[str, Any] | None = None) -> bool:
    return is_taken(filters, VARIABLES if variables is None else variables, Evaluating()._compose, is_strict)


DEBIAN, WINDOWS, FAILING = "os.id == 'debian'", "os.id == 'mswindows'", "nosuch.id == 'x'"


@pytest.mark.parametrize(
    ("filters", "is_one"),
    [
        ((), True),
        ((include(DEBIAN),), True),
        ((exclude(DEBIAN),), False),
        ((include(WINDOWS),), True),
        ((include(WINDOWS), exclude(True)), False),
        ((include(DEBIAN), exclude(True)), True),
        ((exclude(False), include(True), exclude(True)), True),
        ((exclude("inventory_hostname == 'web1'"),), False),
        ((exclude(FAILING), include(True)), True),
        ((include(FAILING), exclude(True)), False),
    ],
)
def test_the_first_that_is_true_decides(filters: tuple[Filter, ...], is_one: bool) -> None:
    assert taken(*filters) is is_one


def test_one_that_fails_is_an_error_if_that_is_asked_for() -> None:
    with pytest.raises(InvalidOptionError, match="web1") as caught:
        taken(include(FAILING), is_strict=True)
    assert "nosuch" in caught.value.message


def test_what_a_guest_tells_is_compared_and_never_carried_out() -> None:
    assert taken(include("os.name == '{' ~ '{ nosuch }' ~ '}'"), exclude(True), is_strict=True)
