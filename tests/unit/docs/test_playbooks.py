"""The guide to the playbooks has all variables, with their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.docs.examples import GUIDES
from tests.support.collection import ROOT

PAGE = (GUIDES / "playbooks.rst").read_text(encoding="utf-8")
PLAYBOOKS = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "playbooks").rglob("*.yml")))
ROW = re.compile(r"^   \* - ``(qga_\w+)``\n     - (.*)\n     - \S", re.MULTILINE)
SPECS = {**qga_info.ARGUMENT_SPEC, **qga_update_time.ARGUMENT_SPEC}

# Those that the playbooks set themselves are read without a default.
VARIABLES = sorted(set(re.findall(r"\b(qga_\w+) \| default\(", PLAYBOOKS)))


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_each_playbook_has_a_section_in_the_guide_and_a_link_to_it(path: Path) -> None:
    assert f".. _ansible_collections.qemu.guest_agent.docsite.playbooks.{path.stem}:\n" in PAGE
    assert "blob/main/docs/docsite/rst/playbooks.rst" in path.read_text(encoding="utf-8").partition("\n- name:")[0]


def test_the_guide_has_every_variable_and_no_other() -> None:
    assert sorted({name for name, _default in ROW.findall(PAGE)}) == VARIABLES


@pytest.mark.parametrize("name", VARIABLES)
def test_the_defaults_of_variables_that_are_options_of_modules(name: str) -> None:
    option = SPECS.get(name.removeprefix("qga_"), {})
    in_playbooks = set(re.findall(rf"\b{name} \| default\((.*?)\)", PLAYBOOKS))
    if "default" in option and in_playbooks == {"omit"}:
        for default in (default for each, default in ROW.findall(PAGE) if each == name):
            assert yaml.safe_load(default.strip("`")) == option["default"]
