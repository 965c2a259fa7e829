# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import math
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render, text_summary, totals
from hypothesis import given
from hypothesis import strategies as st

SECOND_NS = 10**9
HOSTILE: dict[str, str] = {
    "a script": "<script>window.pwned=1</script>",
    "a quote that leaves its attribute": '" onmouseover="window.pwned=1',
    "the other quote": "'><img src=x onerror=window.pwned=1>",
    "the ends of all that holds text": "</title></style></script></textarea><svg onload=window.pwned=1>",
    "a comment": "<!-- ",
    "the end of a section": "]]>",
    "an address": "<link rel=stylesheet href=//evil.example/x.css>",
    "jinja": "{{ lookup('pipe', 'id') }}{% raw %}{# x #}",
    "a terminal's commands": "\x1b[31mred\x1b]0;title\x07\x9b1m",
    "NUL": "nul\0nul",
    "writing from right to left": "\u202etxt.exe\u202c\u2066\u200f",
    "ends of lines": "one\r\ntwo\u2028three\u2029four\x85",
    "half of a surrogate pair": "\ud800",
    "a tag by entities": "&lt;script&gt;&#x3c;",
    "ten megabytes": "A" * 10_000_000,
    "accents without end": "z" + "\u0335\u0336" * 500,
}
WRONG: dict[str, Any] = {
    "nothing": None,
    "a number": 7,
    "NaN": math.nan,
    "infinity": math.inf,
    "a huge integer": 10**5000,
    "a truth": True,
    "bytes": b"web1",
    "a list": ["web1"],
    "a dict": {"web1": 1},
}
KEYS = (
    *("name", "uuid", "status", "changed", "within_tolerance", "method", "attempts", "error", "reason"),
    *("offset_before_ns", "uncertainty_before_ns", "offset_after_ns", "uncertainty_after_ns"),
    *("round_trip_ns", "duration_ns"),
)
VOID = {"meta", "input"}


def corrected(name: str, before_ns: int = -20_973_581_442, after_ns: int = -48_211, **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": "corrected",
        "changed": True,
        "within_tolerance": True,
        "method": "set_time",
        "attempts": 1,
        "offset_before_ns": before_ns,
        "uncertainty_before_ns": 571_223,
        "offset_after_ns": after_ns,
        "uncertainty_after_ns": 516_873,
        "round_trip_ns": 1_012_904,
        "duration_ns": 981_235_887,
        **other,
    }


def unproven(name: str) -> dict[str, Any]:
    why = {"code": "not_converged", "message": "the clock is not proven to be within 0.1 s", "hint": "Raise tolerance."}
    figures = {"uncertainty_after_ns": 156_000_000, "within_tolerance": None}
    return corrected(name, after_ns=30_000_000, **figures, status="failed", error=why)


def unchanged(name: str, before_ns: int = 1_234) -> dict[str, Any]:
    nothing = {"changed": False, "method": None, "attempts": 0, "offset_after_ns": None, "uncertainty_after_ns": None}
    return corrected(name, before_ns, **nothing, status="unchanged")


def slewing(name: str, before_ns: int = 200_000_000, **other: Any) -> dict[str, Any]:
    figures = {"within_tolerance": False, "method": "extended", "status": "slewing", **other}
    return corrected(name, before_ns, after_ns=before_ns - 5_000, **figures)


def failed(
    name: str, code: str = "not_connected", message: str = "no agent", hint: str = "Install it."
) -> dict[str, Any]:
    return {"name": name, "status": "failed", "error": {"code": code, "message": message, "hint": hint}}


def skipped(name: str, code: str = "not_running") -> dict[str, Any]:
    return {"name": name, "status": "skipped", "reason": {"code": code, "message": "it is off", "hint": "Start it."}}


def host(name: str, *guests: Any, error: Any = None) -> dict[str, Any]:
    return {"host": name, "guests": list(guests), "error": error}


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
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _attributes in self.elements)


def checked(source: str) -> Checker:
    """The page, found to be well formed, to reach for nothing, and to run nothing but its own script."""
    checker = Checker(source)
    assert [checker.count(tag) for tag in ("script", "style", "html", "body", "h1")] == [1] * 5
    for tag, attributes in checker.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            assert name not in {"src", "srcset", "style", "action", "xlink:href", "background", "poster", "data"}
            assert name != "href" or re.fullmatch(r"#[a-z-]+", value), f"{tag} leads to {value}"
    assert not any(mark in source for mark in ("{{", "{%", "{#"))
    return checker


