"""Every example of the guides is known, and every one in YAML fits what it is for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.doc_fragments import constructed, inventory_cache
from ansible_collections.qemu.guest_agent.plugins.connection import qga
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import require_known, settings_of

from tests.docs.examples import (
    IMPORT,
    TABLE,
    Example,
    Kind,
    all_examples,
    check_of,
    kind_of,
    of_language,
    read,
    tasks_of,
    yaml_of,
)
from tests.support.collection import ROOT
from tests.support.inventory_defaults import DEFAULTS, OPTIONS

COLLECTION = "qemu.guest_agent."
SPECS = {f"{COLLECTION}qga_info": qga_info.ARGUMENT_SPEC, f"{COLLECTION}qga_update_time": qga_update_time.ARGUMENT_SPEC}
YAML = of_language("yaml")
KEYWORDS = {
    *("become", "become_user", "check_mode", "delay", "delegate_to", "failed_when", "loop", "name", "register"),
    *("retries", "until", "vars", "when"),
}
# What every inventory plugin of this kind takes.
OF_ANSIBLE = {
    name: option
    for fragment in (constructed, inventory_cache)
    for name, option in yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"].items()
}
CONNECTION_VARIABLES = {
    variable["name"]
    for option in yaml.safe_load(qga.DOCUMENTATION)["options"].values()
    for variable in option.get("vars", ())
}


def of_kind(kind: Kind) -> list[Any]:
    return [pytest.param(example, id=example.name) for example in YAML if kind_of(yaml_of(example)) is kind]


def test_each_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(example.name for example in all_examples()).items() if count > 1] == []


def test_each_that_is_not_yaml_is_tested_and_the_table_has_no_others() -> None:
    others = [example for example in all_examples() if example.language != "yaml"]
    assert [example.name for example in others if check_of(example) is None] == []
    assert set(TABLE) <= {example.name for example in others}


def test_each_in_yaml_has_a_shape_that_is_tested_here() -> None:
    assert [example.name for example in YAML if kind_of(yaml_of(example)) is None] == []


def test_no_example_hides_from_the_reader_of_examples() -> None:
    for guide in (ROOT / "docs" / "docsite" / "rst").glob("*.rst"):
        text = guide.read_text(encoding="utf-8")
        assert text.count("code-block::") == len(list(read(guide))), guide.name
        assert "\n::\n" not in text, f"{guide.name}: give it a language"
        assert "::\n\n  " not in text.replace(":\n\n   - ", ""), f"{guide.name}: give it a language"


@pytest.mark.parametrize("example", [*of_kind(Kind.TASKS), *of_kind(Kind.PLAYS)])
def test_each_task_names_one_module_in_full_and_gives_it_options_that_it_takes(example: Example) -> None:
    for task in tasks_of(example):
        (name,) = task.keys() - KEYWORDS
        assert name.startswith((COLLECTION, "ansible.builtin.")), name
        if name in SPECS:
            checked = ArgumentSpecValidator(SPECS[name]).validate(task[name] or {})
            assert checked.error_messages == []


@pytest.mark.parametrize("example", of_kind(Kind.PLAYS))
def test_each_role_is_one_of_ours_and_takes_the_variables(example: Example) -> None:
    for play in yaml_of(example):
        for role in play.get("roles", ()):
            name = role if isinstance(role, str) else role["role"]
            specs = ROOT / "roles" / name.removeprefix(COLLECTION) / "meta" / "argument_specs.yml"
            options = yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
            assert set({} if isinstance(role, str) else role.get("vars", {})) <= set(options)


@pytest.mark.parametrize("example", of_kind(Kind.PLAYS))
def test_each_imported_playbook_is_one_of_ours(example: Example) -> None:
    for name in (play[IMPORT] for play in yaml_of(example) if IMPORT in play):
        assert (ROOT / "playbooks" / f"{name.removeprefix(COLLECTION)}.yml").exists()


@pytest.mark.parametrize("example", [*of_kind(Kind.REQUIREMENTS), *of_kind(Kind.EXECUTION_ENVIRONMENT)])
def test_the_collection_is_installed_from_its_repository(example: Example) -> None:
    value = yaml_of(example)
    galaxy = value["dependencies"]["galaxy"] if "dependencies" in value else value
    repository = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["repository"]
    assert galaxy["collections"] == [{"name": repository, "type": "git"}]


@pytest.mark.parametrize("example", of_kind(Kind.INVENTORY))
def test_each_inventory_uses_variables_that_the_connection_plugin_has(example: Example) -> None:
    for group in yaml_of(example).values():
        for variables in (group.get("vars") or {}, *(host or {} for host in group["hosts"].values())):
            ours = {name for name in variables if name.startswith("ansible_qga_")}
            assert ours <= CONNECTION_VARIABLES
            assert variables.get("ansible_connection", "local") in ("local", f"{COLLECTION}qga")


@pytest.mark.parametrize("example", of_kind(Kind.SOURCE))
def test_each_source_of_an_inventory_has_options_that_the_plugin_takes(example: Example) -> None:
    given = yaml_of(example)
    require_known(given, {**OPTIONS, **OF_ANSIBLE})
    settings_of(lambda name: given.get(name, DEFAULTS.get(name)))
    of_choices = {name for name in given if "choices" in OPTIONS.get(name, ()) and OPTIONS[name]["type"] != "list"}
    assert {name for name in of_choices if given[name] not in OPTIONS[name]["choices"]} == set()
