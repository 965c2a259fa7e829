from __future__ import annotations

import json

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.facts_file import document

GUESTS = [
    {"name": "web2", "status": "gathered", "hostname": "two", "agent": {"version": "10.0.13", "kind": "stock"}},
    {"name": "web1", "status": "failed", "error": {"code": "timeout", "message": "{{ 6 * 7 }}", "hint": ""}},
]


def test_it_is_sorted_json_in_ascii_in_which_nothing_begins_a_template() -> None:
    text = document("{{ hv1 }}", [*GUESTS, {"name": "\u202egnp.exe \x9b2J \ud800 gr\u00fcn"}])
    content = json.loads(text)
    assert text == json.dumps(content, indent=4, sort_keys=True) + "\n"
    assert text.isascii()  # so that it can be shown as a difference
    assert content["hypervisor"] == r"\x7b{ hv1 }}"
    failed, gathered, _strange = content["guests"]
    assert failed["error"]["message"] == r"\x7b{ 6 * 7 }}"
    assert gathered == GUESTS[0]


def test_a_hypervisor_may_have_no_guests() -> None:
    assert json.loads(document("hv1", ())) == {"hypervisor": "hv1", "guests": []}


@pytest.mark.parametrize("guests", [None, {"web1": {}}, "web1", ["web1"], [{}, None]])
def test_what_are_no_guests_is_refused(guests: object) -> None:
    with pytest.raises(TypeError, match="the guests of a hypervisor are a list of dicts"):
        document("hv1", guests)
