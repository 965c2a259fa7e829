# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.cache import digest, read, written
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.survey import (
    STATES,
    Question,
    Survey,
    Surveyed,
)

from tests.support.fake_hypervisor import uuid_of

QUESTION = Question(("qemu:///system",), ("*",), (), STATES, ("min",), 5.0, 20)
GUEST = Surveyed("qemu:///system", "web1", uuid_of("web1"), "running", "ok", {"hostname": "web1"})


def test_what_is_read_is_what_was_written() -> None:
    survey = Survey((GUEST,), ("Look out.",))
    assert read(written(survey)) == survey


class Text(str):
    """As Ansible's own kinds of text."""

    __slots__ = ()


def test_what_is_read_is_of_plain_types() -> None:
    kept = written(Survey((replace(GUEST, facts={"hostname": Text("web1")}),)))
    found = read(kept)
    assert found is not None
    assert not isinstance(found.guests[0].facts["hostname"], Text)


@pytest.mark.parametrize(
    "kept",
    [
        None,
        5,
        [],
        {},
        {"version": 2, "guests": [], "warnings": []},
        {"version": 1, "guests": [{}], "warnings": []},
        {"version": 1, "guests": {}},
        {"version": 1, "guests": [{**GUEST.as_dict(), "state": "{{ x }}"}], "warnings": []},
        {"version": 1, "guests": [object()], "warnings": []},
    ],
)
def test_what_is_something_else_is_not_read(kept: Any) -> None:
    assert read(kept) is None


def test_questions_are_told_apart() -> None:
    others = [
        replace(QUESTION, **change)
        for change in (
            {"uris": ("x",)},
            {"wanted": ("x",)},
            {"excluded": ("x",)},
            {"states": ("running",)},
            {"gather_subset": ("all",)},
            {"timeout": 6.0},
        )
    ]
    assert len({digest(each) for each in (QUESTION, *others)}) == len(others) + 1
    assert digest(replace(QUESTION)) == digest(QUESTION)
