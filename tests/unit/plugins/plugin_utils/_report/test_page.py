from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import all_guests, read_fleet, tally
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import summary
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleet_results import (
    DISGUISED,
    ENDLESS,
    HOSTILE,
    SECOND_NS,
    corrected,
    failed,
    host,
    skipped,
    slewing,
    unchanged,
    unproven,
)

KEYS = (*corrected(""), "uuid", "error", "reason")
VOID = {"meta", "input"}


def page(*hypervisors: Any, **other: Any) -> str:
    arguments = {"title": "Clocks", "made_at": "now", "tolerance_ns": 100_000_000, "check_mode": False, **other}
    return render(list(hypervisors), **arguments)


class Checker(HTMLParser):
    """Whether the page is well formed, and what is in it."""

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


def checked(source: str) -> Checker:
    """The page, found to be well formed, to reach for nothing, and to run nothing but its own script."""
    checker = Checker(source)
    assert source.endswith("</html>\n")
    assert [checker.count(tag) for tag in ("script", "style", "html", "body", "h1")] == [1] * 5
    for tag, attributes in checker.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            assert name not in {"src", "srcset", "style", "action", "xlink:href", "background", "poster", "data"}
            assert name != "href" or re.fullmatch(r"#[a-z-]+", value), f"{tag} leads to {value}"
    assert not any(mark in source for mark in ("{{", "{%", "{#"))
    assert "{" not in bodies(source)
    return checker


def bodies(source: str) -> str:
    """Without the style and the script, which are the collection's own."""
    return re.sub(r"<(style|script)>.*?</\1>", "", source, flags=re.DOTALL)


def test_the_page_shows_what_it_was_given() -> None:
    guests = [corrected("web1"), unchanged("db1"), skipped("mail1"), failed("cache1")]
    made_at = 1_795_406_706 * SECOND_NS
    text = checked(page(host("hv1", *guests), title="Clocks of the fleet", made_at=made_at, play="Give them time")).text
    given = ["Clocks of the fleet", "2026-11-23 04:05:06 UTC", "Give them time", "±100 ms", "web1", "\u221221.0 s"]
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


def test_check_mode_is_said() -> None:
    text = checked(page(host("hv1", corrected("web1", after_ns=None)), check_mode=True)).text
    assert [words in text for words in ("Check mode", "1 of 1 guest would be corrected.", "to correct")] == [True] * 3
    assert "corrected 1" not in text


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


@pytest.mark.parametrize(
    ("made_at", "shown"), [(0, "1970-01-01 00:00:00 UTC"), (10**30, "\u2013"), ("\x1bnow", "\\u001bnow")]
)
def test_any_instant_can_be_told(made_at: int | str, shown: str) -> None:
    assert shown in checked(page(made_at=made_at)).words


def test_failures_come_first_and_are_grouped_by_code() -> None:
    guests = [failed("a1", "timeout"), failed("b1"), failed("b2"), skipped("c1"), corrected("d1")]
    error = {"code": "hypervisor_unavailable", "message": "refused", "hint": "Check the uri."}
    source = bodies(page(host("hv1", *guests), host("hv2", error=error)))
    order = ("hypervisor_unavailable", "Check the uri.", "Failed guests", "not_connected", "Install it.", "b1", "b2")
    order += ("timeout", "a1", "Skipped guests", "not_running", "<h2>Hypervisors</h2>", "<h2>Guests</h2>")
    start = source.index("Hypervisors that could not be worked on")
    places = [source.index(told, start) for told in order]
    assert places == sorted(places)
    assert source.count("Install it.") == 2  # once for each code
    # Different ones stand with their guests.
    source = bodies(page(host("hv1", failed("a", hint="First."), failed("b", hint="Second."))))
    assert source.index(">a<") < source.index("First.") < source.index(">b<") < source.index("Second.")


def test_many_failures_are_folded_and_none_is_lost() -> None:
    checker = checked(page(host("hv1", *(failed(f"web{number:03}") for number in range(100)))))
    assert checker.count("details") == 1
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
    ],
)
def test_the_table_says_whether_a_clock_is_within_tolerance_and_how_it_was_set(
    guest: dict[str, Any], cell: str
) -> None:
    assert cell in page(host("hv1", guest))


def test_guests_that_are_being_slewed_are_shown_as_such_and_not_as_wrong() -> None:
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


def test_statuses_differ_in_shape() -> None:
    source = page(host("hv1", corrected("a"), corrected("b", status="skipped"), corrected("c", status="failed")))
    legend = source.split('<ul class="legend">')[1].split("</ul>")[0]
    shapes = [re.sub(r'class="[^"]*"', "", entry.split("</svg>")[0]) for entry in legend.split("<li>")[1:4]]
    assert len(set(shapes)) == 3


@pytest.mark.parametrize("text", [*HOSTILE, *DISGUISED, *ENDLESS], ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("several", [1, 40])
def test_hostile_text_is_shown_as_text(text: str, several: int) -> None:
    guests = [corrected(text, uuid=text, method=text) for _index in range(several)]
    guests += [failed(text, text, text, text), skipped(text, text), corrected("web1", status=text)]
    error = {"code": text, "message": text, "hint": text}
    source = page(host(text, *guests), host(text, error=error), title=text, play=text, made_at=text)
    checker = checked(source)
    assert len(source) < 300_000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", source)
    if text not in ENDLESS:
        assert DISGUISED.get(text, text) in checker.words  # to the letter
    lines = summary([host(text, *guests), host(text, error=error)])
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
        {"guests": st.lists(entries | anything, max_size=40)}, optional={"host": anything, "error": anything}
    )
    | anything,
    max_size=3,
)


@given(fleets, st.booleans(), st.none() | st.integers(0, 10**18))
def test_whatever_comes_there_is_a_page(fleet: list[Any], check_mode: bool, tolerance_ns: int | None) -> None:
    checked(render(fleet, title="t", made_at=0, tolerance_ns=tolerance_ns, check_mode=check_mode))
    given = [item.get("guests") if isinstance(item, dict) else None for item in fleet]
    read = read_fleet(fleet)
    assert [len(item.guests) for item in read] == [len(each) if isinstance(each, list) else 0 for each in given]
    assert sum(tally(all_guests(read)).by_status.values()) == len(all_guests(read))
    assert all(line.isprintable() for line in summary(fleet))


@pytest.mark.slow
def test_ten_thousand_failures_make_a_page_of_a_sane_size() -> None:
    long = "no guest agent runs in this domain at qemu:///system, and the channel is not connected either, it seems"
    source = page(host("hv1", *(failed(f"web{number}", message=long) for number in range(10_000))))
    assert len(source.encode()) < 8_000_000
    assert checked(source).count("tr") > 10_000
