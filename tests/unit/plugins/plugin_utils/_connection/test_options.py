from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.options import Settings, settings_of

PARAMS: dict[str, Any] = {
    "remote_addr": "web1",
    "domain": None,
    "uri": "qemu:///system",
    "socket": None,
    "address": None,
    "vsock": None,
    "timeout": 10.0,
    "exec_timeout": 3600,
    "reconnect_timeout": 20,
    "max_output": 64,
    "max_fetch": 1024,
    "executable": "/bin/sh",
    "guest_directories": ["/run", "/var/lib"],
    "module_cache": True,
    "become_success_timeout": 10,
}


def settings(**changed: Any) -> Settings:
    return settings_of({**PARAMS, **changed})


def test_the_hosts_name_is_the_domains() -> None:
    assert settings().target.name == "web1"


@pytest.mark.parametrize(
    ("option", "value"),
    [("domain", "5fc1e6ba"), ("socket", "/run/104.qga"), ("address", "[::1]:4444"), ("vsock", "3:1234")],
)
def test_or_the_guest_is_named_in_another_way(option: str, value: str) -> None:
    assert settings(**{option: value}).target.name == value


def test_what_goes_through_a_virtio_port_is_cut_smaller() -> None:
    assert settings().limits.request < settings(vsock="3:1234").limits.request


def test_no_limit_is_no_limit() -> None:
    assert settings(exec_timeout=0).limits.exec_timeout == math.inf
    assert settings().limits.exec_timeout == 3600


def test_output_is_in_mebibytes() -> None:
    assert settings(max_output=1).limits.output == 1048576


def test_the_largest_fetch_is_in_mebibytes() -> None:
    assert settings(max_fetch=1).limits.fetch == 1048576
    assert settings(max_fetch=1048576).limits.fetch == 1 << 40


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two ways": ({"domain": "web1", "socket": "/run/104.qga"}, "domain, socket"),
    "no way": ({"remote_addr": None}, "no guest is named"),
    "an empty name": ({"domain": ""}, "domain is empty"),
    "no time": ({"timeout": 0.0}, "timeout is 0"),
    "no number": ({"timeout": math.nan}, "timeout is nan"),
    "time below zero": ({"exec_timeout": -1}, "exec_timeout is -1"),
    "patience below zero": ({"reconnect_timeout": -1}, "reconnect_timeout is -1"),
    "no output": ({"max_output": 0}, "max_output is 0"),
    "nothing to fetch": ({"max_fetch": 0}, "max_fetch is 0"),
    "more than any disk has": ({"max_fetch": 1048577}, "max_fetch is 1048577"),
    "no time for a password": ({"become_success_timeout": 0}, "become_success_timeout is 0"),
    "a shell on the path": ({"executable": "sh"}, "executable has to be"),
    "no places": ({"guest_directories": []}, "guest_directories has to be"),
    "a place that is not UTF-8": ({"guest_directories": ["/run", "/caf\udce9"]}, "not UTF-8"),
    "a relative place": ({"guest_directories": ["/run", "tmp"]}, "guest_directories has to be"),
}


@pytest.mark.parametrize(("changed", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOptionError, match=said):
        settings(**changed)
