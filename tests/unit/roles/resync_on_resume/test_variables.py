# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's variables, which are told in three places."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.collection import ROOT

ROLE = ROOT / "roles/resync_on_resume"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
FAMILY_FILES = sorted(path for path in (ROLE / "vars").glob("*.yml") if path.name != "main.yml")


def test_the_argument_specification_has_all_of_them_with_their_defaults() -> None:
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items()} == DEFAULTS


def test_the_readme_has_all_of_them_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(resync_on_resume_\w+)` \| `(.*?)` \|", (ROLE / "README.md").read_text(), re.MULTILINE)
    assert {name: yaml.safe_load(default) for name, default in rows} == DEFAULTS


def test_the_methods_are_those_of_the_module() -> None:
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    module = (ROOT / "plugins/modules/qga_update_time.py").read_text()
    documentation = yaml.safe_load(module.split('DOCUMENTATION = r"""')[1].split('"""')[0])
    assert options["resync_on_resume_method"]["choices"] == documentation["options"]["method"]["choices"]


@pytest.mark.parametrize("path", FAMILY_FILES, ids=lambda path: path.stem)
def test_every_family_has_all_names(path: Path) -> None:
    assert set(yaml.safe_load(path.read_text())) == {"resync_on_resume_python", "resync_on_resume_libvirt_package"}


def test_every_family_that_can_be_met_has_a_file() -> None:
    families = yaml.safe_load((ROLE / "vars/main.yml").read_text())["resync_on_resume_families"]
    assert {path.stem.split("-")[0] for path in FAMILY_FILES} == set(families.values())


def test_every_shared_file_is_there() -> None:
    shared = yaml.safe_load((ROLE / "vars/main.yml").read_text())["resync_on_resume_shared_files"]
    assert [name for name in shared if not (ROOT / "plugins/module_utils" / name).is_file()] == []
