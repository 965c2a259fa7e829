from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.qemu.guest_agent.plugins.filter.reports import FilterModule

from tests.support.collection import make_importable

FILTERS = FilterModule().filters()
html, text, results = (FILTERS[f"fleet_{name}"] for name in ("report_html", "report_text", "results"))
as_json, shown = (FILTERS[f"guest_{name}"] for name in ("facts_json", "text"))

JINJA = "{{ 7 * 191 }}{% set x = 1 %}{# gone #}"
CALCULATED = str(7 * 191)
FLEET: list[dict[str, Any]] = [
    {
        "host": "hv1",
        "error": None,
        "guests": [
            {"name": "web1", "status": "unchanged", "within_tolerance": True, "offset_before_ns": -1_234},
            {"name": JINJA, "status": "failed", "error": {"code": "timeout", "message": JINJA, "hint": JINJA}},
        ],
    }
]


def test_the_filters_give_what_the_report_gives() -> None:
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


@pytest.mark.parametrize(("tolerance", "shown"), [("0.1", "±100 ms"), (0, "±0 ns"), (2, "±2.00 s")])
def test_a_tolerance_may_come_from_the_command_line(tolerance: object, shown: str) -> None:
    assert shown in html(FLEET, tolerance=tolerance)


@pytest.mark.parametrize("check_mode", [True, "yes", "true", 1])
def test_check_mode_may_come_from_the_command_line(check_mode: object) -> None:
    assert "Check mode" in html(FLEET, check_mode=check_mode)


A_TOLERANCE = "tolerance is a number of seconds between 0 and"
A_FLEET = "the results of a fleet are a list with one dict per hypervisor"
GUESTS_OF_ONE = "the guests of a hypervisor are a list of dicts"
NO_BOOLEANS = ["perhaps", [], None]
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
        *(
            (name, (value,), A_FLEET)
            for name in ("fleet_report_html", "fleet_report_text")
            for value in (None, "hv", {}, 5)
        ),
        ("fleet_results", ("text", "hv1"), "what a task registered is a dict, not of type str"),
        ("fleet_results", ({"guests": []}, "hv1", "text"), "these are registered results only if they are a list"),
        ("fleet_results", ([{"not_here": 1}], ["hv1"]), "these are registered results only if they are a list"),
        ("guest_facts_json", ("web1", "hv1"), GUESTS_OF_ONE),
        ("guest_facts_json", ([{"name": b"web1"}], "hv1"), "there is no JSON for what is of type bytes"),
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


@pytest.mark.slow
def test_in_a_play_nothing_that_a_guest_sends_becomes_a_template(tmp_path: Path) -> None:
    """Through this environment's own ansible-core: results as they were registered, kept as facts, written to files."""
    (tmp_path / "fleet.json").write_text(json.dumps(FLEET))
    page = "{{ fleet | qemu.guest_agent.fleet_report_html(tolerance=0.1, check_mode=ansible_check_mode) }}"
    tasks = [
        {"ansible.builtin.command": {"argv": ["cat", str(tmp_path / "fleet.json")]}, "register": "ran"},
        {"ansible.builtin.set_fact": {"fleet": "{{ ran.stdout | from_json }}"}},
        {"ansible.builtin.set_fact": {"page": page, "lines": "{{ fleet | qemu.guest_agent.fleet_report_text }}"}},
        {"ansible.builtin.copy": {"content": "{{ page }}", "dest": str(tmp_path / "page.html")}},
        {"ansible.builtin.copy": {"content": "{{ lines | join('\\n') }}", "dest": str(tmp_path / "lines")}},
        {"ansible.builtin.debug": {"msg": "{{ 'hv1' | qemu.guest_agent.fleet_report_text }}"}, "ignore_errors": True},
    ]
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    ran = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"),
            *("-e", f"ansible_python_interpreter={sys.executable}", "play.yml"),
        ],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(make_importable()), "ANSIBLE_LOCALHOST_WARNING": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    assert "a list with one dict per hypervisor" in " ".join(output.split())
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&#123;&#123; 7 * 191 }}" in written
    assert "±100 ms" in written
    lines = (tmp_path / "lines").read_text(encoding="utf-8")
    assert f"hv1: {JINJA}: timeout: {JINJA}" in lines
    assert CALCULATED not in written + lines


# ------------------------------------------------------------------------------------------------------- guests' texts

TEMPLATE = "{{ 7 * 191 }}"


def test_the_file_is_of_one_hypervisor() -> None:
    content = json.loads(as_json([{"name": "web1", "hostname": TEMPLATE}], "hv1"))
    assert content == {"hypervisor": "hv1", "guests": [{"name": "web1", "hostname": r"\x7b{ 7 * 191 }}"}]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Debian GNU/Linux", "Debian GNU/Linux"),
        ("\x1b]0;owned\a\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        (TEMPLATE, r"\x7b{ 7 * 191 }}"),
        ("\u202egnp.exe\x9b2J\nnext", r"\u202egnp.exe\x9b2J\nnext"),
        ("", ""),
    ],
)
def test_a_text_is_shown_as_what_it_is(text: str, said: str) -> None:
    assert shown(text) == said


def test_a_long_text_is_cut() -> None:
    assert shown("x" * 1000) == "x" * 200 + "\u2026"
    assert shown("x" * 1000, 4) == shown("x" * 1000, length=4) == "xxxx\u2026"
