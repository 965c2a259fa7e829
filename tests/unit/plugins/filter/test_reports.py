from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.qemu.guest_agent.plugins.filter.reports import FilterModule

FILTERS = FilterModule().filters()
html, text, results = (FILTERS[f"fleet_{name}"] for name in ("report_html", "report_text", "results"))

FLEET: list[dict[str, Any]] = [
    {
        "host": "hv1",
        "error": None,
        "guests": [
            {"name": "web1", "status": "unchanged", "within_tolerance": True, "offset_before_ns": -1_234},
            {"name": "web2", "status": "failed", "error": {"code": "timeout", "message": "silent", "hint": "Wait."}},
        ],
    }
]


def test_the_filters_return_what_the_report_does() -> None:
    page = html(FLEET, title="Mine", play="Ours", tolerance=0.25, check_mode=True, made_at="today")
    assert all(told in page for told in ("Mine", "Ours", "±250 ms", "Check mode", "today", "web1"))
    assert text(FLEET)[-1].startswith("hv1: ")
    assert "gathered" in text(FLEET, facts="yes")[0]


def test_all_but_the_results_has_a_default() -> None:
    page = html(FLEET)
    assert "Clocks of the fleet" in page
    assert " UTC</b>" in page
    assert "Check mode" not in page
    assert "tolerance ±" not in page


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        *(({"tolerance": value}, shown) for value, shown in (("0.1", "±100 ms"), (0, "±0 ns"), (2, "±2.00 s"))),
        *(({"check_mode": value}, "Check mode") for value in ("yes", "true", 1)),
    ],
)
def test_options_may_come_as_texts_from_the_command_line(options: dict[str, object], shown: str) -> None:
    assert shown in html(FLEET, **options)


A_TOLERANCE = "tolerance is a number of seconds between 0 and"
A_FLEET = "the results of a fleet are a list with one dict per hypervisor"
GUESTS_OF_ONE = "the guests of a hypervisor are a list of dicts"
NO_BOOLEANS = ["perhaps", [], None]
NO_GUESTS: list[object] = [None, {"web1": {}}, "web1", ["web1"], [{}, None]]
TOLERANCES = ["far", "", -1, math.nan, math.inf, "nan", 1e300, 10**400, True, [], {}]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        *(("fleet_report_html", (FLEET, "", "", value), A_TOLERANCE) for value in TOLERANCES),
        *(("fleet_report_html", (FLEET, "", "", 0, value), "check_mode is a boolean") for value in NO_BOOLEANS),
        *(("fleet_report_text", (FLEET, value), "facts is a boolean") for value in NO_BOOLEANS),
        ("fleet_report_html", (FLEET, 5), "title is a text, not of type int"),
        ("fleet_report_html", (FLEET, "", 5), "play is a text, not of type int"),
        ("fleet_report_html", (FLEET, "", "", 0, False, 5), "made_at is a text, not of type int"),
        ("fleet_report_html", (None,), A_FLEET),
        *(("fleet_report_text", (value,), A_FLEET) for value in (None, "hv", {}, 5)),
        ("fleet_results", ("text", "hv1"), "what a task registered is a dict, not of type str"),
        ("fleet_results", ({"guests": []}, "hv1", "text"), "these are registered results only if they are a list"),
        ("fleet_results", ([{"not_here": 1}], ["hv1"]), "these are registered results only if they are a list"),
        *(("guest_facts_json", (value, "hv1"), GUESTS_OF_ONE) for value in NO_GUESTS),
        ("guest_facts_json", ([{"name": b"web1"}], "hv1"), "JSON has no type for bytes"),
        ("guest_facts_json", ([], 1), "hypervisor is a text, not of type int"),
        *(("guest_text", (value,), "expects a text") for value in (None, b"web1", ["web1"])),
        *(("guest_text", ("web1", value), "length expects a number of characters") for value in ("4", -1)),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(name: str, arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"^{name}: {says}"):
        FILTERS[name](*arguments)


def test_from_what_was_registered_to_results() -> None:
    listed = {"guests": [{"name": "web1", "status": "gathered"}]}
    done = [{"qga_batch": listed["guests"], "guests": [{"name": "web1", "status": "corrected"}]}]
    (result,) = results(listed, "hv1", done)
    assert (result["host"], result["guests"], result["error"]) == ("hv1", done[0]["guests"], None)
    assert [each["host"] for each in results([result], ["hv1", "hv2"])] == ["hv1", "hv2"]
    assert results({"failed": True, "msg": "no"}, "hv1")[0]["guests"] == []


GUESTS = [
    {"name": "web2", "status": "gathered", "hostname": "two", "agent": {"version": "10.0.13", "kind": "stock"}},
    {"name": "web1", "status": "failed", "error": {"code": "timeout", "message": "{{ 6 * 7 }}", "hint": ""}},
]


class TestTheFileOfFacts:
    def test_is_sorted_json_in_ascii_in_which_nothing_begins_a_template(self) -> None:
        made = FILTERS["guest_facts_json"]([*GUESTS, {"name": "\u202egnp.exe \x9b2J \ud800 gr\u00fcn"}], "{{ hv1 }}")
        content = json.loads(made)
        assert made == json.dumps(content, indent=4, sort_keys=True) + "\n"
        assert made.isascii()  # so that it can be shown as a difference
        assert content["hypervisor"] == r"\x7b{ hv1 }}"
        failed, gathered, _strange = content["guests"]
        assert failed["error"]["message"] == r"\x7b{ 6 * 7 }}"
        assert gathered == GUESTS[0]

    def test_may_have_no_guests(self) -> None:
        assert json.loads(FILTERS["guest_facts_json"]((), "hv1")) == {"hypervisor": "hv1", "guests": []}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("Debian GNU/Linux",), "Debian GNU/Linux"),
        (("\x1b]0;owned\a\x1b[2J{{ x }}",), r"\x1b]0;owned\x07\x1b[2J\x7b{ x }}"),
        (("x" * 1000,), "x" * 200 + "\u2026"),
        (("x" * 1000, 4), "xxxx\u2026"),
        (("", 0), ""),
    ],
)
def test_a_guests_text_is_made_visible_and_cut(arguments: tuple[object, ...], shown: str) -> None:
    assert FILTERS["guest_text"](*arguments) == shown
