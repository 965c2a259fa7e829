"""The plugin's documentation. The plugin itself runs in tests/integration/test_inventory.py."""

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
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.names import HOSTNAME_FORMS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import (
    CONNECTIONS,
    FILTERS,
    require_known,
    settings_of,
)

from tests.support.inventory_defaults import DEFAULTS, OPTIONS

_FRAGMENT_OPTIONS = (
    *("compose", "groups", "keyed_groups", "strict"),
    *("cache", "cache_plugin", "cache_connection", "cache_timeout"),
)


def test_the_documented_name_and_choices_match_the_code() -> None:
    assert yaml.safe_load(DOCUMENTATION)["name"] == "libvirt_guests"
    choices = {name: set(option["choices"]) for name, option in OPTIONS.items() if "choices" in option}
    assert choices == {
        "plugin": {InventoryModule.NAME},
        "states": set(STATES),
        "hostnames": set(HOSTNAME_FORMS),
        "connection": set(CONNECTIONS),
        "address_family": set(FAMILIES),
        "group_by": set(KINDS),
    }
    assert set(OPTIONS["filters"]["suboptions"]) == set(FILTERS)


def test_the_defaults_are_valid_and_include_domains_in_all_states() -> None:
    settings = settings_of(DEFAULTS.__getitem__)
    assert settings.query.states == STATES
    assert settings.group_by == tuple(KINDS)


def test_only_the_default_interfaces_allow_a_guests_own_devices() -> None:
    assert settings_of(DEFAULTS.__getitem__).address.spares_own
    changed = {**DEFAULTS, "address_interfaces": [*DEFAULT_INTERFACES, "!tun*"]}
    assert not settings_of(changed.__getitem__).address.spares_own


@pytest.mark.parametrize("example", list(yaml.safe_load_all(EXAMPLES)))
def test_the_examples_are_valid(example: dict[str, Any]) -> None:
    require_known(example, [*OPTIONS, *_FRAGMENT_OPTIONS])
    settings_of({**DEFAULTS, **example}.__getitem__)


def test_configuration_files_are_recognized_by_the_end_of_their_names(tmp_path: Path) -> None:
    names = ("libvirt_guests.yml", "lab.libvirt_guests.yaml", "libvirt_guests.json", "hosts.yml")
    for name in names:
        (tmp_path / name).write_text("plugin: qemu.guest_agent.libvirt_guests\n")
    paths = (*(tmp_path / name for name in names), tmp_path / "absent" / names[0])
    assert [InventoryModule().verify_file(str(path)) for path in paths] == [True, True, False, False, False]
