from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.data import document
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import printable
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.links import TROUBLESHOOTING
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import (
    Fleet,
    Header,
    Settings,
    all_guests,
    read_fleet,
    tally,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import summary
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import inert
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleet_results import (
    DISGUISED,
    ENDLESS,
    HOSTILE,
    SECOND_NS,
    UNKNOWN,
    corrected,
    failed,
    host,
    host_clock,
    left_beyond,
    skipped,
    slewing,
    unchanged,
    unproven,
    would_correct,
)

KEYS = (*corrected(""), "uuid", "error", "reason", "vm_name", "vm_name_from")
VOID = {"meta", "input"}


def page(*hypervisors: Any, **other: Any) -> str:
    return page_of(list(hypervisors), **other)


def page_of(
    hypervisors: Any, *, tolerance_ns: int | None = 100_000_000, check_mode: bool = False, **header: Any
) -> str:
    fleet = Fleet.of(read_fleet(hypervisors), Settings(tolerance_ns, check_mode))
    return render(fleet, Header(**{"title": "Clocks", "made_ns": 0, **header}))


class Checker(HTMLParser):
    """A parser that fails if the page is not well formed, and collects its elements and words."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        source.encode()
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _value in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:80]}")

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _attributes in self.elements)


LINK = re.compile(rf"({re.escape(TROUBLESHOOTING)})?#[a-z-]+")


def checked(source: str) -> Checker:
    """Return the page, checked to be well formed, to load nothing, and to run only its own script."""
    checker = Checker(source)
    assert source.endswith("</html>\n")
    assert [checker.count(tag) for tag in ("script", "style", "html", "body", "h1")] == [1] * 5
    for tag, attributes in checker.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            assert name not in {"src", "srcset", "style", "action", "xlink:href", "background", "poster", "data"}
            assert name != "href" or LINK.fullmatch(value), f"{tag} leads to {value}"
        leads_away = attributes.get("href", "#")[0] != "#"
        assert attributes.get("rel") == ("noopener noreferrer" if leads_away else None)
    assert not any(mark in source for mark in ("{{", "{%", "{#"))
    assert "{" not in bodies(source)
    return checker


def bodies(source: str) -> str:
    """Return the page without the style and the script, which are the collection's own."""
    return re.sub(r"<(style|script)>.*?</\1>", "", source, flags=re.DOTALL)


def test_the_page_shows_what_it_was_given() -> None:
    guests = [corrected("web1"), unchanged("db1"), skipped("mail1"), failed("cache1")]
    started_ns = 1_795_406_706 * SECOND_NS
    header = {
        "title": "Clocks of the fleet",
        "made_ns": started_ns + 90 * SECOND_NS,
        "started_ns": started_ns,
        "play": "Resync them",
        "inventory": ("one.yml", "two.yml"),
        "controller": "control",
        "core": "2.19.3",
        "collection": "qemu.guest_agent",
        "version": "1.2.3",
    }
    text = checked(page(host("hv1", *guests), **header)).text
    given = ["Clocks of the fleet", "started 2026-11-23 04:05:06 UTC", "took 1 min 30 s", "inventory one.yml, two.yml"]
    given += ["controller control", "ansible-core 2.19.3", "qemu.guest_agent 1.2.3", "play Resync them"]
    given += ["±100 ms", "web1", "\u221221.0 s"]
    given += ["±571 µs", "\u221248.2 µs", "set_time", "not_connected", "no agent", "Install it."]
    assert [words for words in given if words not in text] == []
    assert "Check mode" not in text


def test_nothing_may_be_loaded_and_only_the_pages_own_script_may_run() -> None:
    source = page(host("hv1", corrected("web1")))
    (policy,) = (
        attributes["content"]
        for tag, attributes in checked(source).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("style", "script"):
        content = source.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    # The policy counts only for what comes after it.
    assert source.index("Content-Security-Policy") < source.index("<title>") < source.index("<style>")


def test_check_mode_is_shown() -> None:
    text = checked(page(host("hv1", would_correct("web1")), check_mode=True)).text
    shown = ("Check mode", "1 of 1 guest would be corrected.", "Would correct1", "would correct 1")
    assert [words for words in shown if words not in text] == []
    assert "Corrected" not in text


@pytest.mark.parametrize("tolerance_ns", [None, 0, 1, 10**9, 366 * 86400 * SECOND_NS])
@pytest.mark.parametrize("number", [0, 1, 4, 24, 25, 200, 1_300])
def test_a_page_for_any_number_of_guests_and_any_tolerance_is_well_formed(
    number: int, tolerance_ns: int | None
) -> None:
    guests = [corrected(f"web{index}", before_ns=-(index**5)) for index in range(number)]
    source = page(host("hv1", *guests), tolerance_ns=tolerance_ns)
    checker = checked(source)
    assert checker.count("tr") == number + 3 - (not number)  # two heads, the hypervisor
    assert ("tolerance ±" in checker.text) == (tolerance_ns is not None)
    assert source == page(host("hv1", *guests), tolerance_ns=tolerance_ns)


@pytest.mark.parametrize(("made_ns", "shown"), [(0, "1970-01-01 00:00:00 UTC"), (10**30, "\u2013")])
def test_any_time_is_shown(made_ns: int, shown: str) -> None:
    assert shown in checked(page(made_ns=made_ns)).words


def test_failures_come_before_the_chart_and_are_grouped_by_code() -> None:
    guests = [failed("a1", "timeout"), failed("b1"), failed("b2"), skipped("c1"), corrected("d1")]
    error = {"code": "hypervisor_unavailable", "message": "refused", "hint": "Check the uri."}
    source = bodies(page(host("hv1", *guests), host("hv2", error=error)))
    order = ("hypervisor_unavailable", "Check the uri.", "Failed guests", "not_connected", "Install it.", "b1", "b2")
    order += ("timeout", "a1", "Run them again", "<h2>Offsets</h2>", "Skipped guests", "not_running")
    order += ("<h2>Hypervisors</h2>", "<h2>Guests</h2>")
    start = source.index("Failed hypervisors")
    places = [source.index(words, start) for words in order]
    assert places == sorted(places)
    assert source.count("Install it.") == 2  # once for each code
    # Different hints are beside their guests.
    source = bodies(page(host("hv1", failed("a", hint="First."), failed("b", hint="Second."))))
    assert source.index(">a<") < source.index("First.") < source.index(">b<") < source.index("Second.")


def test_many_failures_are_folded_and_none_is_missing() -> None:
    checker = checked(page(host("hv1", *(failed(f"web{number:03}") for number in range(100)))))
    assert checker.count("details") == 2  # the other is the command that runs them again
    assert "and 88 more" in checker.text
    assert all(f"web{number:03}" in checker.text for number in range(100))


@pytest.mark.parametrize(
    ("guest", "cell"),
    [
        (corrected("a"), "<td>yes</td>"),
        (unproven("a"), '<td class="off">unproven</td>'),
        (corrected("a", within_tolerance=False), '<td class="off">no</td>'),
        (slewing("a", within_tolerance=None), "<td>not yet</td>"),
        (corrected("a", attempts=3), "<td>set_time \u00d73</td>"),
        # In check mode, the guest is not left beyond tolerance.
        (would_correct("a"), "<td>no</td>"),
        (left_beyond("a"), '<td class="off">no</td>'),
        (corrected("a", warnings=["slow & late"]), '<td class="warned" title="slow &amp; late">warning</td>'),
        (corrected("a"), '<th scope="row">a</th>'),
        (
            corrected("/run/100.qga", vm_name="web1", vm_name_from="node"),
            '<th scope="row" title="/run/100.qga"><span class="m" dir="auto"><b>web1</b> <i>100</i></span></th>',
        ),
        (
            corrected("/run/100.qga", vm_name="<b>", vm_name_from="agent"),
            'The guest&#39;s agent reports this name."><span class="m" dir="auto"><b>&lt;b&gt;</b> <i>100</i></span>',
        ),
        # A name that is too long is shortened in its middle.
        (corrected("a-name-that-is-long"), "<b>a-name-that-i</b><b>s-long</b></span></th>"),
    ],
)
def test_the_table_shows_whether_a_clock_is_within_tolerance_and_the_method(guest: dict[str, Any], cell: str) -> None:
    assert cell in page(host("hv1", guest))


def test_guests_that_are_being_slewed_are_not_shown_as_beyond_tolerance() -> None:
    shown = checked(page(host("hv1", corrected("web1"), slewing("db1"))))
    assert not [each for _tag, each in shown.elements if "off" in each.get("class", "").split()]
    # A tile, a heading of the table, a cell, and an entry of the legend.
    assert ("ul", {"class": "tiles more"}) in shown.elements
    assert ("li", {"class": "slewing", "title": "50 %"}) in shown.elements
    assert ("td", {"class": "s slewing"}) in shown.elements
    assert "Slewing" in shown.words
    assert "slewing 1" in shown.text
    without = checked(page(host("hv1", corrected("web1"))))
    assert "Slewing" not in without.words
    assert ("ul", {"class": "tiles"}) in without.elements


def test_the_verdict_isolates_the_name_of_a_guest() -> None:
    source = page(host("hv1", left_beyond("\u05e9\u05dc\u05d5\u05dd"), skipped("web2")))
    assert '<p><a href="#skipped">1 of 2 guests was skipped.</a></p>' in source
    assert "1 guest is beyond tolerance: <b>\u05e9\u05dc\u05d5\u05dd</b>, 1 min 30 s ahead.</a></p>" in source
    assert '<p><a href="#guests">1 guest is beyond tolerance: <b>1</b>, 1 min' in page(host("hv1", left_beyond("1")))


def test_codes_that_the_guide_explains_are_links() -> None:
    checker = checked(page(host("hv1", failed("a"), failed("b", "no_such_code"), failed("c", HOSTILE[0]))))
    links = [attributes["href"] for tag, attributes in checker.elements if tag == "a" and "rel" in attributes]
    assert links == [f"{TROUBLESHOOTING}#not-connected"] * 2


def test_a_hypervisor_has_the_state_of_its_clock() -> None:
    clocks = (host_clock(), host_clock(False, 16 * SECOND_NS), host_clock(None, 5), None)
    hosts = [host(f"hv{number}", unchanged("a"), host_clock=clock) for number, clock in enumerate(clocks)]
    rows = page(*hosts).split('<table class="fleet sortable hypervisors">')[1].split("<tbody>")[1].split("<tr>")[1:]
    # The one that is not synchronized comes first.
    assert [row.split("</th>\n")[1].split("\n")[0] for row in rows[:4]] == [
        '<td class="off">not synchronized <small>±16.0 s</small></td>',
        "<td>synchronized <small>±1.53 ms chronyd</small></td>",
        "<td>unknown <small>±5 ns</small></td>",
        f'<td class="u">{UNKNOWN}</td>',
    ]


def test_a_command_runs_the_failed_guests_again() -> None:
    source = page(host("hv1", failed("web1"), corrected("web2")), inventory=("hosts.yml",))
    command = """ansible-playbook qemu.guest_agent.resync_fleet -i hosts.yml -e """
    command += """'{"qga_hosts": "hv1", "qga_domains": ["web1"]}'"""
    assert command in checked(source).words
    assert "Show the command" not in source
    several = page(*(host(f"hv{number}", failed(f"web{number}")) for number in range(4)))
    assert several.count("<pre><code>ansible-playbook ") == 4
    assert "<summary>Show the commands</summary>" in several
    assert "Run them again" not in page(host("hv1", corrected("web2")))


def test_statuses_differ_in_shape() -> None:
    source = page(host("hv1", corrected("a"), corrected("b", status="skipped"), corrected("c", status="failed")))
    legend = source.split('<ul class="legend">')[1].split("</ul>")[0]
    shapes = [re.sub(r'class="[^"]*"', "", entry.split("</svg>")[0]) for entry in legend.split("<li>")[1:4]]
    assert len(set(shapes)) == 3


@pytest.mark.parametrize("text", [*HOSTILE, *DISGUISED, *ENDLESS], ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("several", [1, 40])
def test_hostile_text_is_shown_as_text(text: str, several: int) -> None:
    guests = [corrected(text, uuid=text, method=text, vm_name=text, warnings=[text]) for _index in range(several)]
    guests += [failed(text, text, text, text), skipped(text, text), corrected("web1", status=text)]
    error = {"code": text, "message": text, "hint": text}
    clock = {"synchronized": False, "max_error_ns": 1, "source": text}
    hypervisors = [host(text, *guests, host_clock=clock), host(text, error=error)]
    source = page(*hypervisors, title=printable(text, 160), play=printable(text, 160))
    checker = checked(source)
    assert len(source) < 300_000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", source)
    if text not in ENDLESS:
        assert DISGUISED.get(text, text) in checker.words  # to the letter
    lines = summary(hypervisors)
    assert all(line.isprintable() and len(line) < 400 for line in lines)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "message", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
entries = st.dictionaries(st.sampled_from(KEYS), anything | st.sampled_from(["corrected", "skipped", "unchanged"]))
fleets = st.lists(
    st.fixed_dictionaries(
        {"guests": st.lists(entries | anything, max_size=40)},
        optional={"host": anything, "error": anything, "host_clock": anything | st.just({"synchronized": False})},
    )
    | anything,
    max_size=3,
)


@given(fleets, st.booleans(), st.none() | st.integers(0, 10**18))
def test_any_input_makes_a_page(fleet: list[Any], check_mode: bool, tolerance_ns: int | None) -> None:
    checked(page_of(fleet, tolerance_ns=tolerance_ns, check_mode=check_mode))
    report = Fleet.of(read_fleet(fleet), Settings(tolerance_ns, check_mode))
    json.dumps(inert(document(report, Header("t", 0))), allow_nan=False)
    given = [item.get("guests") if isinstance(item, dict) else None for item in fleet]
    read = read_fleet(fleet)
    assert [len(item.guests) for item in read] == [len(each) if isinstance(each, list) else 0 for each in given]
    assert sum(tally(all_guests(read)).by_status.values()) == len(all_guests(read))
    assert all(line.isprintable() for line in summary(fleet))


@pytest.mark.slow
def test_ten_thousand_failures_make_a_page_of_less_than_eight_megabytes() -> None:
    long = "no guest agent runs in this domain at qemu:///system, and the channel is not connected either, it seems"
    source = page(host("hv1", *(failed(f"web{number}", message=long) for number in range(10_000))))
    assert len(source.encode()) < 8_000_000
    assert checked(source).count("tr") > 10_000