def bodies(source: str) -> str:
    """Without the style and the script, which are the collection's own."""
    return re.sub(r"<(style|script)>.*?</\1>", "", source, flags=re.DOTALL)


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_page_tells_what_it_was_told() -> None:
    source = page(
        host("hv1", corrected("web1"), unchanged("db1"), skipped("mail1"), failed("cache1")),
        title="Clocks of the fleet",
        made_at=1_795_406_706 * SECOND_NS,
        play="Give them their time",
    )
    text = checked(source).text
    for told in ("Clocks of the fleet", "2026-11-23 04:05:06 UTC", "Give them their time", "±100 ms"):
        assert told in text
    for told in (
        "web1",
        "\u221221.0 s",
        "±571 µs",
        "\u221248.2 µs",
        "set_time",
        "not_connected",
        "no agent",
        "Install it.",
    ):
        assert told in text
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
    # The policy counts only for what comes behind it.
    assert source.index("Content-Security-Policy") < source.index("<title>") < source.index("<style>")


def test_the_page_reaches_for_nothing() -> None:
    source = page(host("hv1", *(corrected(f"web{number}") for number in range(50)), failed("db1"), skipped("db2")))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=", bodies(source))
    own = source.split("<style>")[1].split("</style>")[0] + source.split("<script>")[1].split("</script>")[0]
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch|XMLHttp|WebSocket|import\(|innerHTML|eval|cookie", own)


def test_check_mode_is_said() -> None:
    text = checked(page(host("hv1", corrected("web1", after_ns=None)), check_mode=True)).text
    assert "Check mode" in text
    assert "1 of 1 guest would be corrected." in text
    assert "to correct" in text
    assert "corrected 1" not in text


@pytest.mark.parametrize("number", [0, 1, 4, 24, 25, 200, 1_300])
def test_a_page_for_any_number_of_guests_is_well_formed(number: int) -> None:
    guests = [corrected(f"web{index}", before_ns=-(index**5)) for index in range(number)]
    checker = checked(page(host("hv1", *guests)))
    assert checker.count("tr") == number + 3 - (not number)  # two heads, the hypervisor


def test_a_fleet_without_hypervisors_is_told() -> None:
    assert "There was no guest to work on." in checked(page()).text


@pytest.mark.parametrize("tolerance_ns", [None, 0, 1, 10**9, 366 * 86400 * SECOND_NS])
@pytest.mark.parametrize("number", [2, 60])
def test_any_tolerance_can_be_drawn(number: int, tolerance_ns: int | None) -> None:
    guests = [corrected(f"web{index}", before_ns=index - 1) for index in range(number)]
    text = checked(page(host("hv1", *guests), tolerance_ns=tolerance_ns)).text
    assert ("tolerance ±" in text) == (tolerance_ns is not None)


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


def test_different_hints_stand_with_their_guests() -> None:
    source = bodies(page(host("hv1", failed("a", hint="First."), failed("b", hint="Second."))))
    assert source.index(">a<") < source.index("First.") < source.index(">b<") < source.index("Second.")


def test_many_failures_are_folded_and_none_is_lost() -> None:
    checker = checked(page(host("hv1", *(failed(f"web{number:03}") for number in range(100)))))
    assert checker.count("details") == 1
    assert "and 88 more" in checker.text
    assert all(f"web{number:03}" in checker.text for number in range(100))


@pytest.mark.parametrize(
    ("guests", "sentence"),
    [
        ([corrected("a")], "The guest is within tolerance."),
        ([corrected("a"), unchanged("b")], "All 2 guests are within tolerance."),
        ([corrected("a"), failed("b"), failed("c")], "2 of 3 guests failed."),
        ([corrected("a"), skipped("b")], "No guest failed, but 1 of 2 guests was skipped."),
        (
            [corrected("a", within_tolerance=None)],
            "No guest failed, but 1 of 1 guest is not known to be within tolerance.",
        ),
        (
            [corrected("a"), slewing("b"), slewing("c", within_tolerance=None)],
            "No guest failed, and 2 of 3 guests are being slewed into tolerance.",
        ),
        ([slewing("a"), failed("b")], "1 of 2 guests failed."),
        ([slewing("a"), skipped("b")], "No guest failed, but 1 of 2 guests was skipped."),
        (
            [slewing("a"), unchanged("b"), corrected("c", within_tolerance=False)],
            "No guest failed, but 1 of 3 guests is not known to be within tolerance.",
        ),
        ([{}], "1 of 1 guest failed."),
        ([unproven("a"), corrected("b")], "1 clock is not proven right."),
        ([unproven("a"), unproven("b"), failed("c")], "2 clocks are not proven right."),
    ],
)
def test_the_outcome_is_told_in_a_sentence(guests: list[Any], sentence: str) -> None:
    assert sentence in checked(page(host("hv1", *guests))).text


def test_a_hypervisor_that_was_lost_is_never_good_news() -> None:
    text = checked(page(host("hv1", corrected("a")), host("hv2", error={"code": "x"}))).text
    assert "1 of 2 hypervisors could not be worked on." in text
    assert "within tolerance." not in text


def test_figures_are_sorted_by_nanoseconds_and_missing_ones_have_none() -> None:
    cells = [
        attributes
        for tag, attributes in checked(page(host("hv1", corrected("a"), failed("b")))).elements
        if tag == "td" and "n" in attributes.get("class", "").split()
    ]
    assert "-20973581442" in [cell.get("data-n") for cell in cells]
    assert sum("data-n" not in cell for cell in cells) == 4  # what was not measured of b


# -------------------------------------------------------------------------------------------------- hostile guests


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("several", [1, 40])
def test_hostile_text_is_shown_as_text(text: str, several: int) -> None:
    guests = [corrected(text, uuid=text, method=text) for _index in range(several)]
    guests += [failed(text, text, text, text), skipped(text, text), corrected("web1", status=text)]
    error = {"code": text, "message": text, "hint": text}
    source = page(host(text, *guests), host(text, error=error), title=text, play=text, made_at=text)
    checker = checked(source)
    assert len(source) < 300_000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", source)
    if text.isprintable() and len(text) < 80:
        assert text in checker.words  # as a text, to the letter
    summary = text_summary([host(text, *guests), host(text, error=error)])
    assert all(line.isprintable() and len(line) < 400 for line in summary)
    assert totals([host(text, *guests)])["total"] == several + 3


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_values_of_a_wrong_type_are_shown_as_unknown(value: Any) -> None:
    broken = [{**corrected("web1"), key: value} for key in KEYS]
    missing = [{key: item for key, item in corrected("web1").items() if key != left_out} for left_out in KEYS]
    hypervisors = [
        host("hv1", *broken, *missing, dict.fromkeys(KEYS, value), value),
        {"host": value, "guests": value, "error": value},
        {"host": "hv2", "guests": [], "error": {"code": value, "message": value, "hint": value}},
        value,
        {},
    ]
    checked(page(*hypervisors))
    counts = totals(hypervisors)
    assert counts["total"] == sum(counts[status] or 0 for status in ("corrected", "unchanged", "skipped", "failed"))
    assert all(line.isprintable() for line in text_summary(hypervisors))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*HOSTILE.values()][:10]),
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
    assert all(line.isprintable() for line in text_summary(fleet))
    totals(fleet)


