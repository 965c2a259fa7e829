from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.links import (
    CODES,
    TROUBLESHOOTING,
    troubleshooting,
)

from tests.support.collection import ROOT
from tests.support.fleet_results import HOSTILE

GUIDE = ROOT / "docs/docsite/rst/troubleshooting.rst"


def test_the_guide_has_a_section_on_every_code() -> None:
    sections = set(re.findall(r"^``(\w+)``\n-+$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    assert sections >= CODES
    # The others are codes of the connection plugin.
    assert {code for code in sections - CODES if "file" not in code and "output" not in code} == {
        *("exec_timeout", "result_lost", "no_place", "become_failed")
    }


def test_the_guide_is_beside_the_documentation_that_the_collection_names() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    root = galaxy["documentation"].rpartition("/")[0]
    assert f"{root}/{GUIDE.relative_to(ROOT)}" == TROUBLESHOOTING


@pytest.mark.parametrize("code", [*HOSTILE, "", "\u2013", "no_such_code", "not_running#x", "NOT_RUNNING"])
def test_other_text_has_no_link(code: str) -> None:
    assert troubleshooting(code) == ""


def test_a_link_leads_to_the_section() -> None:
    assert troubleshooting("not_running") == f"{TROUBLESHOOTING}#not-running"
