"""The role's variables, which are documented in three places."""

from __future__ import annotations

import re

import yaml

from tests.support.collection import ROOT

ROLE = ROOT / "roles/resync_on_resume"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())


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
