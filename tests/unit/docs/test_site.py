"""The site's own pages, the check of its links, and the figure of the guide "measuring"."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import Interval
from ansible_collections.qemu.guest_agent.plugins.modules.qga_update_time import EXAMPLES

from tests.docs.examples import GUIDES
from tests.docs.figure import PICTURE, draw, intersections, load
from tests.docs.links import broken
from tests.support.collection import ROOT

INDEX = (ROOT / "tests" / "docs" / "site" / "index.rst").read_text(encoding="utf-8")
SECTIONS = yaml.safe_load((ROOT / "docs" / "docsite" / "extra-docs.yml").read_text(encoding="utf-8"))["sections"]


def test_the_front_page_has_the_sections_that_antsibull_docs_is_named() -> None:
    found = re.findall(r":caption: (.*)\n   :maxdepth: 1\n\n((?:   docsite/\w+\n)+)", INDEX)
    assert [(title, re.findall(r"docsite/(\w+)", pages)) for title, pages in found] == [
        (section["title"], section["toctree"]) for section in SECTIONS
    ]


def test_every_guide_is_in_a_section() -> None:
    listed = [name for section in SECTIONS for name in section["toctree"]]
    assert sorted(listed) == sorted(guide.stem for guide in GUIDES.glob("*.rst"))


def test_the_front_page_shows_an_example_of_the_module() -> None:
    shown = re.search(r"code-block:: yaml\n\n((?:   .*\n)+)", INDEX)
    assert shown is not None
    assert yaml.safe_load(shown[1])[0] in yaml.safe_load(EXAMPLES)


def site(directory: Path, **pages: str) -> Path:
    for name, text in pages.items():
        (directory / f"{name}.html").write_text(text)
    return directory


def test_links_to_pages_anchors_and_sources_that_are_there(tmp_path: Path) -> None:
    one = '<a href="two.html#here">x</a> <a href="https://elsewhere.example/">x</a> <a href="#top">x</a> <p id="top">'
    sources = (
        '<a id="here" href="https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/README.md#use-it">x</a>'
    )
    assert broken(site(tmp_path, one=one, two=sources), ROOT) == []


def test_links_that_lead_nowhere_are_named_with_their_page(tmp_path: Path) -> None:
    one = '<a href="three.html">x</a> <img src="no.svg"> <a href="two.html#there">x</a> <a href="#top">x</a>'
    two = '<a href="https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/nonesuch.md">x</a>'
    assert broken(site(tmp_path, one=one, two=two), ROOT) == [
        "one.html links to three.html: there is no such page",
        "one.html links to no.svg: there is no such page",
        "one.html links to two.html#there: the page has no such anchor",
        "one.html links to #top: the page has no such anchor",
        (
            "two.html links to https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/nonesuch.md: "
            "there is no such file"
        ),
    ]


# ------------------------------------------------------------------------------------------------------- the figure


def test_the_picture_is_that_of_the_recorded_data() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(load())


def test_the_truth_lies_in_every_interval() -> None:
    for each in load():
        assert each.low <= 0 <= each.high


def test_what_is_proven_together_never_gets_wider() -> None:
    agreed = intersections(load())
    for earlier, later in pairwise(agreed):
        assert earlier.low <= later.low <= later.high <= earlier.high


def test_the_figure_names_the_middle_and_half_the_width() -> None:
    last = Interval(*intersections(load())[-1])
    named = re.search(r"Result: (\S+) µs ±(\S+) µs", PICTURE.read_text(encoding="utf-8"))
    assert named is not None
    assert abs(float(named[1].replace("\u2212", "-")) * 1000 - last.middle) <= 51
    assert abs(float(named[2]) * 1000 - last.half_width) <= 51
