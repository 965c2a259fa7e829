# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.qemu.guest_agent.plugins.filter.guest_facts import FilterModule

FILTERS = FilterModule().filters()
as_json, shown = FILTERS["guest_facts_json"], FILTERS["guest_text"]

JINJA = "{{ 7 * 191 }}"
ERROR = {"code": "timeout", "message": f"\x1b[2J{JINJA}", "hint": ""}
GUESTS = [
    {"name": "web1", "status": "gathered", "hostname": JINJA},
    {"name": "web2", "status": "failed", "error": ERROR},
    {"name": "web3", "status": "skipped", "reason": ERROR},
]


def test_the_file_is_of_one_hypervisor() -> None:
    content = json.loads(as_json(GUESTS, "hv1"))
    assert (content["hypervisor"], [guest["name"] for guest in content["guests"]]) == ("hv1", ["web1", "web2", "web3"])
    assert content["guests"][0]["hostname"] == r"\x7b{ 7 * 191 }}"


def test_guests_that_are_none_are_refused_in_a_sentence() -> None:
    with pytest.raises(AnsibleFilterError, match="guest_facts_json: the guests of a hypervisor are a list of dicts"):
        as_json("web1", "hv1")
    with pytest.raises(AnsibleFilterError, match="guest_facts_json: there is no JSON for what is of type bytes"):
        as_json([{"name": b"web1"}], "hv1")


def test_a_hypervisor_that_is_no_text_is_refused_in_a_sentence() -> None:
    with pytest.raises(AnsibleFilterError, match="guest_facts_json: hypervisor is a text, not of type int"):
        as_json(GUESTS, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Debian GNU/Linux", "Debian GNU/Linux"),
        ("\x1b]0;owned\a\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        (JINJA, r"\x7b{ 7 * 191 }}"),
        ("\u202egnp.exe\x9b2J\nnext", r"\u202egnp.exe\x9b2J\nnext"),
        ("", ""),
    ],
)
def test_a_text_is_shown_as_what_it_is(text: str, said: str) -> None:
    assert shown(text) == said


def test_a_long_text_is_cut() -> None:
    assert shown("x" * 1000) == "x" * 200 + "\u2026"
    assert shown("x" * 1000, 4) == shown("x" * 1000, length=4) == "xxxx\u2026"


@pytest.mark.parametrize("arguments", [(None,), (b"web1",), (["web1"],), ("web1", "4"), ("web1", -1)])
def test_what_is_no_text_is_refused_in_a_sentence(arguments: tuple[object, ...]) -> None:
    with pytest.raises(AnsibleFilterError, match=r"guest_text: .*expects a "):
        shown(*arguments)
