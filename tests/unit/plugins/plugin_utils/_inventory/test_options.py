from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import (
    Filter,
    Settings,
    require_known,
    settings_of,
)

from tests.support.inventory_defaults import DEFAULTS


def settings(**options: Any) -> Settings:
    return settings_of({**DEFAULTS, **options}.__getitem__)


def test_options_become_typed_values() -> None:
    made = settings(
        domains=["web*", 101],
        concurrency=5,
        filters=[{"include": "x"}, {"exclude": True}],
        hypervisors={"qemu:///system": "hv1"},
    )
    assert made.hypervisors == {"qemu:///system": "hv1"}
    assert made.query.wanted == ("web*", "101")
    assert made.query.concurrency == 5
    assert made.filters == (Filter(True, "x"), Filter(False, True))


def test_the_group_prefix_can_be_empty() -> None:
    assert settings(group_prefix="").group_prefix == ""


@pytest.mark.parametrize(
    "options",
    [
        *({"uris": []}, {"domains": []}, {"states": []}, {"address_family": []}),
        *({"uris": [""]}, {"domains": ["!"]}, {"exclude": ["a\0b"]}, {"domains": [None]}, {"uris": [{"a": 1}]}),
        *({"domains": [True]}, {"gather_subset": ["nosuch"]}, {"timeout": 0.0}, {"timeout": float("nan")}),
        *({"concurrency": 0}, {"concurrency": 100000}, {"address_networks": ["lan"]}),
        *({"prefix": ""}, {"prefix": "1x"}, {"prefix": "a-b"}, {"prefix": "ansible_"}, {"prefix": "Ansible"}),
        *({"prefix": "\u00e4_"}, {"group_prefix": "a b"}, {"group_prefix": "1"}),
        *({"filters": ["x"]}, {"filters": [{"take": "x"}]}, {"filters": [{"include": "x", "exclude": "y"}]}),
        *({"filters": [{"include": 5}]}, {"filters": [{}]}),
        *({"hypervisors": {"qemu:///nosuch": "hv1"}}, {"hypervisors": {"qemu:///system": None}}),
    ],
)
def test_an_invalid_value_is_an_error_with_a_hint(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        settings(**options)
    (name,) = options
    assert name in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint.endswith((".", "?"))


def test_an_unknown_option_is_an_error_that_suggests_a_similar_one() -> None:
    require_known(["plugin", "uris"], ["plugin", "uris", "domains"])
    with pytest.raises(InvalidOptionError, match="exlude") as caught:
        require_known(["exlude"], ["exclude", "uris"])
    assert caught.value.hint == "Did you mean exclude?"
    with pytest.raises(InvalidOptionError) as caught:
        require_known(["zzz"], ["exclude", "uris"])
    assert "ansible-doc" in caught.value.hint
