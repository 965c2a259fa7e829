"""The plugin's documentation; its work is tested in the processes of tests/integration/test_inventory.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.inventory.libvirt_guests import (
    DOCUMENTATION,
    EXAMPLES,
    InventoryModule,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.addresses import DEFAULT_INTERFACES, FAMILIES
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.groups import KINDS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import STATES
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.names import SPELLINGS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import (
    CONNECTIONS,
    FILTERS,
    require_known,
    settings_of,
)

from tests.support.inventory_defaults import DEFAULTS, OPTIONS

_OF_FRAGMENTS = (
    *("compose", "groups", "keyed_groups", "strict"),
    *("cache", "cache_plugin", "cache_connection", "cache_timeout"),
)


def test_its_names_and_choices_are_those_of_the_code() -> None:
    assert yaml.safe_load(DOCUMENTATION)["name"] == "libvirt_guests"
    choices = {name: set(option["choices"]) for name, option in OPTIONS.items() if "choices" in option}
    assert choices == {
        "plugin": {InventoryModule.NAME},
        "states": set(STATES),
        "hostnames": set(SPELLINGS),
        "connection": set(CONNECTIONS),
        "address_family": set(FAMILIES),
        "group_by": set(KINDS),
    }
    assert set(OPTIONS["filters"]["suboptions"]) == set(FILTERS)


def test_the_defaults_are_taken_and_take_all_domains_in_whatever_state() -> None:
    settings = settings_of(DEFAULTS.__getitem__)
    assert settings.query.states == STATES
    assert settings.group_by == tuple(KINDS)


def test_the_default_interfaces_are_those_that_spare_the_guests_own() -> None:
    assert settings_of(DEFAULTS.__getitem__).address.spares_own
    changed = {**DEFAULTS, "address_interfaces": [*DEFAULT_INTERFACES, "!tun*"]}
    assert not settings_of(changed.__getitem__).address.spares_own


@pytest.mark.parametrize("example", list(yaml.safe_load_all(EXAMPLES)))
def test_the_examples_are_taken(example: dict[str, Any]) -> None:
    require_known(example, [*OPTIONS, *_OF_FRAGMENTS])
    settings_of({**DEFAULTS, **example}.__getitem__)


def test_files_of_its_own_are_known_by_the_end_of_their_names(tmp_path: Path) -> None:
    names = ("libvirt_guests.yml", "lab.libvirt_guests.yaml", "libvirt_guests.json", "hosts.yml")
    for name in names:
        (tmp_path / name).write_text("plugin: qemu.guest_agent.libvirt_guests\n")
    paths = (*(tmp_path / name for name in names), tmp_path / "absent" / names[0])
    assert [InventoryModule().verify_file(str(path)) for path in paths] == [True, True, False, False, False]