@pytest.mark.parametrize("results", [None, "hosts", {}, 5])
def test_what_is_no_list_is_refused(results: object) -> None:
    for report in (totals, text_summary):
        with pytest.raises(TypeError, match="a list with one dict per hypervisor"):
            report(results)
    with pytest.raises(TypeError, match="a list with one dict per hypervisor"):
        render(results, title="t", made_at=0, tolerance_ns=None, check_mode=False)


# ---------------------------------------------------------------------------------------------------- large fleets


def large_fleet(number: int) -> list[dict[str, Any]]:
    """One in ten failed, two were left alone, and three have the very same offsets."""

    def made(name: str, index: int) -> dict[str, Any]:
        match index % 10:
            case 0:
                return failed(name, message=f"no guest agent runs in domain {name} at qemu:///system")
            case 1 | 2:
                return unchanged(name, (index % 131 - 60) * 100_000)
            case 3 | 4 | 5:
                return corrected(name, before_ns=-20 * SECOND_NS, after_ns=1_000)
        return corrected(name, before_ns=-((index % 997) ** 4), after_ns=(index % 89 - 44) * 10_000)

    guests = [
        {**made(f"guest{index:05}", index), "uuid": f"1e1a6f0c-55d5-4f73-9a3b-2d1c6bd{index:05}"}
        for index in range(number)
    ]
    return [host(f"hv{index:03}.example.org", *guests[index::200]) for index in range(200)]


@pytest.mark.slow
def test_ten_thousand_guests_make_a_page_of_a_sane_size_in_seconds() -> None:
    fleet = large_fleet(10_000)
    begun = time.perf_counter()
    source = page(*fleet)
    assert time.perf_counter() - begun < 15
    assert len(source.encode()) < 8_000_000
    assert source == page(*fleet)
    assert checked(source).count("tr") > 10_000


@pytest.mark.slow
def test_ten_thousand_failures_make_a_page_of_a_sane_size() -> None:
    long = "no guest agent runs in this domain at qemu:///system, and the channel is not connected either, it seems"
    source = page(host("hv1", *(failed(f"web{number}", message=long) for number in range(10_000))))
    assert len(source.encode()) < 8_000_000


# ------------------------------------------------------------------------------------------------ totals and lines


