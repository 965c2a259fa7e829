"""The units that the role makes, and what they say of each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes.printing_guest import PrintingGuest
from tests.support.collection import ROOT

DEBIAN = "uid=0\ninit=systemd\nfamilies=debian\nversion=12\nname=Debian\npython=full\n"
LIFE = ["IgnoreOnIsolate=True", "DefaultDependencies=no", "Conflicts=shutdown.target", "Before=shutdown.target"]
TEMPLATES = {"agent": "qemu-ga-extended.service", "socket": "qemu-ga-extended-stock.socket", "stock": "stock.conf"}
SOCKET = "qemu-ga-extended-stock.socket"
STOCK = "qemu-guest-agent.service"

Settings = dict[str, list[str]]


def rendered(directory: Path, **variables: Any) -> dict[str, Settings]:
    """Return each unit's settings, with their values in order."""
    paths = [ROOT / f"roles/extended_agent/templates/{name}.j2" for name in TEMPLATES.values()]
    show = ", ".join(f"lookup('ansible.builtin.template', '{path}')" for path in paths)
    guest = PrintingGuest(directory, {"os-release": DEBIAN})
    run = guest.run_role(
        "extended_agent", "-e", json.dumps(variables), tasks_from="requirements", show=f"{{'texts': [{show}]}}"
    )
    assert run.status == 0, run.output
    return {name: settings(text) for name, text in zip(TEMPLATES, run.result("Show")["msg"]["texts"], strict=True)}


def settings(text: str) -> Settings:
    found: Settings = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(name="plain", scope="module")
def _plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Settings]:
    return rendered(tmp_path_factory.mktemp("plain"))


@pytest.fixture(name="other", scope="module")
def _other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Settings]:
    directory = tmp_path_factory.mktemp("other")
    return rendered(
        directory, extended_agent_stock_life=LIFE, extended_agent_chosen_directory="/var/lib/qemu-ga-extended/lib"
    )


def test_the_socket_comes_and_goes_with_the_stock_agent(plain: dict[str, Settings]) -> None:
    assert plain["socket"]["PartOf"] == [STOCK]
    assert plain["stock"]["Requires"] == [SOCKET]
    assert SOCKET in plain["stock"]["After"]
    # Nothing of the extended agent's starts either of them.
    assert not {"Wants", "Requires", "Upholds"} & set(plain["agent"])
    assert not {"WantedBy", "RequiredBy"} & set(plain["socket"])


def test_systemd_counts_no_starts(plain: dict[str, Settings]) -> None:
    assert plain["agent"]["StartLimitIntervalSec"] == ["0"]
    assert "OnFailure" not in plain["agent"]
    # A count that fails must not keep the agent from its start.
    assert plain["agent"]["ExecStartPre"][0] == "-+/bin/sh /usr/lib/qemu-ga-extended/switch count"


def test_what_the_stock_unit_says_of_its_life_is_in_both_units(
    plain: dict[str, Settings], other: dict[str, Settings]
) -> None:
    for line in LIFE:
        name, _separator, value = line.partition("=")
        for unit in ("agent", "socket"):
            assert value in other[unit][name]
            assert value not in plain[unit].get(name, [])


def test_the_units_follow_the_agents_directory(other: dict[str, Settings]) -> None:
    assert other["agent"]["WorkingDirectory"] == ["/var/lib/qemu-ga-extended/lib"]
    assert other["agent"]["ExecStartPre"][0].endswith(" /var/lib/qemu-ga-extended/lib/switch count")
