# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import untrusted

from tests.support.templates import trusted

BAIT = "{{ 6 * 7 }}"
TOLD = {
    "hostname": BAIT,
    "network": [{"name": BAIT, "ip_addresses": [{"ip_address": BAIT}]}],
    "offset": 5,
    "none": None,
}


def templated(value: Any, **variables: Any) -> Any:
    return Templar(DataLoader(), variables=variables).template(value)


def test_what_is_marked_is_the_same_data() -> None:
    assert untrusted(TOLD) == TOLD


@pytest.mark.parametrize("value", [BAIT, TOLD, [TOLD]])
def test_what_is_marked_is_no_template(value: Any) -> None:
    assert templated(untrusted(value)) == value
    assert templated(trusted("{{ told }}"), told=untrusted(value)) == value


def test_nor_is_what_a_template_makes_of_it() -> None:
    made = templated(trusted("{{ told.hostname ~ told.network[0].name }}"), told=untrusted(TOLD))
    assert made == BAIT * 2
    assert templated(made) == BAIT * 2


def test_a_mark_of_trust_is_taken_away() -> None:
    assert templated(untrusted({"x": [trusted(BAIT)]})) == {"x": [BAIT]}


def test_a_text_that_is_trusted_is_a_template() -> None:
    """Or these tests would prove nothing."""
    assert str(templated(trusted(BAIT))) == "42"
