# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.filter import fleet_outcome, fleet_report, guest_facts

from tests.support.collection import ROOT

FILTERS: dict[str, Callable[..., Any]] = {
    name: function
    for plugin in (fleet_outcome, fleet_report, guest_facts)
    for name, function in plugin.FilterModule().filters().items()
}


def test_all_files_with_documentation_are_of_a_filter() -> None:
    assert {path.stem for path in Path(ROOT / "plugins/filter").glob("*.yml")} == set(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_documented(name: str) -> None:
    documentation = yaml.safe_load((ROOT / f"plugins/filter/{name}.yml").read_text(encoding="utf-8"))
    assert documentation["DOCUMENTATION"]["name"] == name
    code = FILTERS[name].__code__
    options = set(documentation["DOCUMENTATION"]["options"]) - {"_input"}
    assert options == set(code.co_varnames[1 : code.co_argcount])
    assert f"qemu.guest_agent.{name}" in json.dumps(yaml.safe_load(documentation["EXAMPLES"]))
    assert documentation["RETURN"]["_value"]["type"]
