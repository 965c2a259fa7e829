from __future__ import annotations

import json
import math
import platform
import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.release import __version__ as ansible_core
from ansible_collections.qemu.guest_agent.plugins.filter.reports import FilterModule
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.collection import version

from tests.support.fleet_results import host, host_clock, left_beyond

FILTERS = FilterModule().filters()
html, json_of, text, results = (
    FILTERS[f"fleet_{name}"] for name in ("report_html", "report_json", "report_text", "results")
)

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


OPTIONS = {
    "title": "Mine",
    "play": "Ours",
    "tolerance": 0.25,
    "check_mode": True,
    "started_at": "2026-11-23T04:05:06.5Z",
    "made_at": "2026-11-23T06:06:07+02:00",
    "inventory": ["/etc/hypervisors.yml"],
}


def test_the_page_shows_all_options() -> None:
    page = html(FLEET, **OPTIONS)
    shown = ("Mine", "Ours", "±250 ms", "Check mode", "2026-11-23 04:05:06 UTC", "1 min 01 s", "/etc/hypervisors.yml")
    assert [words for words in (*shown, "web1", platform.node(), ansible_core) if words not in page] == []
    assert "qemu.guest_agent <b>1." in page


def test_the_data_has_the_same() -> None:
    content = json.loads(json_of(FLEET, **OPTIONS))
    assert content["schema"] == 1
    assert content["header"] == {
        "title": "Mine",
        "play": "Ours",
        "collection": "qemu.guest_agent",
        "collection_version": version(),
        "core": ansible_core,
        "controller": platform.node(),
        "inventory": ["/etc/hypervisors.yml"],
        "started_at": "2026-11-23T04:05:06Z",
        "made_at": "2026-11-23T04:06:07Z",
        "duration": 60.5,
        "duration_ns": 60_500_000_000,
    }
    assert [guest["name"] for guest in content["guests"]] == ["web1", "web2"]


def test_text_from_guests_begins_no_template_in_the_data() -> None:
    made = json_of(
        [{"host": "hv1", "guests": [{"name": "{{ 6 * 7 }}", "vm_name": "{% raw %}", "status": "corrected"}]}]
    )
    assert made.isascii()
    assert not re.search(r"\{[{%#]", made)
    assert json.loads(made)["guests"][0]["name"] == r"\x7b{ 6 * 7 }}"


def test_the_summary_counts_everything_that_makes_a_run_fail() -> None:
    fleet = [
        {**host("hv1", left_beyond("web1"), host_clock=host_clock(False)), "not_found": ["web8", "web9"]},
        {**host("hv2", error={"code": "unreachable"}), "not_found": ["web8", "web9"]},
    ]
    found = FILTERS["fleet_summary"](fleet)
    assert (found["failed"], found["beyond_tolerance"], found["not_found"]) == (0, 1, 2)
    assert (found["hypervisors"], found["hypervisors_failed"], found["hypervisors_unsynchronized"]) == (2, 1, 1)


def test_the_summary_counts_guests_by_status() -> None:
    counts = {"total": 2, "corrected": 0, "would_correct": 0, "unchanged": 1, "slewing": 0, "skipped": 0, "failed": 1}
    hypervisors = {"not_found": 0, "hypervisors": 1, "hypervisors_failed": 0, "hypervisors_unsynchronized": 0}
    assert FILTERS["fleet_summary"](FLEET) == {**counts, "beyond_tolerance": 0, **hypervisors}
    gathered = [{"host": "hv1", "guests": [{"status": "gathered"}, {"status": "skipped"}]}]
    assert FILTERS["fleet_summary"](gathered, facts=True) == {
        "total": 2,
        "gathered": 1,
        "skipped": 1,
        "failed": 0,
        **hypervisors,
    }


def test_the_terminal_has_lines_for_either_kind_of_run() -> None:
    assert text(FLEET)[-1].startswith("hv1: ")
    assert "gathered" in text(FLEET, facts="yes")[0]


def test_every_option_has_a_default() -> None:
    page = html(FLEET)
    assert "Clocks of the fleet" in page
    assert "made <b>20" in page
    assert "-i INVENTORY" in page
    assert json.loads(json_of(FLEET))["header"]["inventory"] == []
    assert "Check mode" not in page
    assert "tolerance ±" not in page


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        *(({"tolerance": value}, shown) for value, shown in (("0.1", "±100 ms"), (0, "±0 ns"), (2, "±2.00 s"))),
        *(({"check_mode": value}, "Check mode") for value in ("yes", "true", 1)),
    ],
)
def test_options_may_be_strings_from_the_command_line(options: dict[str, object], shown: str) -> None:
    assert shown in html(FLEET, **options)


A_TOLERANCE = "tolerance must be a number of seconds from 0 to"
A_FLEET = "the results must be a list with a dict for each hypervisor"
A_TIME = "must be a time with a zone, such as 2026-11-23T04:05:06Z"
GUESTS_OF_ONE = "the guests of a hypervisor must be a list of dicts"
NO_BOOLEANS = ["perhaps", [], None]
NO_GUESTS: list[object] = [None, {"web1": {}}, "web1", ["web1"], [{}, None]]
TOLERANCES = ["far", "", -1, math.nan, math.inf, "nan", 1e300, 10**400, True, [], {}]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        *(("fleet_report_html", (FLEET, "", "", value), A_TOLERANCE) for value in TOLERANCES),
        *(("fleet_report_html", (FLEET, "", "", 0, value), "check_mode must be a boolean") for value in NO_BOOLEANS),
        *(("fleet_report_text", (FLEET, value), "facts must be a boolean") for value in NO_BOOLEANS),
        *(("fleet_summary", (FLEET, value), "facts must be a boolean") for value in NO_BOOLEANS),
        *(
            (name, (FLEET, *arguments), error)
            for name in ("fleet_report_html", "fleet_report_json")
            for arguments, error in (
                ((5,), "title must be a string, not of type int"),
                (("", 5), "play must be a string, not of type int"),
                *((("", "", 0, False, value), f"made_at {A_TIME}") for value in (5, "today", "")),
                (("", "", 0, False, None, "soon"), f"started_at {A_TIME}"),
                *(
                    (("", "", 0, False, None, None, value), "inventory must be a list of strings")
                    for value in (5, [5], None)
                ),
            )
        ),
        ("fleet_report_html", (None,), A_FLEET),
        *(("fleet_report_text", (value,), A_FLEET) for value in (None, "hv", {}, 5)),
        ("fleet_results", ("text", "hv1"), "a registered result must be a dict, not of type str"),
        ("fleet_results", ({"guests": []}, "hv1", "text"), "registered results must be a list"),
        ("fleet_results", ([{"not_here": 1}], ["hv1"]), "registered results must be a list"),
        *(("guest_facts_json", (value, "hv1"), GUESTS_OF_ONE) for value in NO_GUESTS),
        ("guest_facts_json", ([{"name": b"web1"}], "hv1"), "JSON has no type for bytes"),
        ("guest_facts_json", ([], 1), "hypervisor must be a string, not of type int"),
        *(("guest_text", (value,), "the input must be a string") for value in (None, b"web1", ["web1"])),
        *(("guest_text", ("web1", value), "length must be a number of characters") for value in ("4", -1)),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(name: str, arguments: tuple[object, ...], error: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"^{name}: {error}"):
        FILTERS[name](*arguments)


def test_registered_results_become_results_of_the_fleet() -> None:
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


class TestFileOfFacts:
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
def test_text_from_a_guest_is_made_visible_and_cut(arguments: tuple[object, ...], shown: str) -> None:
    assert FILTERS["guest_text"](*arguments) == shown
