from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.options import Settings, settings_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import SessionLimits


def settings(**changed: Any) -> Settings:
    given = {"remote_addr": "web1", "uri": "qemu:///system", "timeout": 10.0, "executable": "/bin/sh"}
    given |= {"exec_timeout": 3600, "reconnect_timeout": 20, "max_output": 64, "max_fetch": 1024, "module_cache": True}
    given |= {"guest_directories": ["/run", "/var/lib"], "become_success_timeout": 9}
    return settings_of({**dict.fromkeys(("domain", "socket", "address", "vsock")), **given, **changed})


def test_options_become_settings_and_sizes_are_in_mebibytes() -> None:
    made = settings()
    assert made.target.name == "web1"
    limits = SessionLimits(96 * 1024, 512 * 1024, output=64 << 20, exec_timeout=3600, patience=20, fetch=1 << 30)
    assert made[1:] == (10.0, "/bin/sh", ("/run", "/var/lib"), True, limits)


@pytest.mark.parametrize(
    ("option", "value"),
    [("domain", "5fc1e6ba"), ("socket", "/run/104.qga"), ("address", "[::1]:4444"), ("vsock", "3:1234")],
)
def test_a_target_option_replaces_the_hostname(option: str, value: str) -> None:
    made = settings(**{option: value})
    assert made.target.name == value
    # Requests through a virtio port are smaller.
    assert made.limits.request == (1024 if option == "vsock" else 96) * 1024


def test_zero_means_no_exec_timeout() -> None:
    limits = settings(exec_timeout=0, max_fetch=1048576).limits
    assert (limits.exec_timeout, limits.fetch) == (math.inf, 1 << 40)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two targets": ({"domain": "web1", "socket": "/run/104.qga"}, "domain, socket"),
    "no target": ({"remote_addr": None}, "no target given"),
    "an empty name": ({"domain": ""}, "domain is empty"),
    "no time": ({"timeout": 0.0}, "timeout is 0"),
    "no number": ({"timeout": math.nan}, "timeout is nan"),
    "time below zero": ({"exec_timeout": -1}, "exec_timeout is -1"),
    "patience below zero": ({"reconnect_timeout": -1}, "reconnect_timeout is -1"),
    "no output": ({"max_output": 0}, "max_output is 0"),
    "nothing to fetch": ({"max_fetch": 0}, "max_fetch is 0"),
    "more than any disk has": ({"max_fetch": 1048577}, "max_fetch is 1048577"),
    "no time for a password": ({"become_success_timeout": 0}, "become_success_timeout is 0"),
    "a shell on the path": ({"executable": "sh"}, "executable must be"),
    "no places": ({"guest_directories": []}, "guest_directories must be"),
    "a place that is not UTF-8": ({"guest_directories": ["/run", "/caf\udce9"]}, "not UTF-8"),
    "a relative place": ({"guest_directories": ["/run", "tmp"]}, "guest_directories must be"),
}


@pytest.mark.parametrize(("changed", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_options_are_rejected(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        settings(**changed)
