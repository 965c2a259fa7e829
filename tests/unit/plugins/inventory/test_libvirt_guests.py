"""What the plugin says of itself; what it does is seen in the processes of tests/integration/test_inventory.py."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.inventory.libvirt_guests import (
    DOCUMENTATION,
    EXAMPLES,
    InventoryModule,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.addresses import DEFAULT_INTERFACES, FAMILIES
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
    "compose",
    "groups",
    "keyed_groups",
    "strict",
    "cache",
    "cache_plugin",
    "cache_connection",
    "cache_timeout",
)


def test_it_has_the_name_by_which_it_is_called() -> None:
    assert yaml.safe_load(DOCUMENTATION)["name"] == "libvirt_guests"
    assert OPTIONS["plugin"]["choices"] == [InventoryModule.NAME]


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("states", STATES),
        ("hostnames", SPELLINGS),
        ("connection", CONNECTIONS),
        ("address_family", FAMILIES),
        ("group_by", KINDS),
    ],
)
def test_the_choices_are_those_that_the_code_has(option: str, known: Collection[str]) -> None:
    assert set(OPTIONS[option]["choices"]) == set(known)


def test_the_interfaces_that_it_refuses_by_default_are_those_that_the_code_spares_if_they_are_the_guests_own() -> None:
    assert tuple(DEFAULTS["address_interfaces"]) == DEFAULT_INTERFACES
    assert settings_of(DEFAULTS.__getitem__).address.spares_own
    changed = {**DEFAULTS, "address_interfaces": [*DEFAULT_INTERFACES, "!tun*"]}
    assert not settings_of(changed.__getitem__).address.spares_own


def test_a_filter_has_the_members_that_the_code_knows() -> None:
    assert set(OPTIONS["filters"]["suboptions"]) == set(FILTERS)


def test_the_defaults_are_taken_and_take_all_domains_in_whatever_state() -> None:
    settings = settings_of(DEFAULTS.__getitem__)
    assert settings.query.states == STATES
    assert settings.group_by == tuple(KINDS)


@pytest.mark.parametrize("example", list(yaml.safe_load_all(EXAMPLES)))
def test_the_examples_are_taken(example: dict[str, Any]) -> None:
    require_known(example, [*OPTIONS, *_OF_FRAGMENTS])
    settings_of({**DEFAULTS, **example}.__getitem__)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("libvirt_guests.yml", True),
        ("lab.libvirt_guests.yaml", True),
        ("libvirt_guests.json", False),
        ("hosts.yml", False),
    ],
)
def test_files_of_its_own_are_known_by_the_end_of_their_names(tmp_path: Path, name: str, is_one: bool) -> None:
    (tmp_path / name).write_text("plugin: qemu.guest_agent.libvirt_guests\n")
    assert InventoryModule().verify_file(str(tmp_path / name)) is is_one
    assert not InventoryModule().verify_file(str(tmp_path / "absent" / name))
