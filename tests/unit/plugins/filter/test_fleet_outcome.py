# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.qemu.guest_agent.plugins.filter.fleet_outcome import FilterModule

FILTERS = FilterModule().filters()

LISTED = {"guests": [{"name": "web1", "status": "gathered"}]}
DONE = [{"qga_batch": LISTED["guests"], "guests": [{"name": "web1", "status": "corrected"}]}]


def test_from_what_was_registered_to_what_came_of_it() -> None:
    found = FILTERS["fleet_found"](LISTED, "hv1")
    outcome = FILTERS["fleet_outcome"](LISTED, "hv1", DONE)
    assert outcome == {"host": "hv1", "guests": DONE[0]["guests"], "error": None}
    assert FILTERS["fleet_elsewhere"]([found], ["hv1"], outcome["guests"]) == []
    (stopped,) = FILTERS["fleet_elsewhere"]([found], ["hv1", "hv2"])
    assert stopped["host"] == "hv2"


def test_a_run_may_have_come_to_no_batch() -> None:
    assert FILTERS["fleet_outcome"]({"failed": True, "msg": "no"}, "hv1")["guests"] == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fleet_outcome", ("text", "hv1")),
        ("fleet_outcome", (LISTED, "hv1", "text")),
        ("fleet_found", (None, "hv1")),
        ("fleet_elsewhere", ([{"not_here": 1}], ["hv1"])),
    ],
)
def test_what_was_not_registered_is_refused_in_a_sentence(name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(AnsibleFilterError, match=f"{name}: .*registered"):
        FILTERS[name](*arguments)
