# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils.guest_groups import KINDS, groups_of
from ansible_collections.qemu.guest_agent.plugins.module_utils.survey import Surveyed

from tests.support.fake_hypervisor import uuid_of


def guest(**facts: Any) -> Surveyed:
    return Surveyed("qemu:///system", "web1", uuid_of("web1"), "running", "ok", facts)


def test_a_guest_is_in_a_group_of_each_kind() -> None:
    told = guest(os={"id": "debian", "version_id": "12"}, agent={"kind": "stock"})
    assert list(groups_of(told, KINDS, "qga_")) == [
        *("qga_os_debian", "qga_os_version_debian_12", "qga_agent_stock", "qga_status_ok", "qga_state_running"),
        "qga_uri_qemu:///system",
    ]


def test_only_kinds_that_are_named_are_made_and_behind_the_prefix() -> None:
    told = guest(os={"id": "debian", "version_id": "12"})
    assert list(groups_of(told, ["os"], "")) == ["os_debian"]
    assert list(groups_of(told, [], "x_")) == []


@pytest.mark.parametrize("facts", [{}, {"os": {}}, {"os": {"id": ""}}, {"os": {"version_id": "12"}}, {"os": None}])
def test_what_a_guest_has_not_told_makes_no_group(facts: dict[str, Any]) -> None:
    assert list(groups_of(guest(**facts), ["os", "os_version", "agent"], "")) == []


def test_a_guest_only_chooses_among_groups_of_systems() -> None:
    for lie in ("all", "../x", "state_running", "agent_extended", ""):
        names = groups_of(guest(os={"id": lie, "version_id": lie}), KINDS, "qga_")
        known = {"qga_status_ok", "qga_state_running", "qga_uri_qemu:///system"}
        assert all(name.startswith("qga_os_") for name in set(names) - known)


def test_a_name_has_an_end() -> None:
    (name,) = groups_of(guest(os={"id": "x" * 4096}), ["os"], "")
    assert len(name) < 200