def test_totals() -> None:
    fleet = [
        host("hv1", corrected("a", -5, 3), corrected("b", 4, -7), unchanged("c", -2)),
        host("hv2", failed("d"), skipped("e")),
        host("hv3", error={"code": "x", "message": "y", "hint": "z"}),
    ]
    assert totals(fleet) == {
        "hosts": 3,
        "total": 5,
        "corrected": 2,
        "unchanged": 1,
        "slewing": 0,
        "skipped": 1,
        "failed": 1,
        "largest_offset_before_ns": -5,
        "largest_offset_after_ns": -7,
    }
    assert totals([])["largest_offset_after_ns"] is None


def test_lines_for_the_terminal() -> None:
    fleet = [
        host("hv1", corrected("web1"), unchanged("db1")),
        host("hv-two", failed("mail1", "timeout", "no answer within 5 s"), skipped("old1")),
        host("hv3", error={"code": "code", "message": "message", "hint": "Check."}),
    ]
    expected = [
        "hypervisor  guests  corrected  unchanged  skipped  failed  largest before  largest after",
        "----------  ------  ---------  ---------  -------  ------  --------------  -------------",
        "hv1              2          1          1        0       0         -21.0 s       -48.2 µs",
        "hv-two           2          0          0        1       1               -              -",
        "hv3              0          0          0        0       0               -              -  code: message",
        "total            4          1          1        1       1         -21.0 s       -48.2 µs",
        "hv-two: mail1: timeout: no answer within 5 s",
    ]
    assert [line.replace("\u2013", "-") for line in text_summary(fleet)] == expected


def test_guests_that_are_being_slewed_have_a_column_of_their_own_where_there_are_any() -> None:
    fleet = [host("hv1", corrected("web1"), slewing("db1")), host("hv2", slewing("db2", -150_000_000))]
    assert [line.replace("\u2013", "-") for line in text_summary(fleet)] == [
        "hypervisor  guests  corrected  unchanged  slewing  skipped  failed  largest before  largest after",
        "----------  ------  ---------  ---------  -------  -------  ------  --------------  -------------",
        "hv1              2          1          0        1        0       0         -21.0 s        +200 ms",
        "hv2              1          0          0        1        0       0         -150 ms        -150 ms",
        "total            3          1          0        2        0       0         -21.0 s        +200 ms",
    ]
    assert totals(fleet)["slewing"] == 2


def test_guests_that_are_being_slewed_are_shown_as_such_and_not_as_wrong() -> None:
    shown = checked(page(host("hv1", corrected("web1"), slewing("db1"))))
    assert '<td class="s slewing">slewing</td>' in page(host("hv1", slewing("db1")))
    assert "<td>not yet</td>" in page(host("hv1", slewing("db1", within_tolerance=None)))
    assert not [each for _tag, each in shown.elements if "off" in each.get("class", "").split()]
    # A tile, a heading of the table, and an entry of the legend.
    assert ("li", {"class": "slewing", "title": "50 %"}) in shown.elements
    assert "Slewing" in shown.words
    assert "slewing 1" in shown.text


def test_without_such_guests_nothing_is_said_of_slewing_but_in_the_glossary() -> None:
    source = page(host("hv1", corrected("web1")))
    assert "Slewing" not in checked(source).words
    assert 'class="tiles more"' not in source
    assert 'class="tiles more"' in page(host("hv1", slewing("db1")))


def test_clocks_that_are_not_proven_right_are_counted_for_the_terminal() -> None:
    lines = text_summary([host("hv1", corrected("web1"), unproven("web2")), host("hv2", unproven("web3"))])
    assert lines[-3:] == [
        "hv1: web2: not_converged: the clock is not proven to be within 0.1 s",
        "hv2: web3: not_converged: the clock is not proven to be within 0.1 s",
        "2 clocks are not proven right.",
    ]


@pytest.mark.parametrize(
    ("guest", "cell"),
    [
        (corrected("a"), "<td>yes</td>"),
        (unproven("a"), '<td class="off">unproven</td>'),
        (corrected("a", within_tolerance=False), '<td class="off">no</td>'),
    ],
)
def test_the_table_says_whether_a_clock_is_within_tolerance(guest: dict[str, Any], cell: str) -> None:
    assert cell in page(host("hv1", guest))


def test_at_most_twenty_failures_are_listed() -> None:
    lines = text_summary([host("hv1", *(failed(f"web{number}") for number in range(25)))])
    assert lines[-2:] == ["hv1: web19: not_connected: no agent", "and 5 more"]
    assert len(lines) == 4 + 20 + 1


def test_names_of_wide_letters_stand_in_line() -> None:
    lines = text_summary([host("東京"), host("cafe\u0301"), host("hv1")])
    assert lines[2].startswith("東京        ")
    assert lines[3].startswith("cafe\u0301        ")
    assert lines[4].startswith("hv1         ")
