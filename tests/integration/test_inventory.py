"""The inventory plugin in ansible-inventory and ansible, with every supported ansible-core and a fake libvirt.

A run takes a second or two, so tests share some runs.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.domains import uuid_of
from tests.fakes.hypervisors import (
    HERE,
    THERE,
    in_the_field,
    lay_out,
    none_at_all,
    one_that_runs_programs,
    two_hypervisors,
)
from tests.fakes.kinds import FACTS
from tests.processes.ansible_run import CORES, NEWEST
from tests.processes.inventory_run import InventoryRun, configured, run_inventory, settings
from tests.support.tiers import quick

NOWHERE = "qemu+tls://nowhere/system"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=quick(CORES, [NEWEST]))
def core(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inventory(directory: Path, *arguments: str, core: str = NEWEST, **options: Any) -> InventoryRun:
    """Run an inventory of the two hypervisors, unless the options change that."""
    source = configured(directory, **{"uris": [HERE, THERE], "timeout": 1.0, **options})
    return run_inventory(source, lay_out(directory / "stand-in", two_hypervisors), *arguments, core=core)


def cached_in(directory: Path) -> dict[str, Any]:
    return {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(directory / "cache")}


@pytest.fixture(scope="module")
def run(core: str, tmp_path_factory: pytest.TempPathFactory) -> InventoryRun:
    """Run an inventory with composed variables, groups and filters."""
    return inventory(
        tmp_path_factory.mktemp("made"),
        core=core,
        uris=[HERE, THERE, NOWHERE],
        compose={"kernel": "qga_os.kernel_release", "twice": "qga_hostname ~ '-' ~ qga_hostname", "bad": "nosuch.x"},
        groups={"webs": "inventory_hostname is defined and qga_name.startswith('web')", "bad": "nosuch.x"},
        keyed_groups=[{"key": "qga_os.id", "prefix": "sys"}, {"key": "qga_name[:3]", "separator": ""}],
        leading_separator=False,
        filters=[{"exclude": "qga_name == 'resting'"}],
    )


class TestAnInventory:
    def test_every_domain_is_a_host_with_its_hypervisor_and_state(self, run: InventoryRun) -> None:
        hosts = run.hosts
        assert {name: (each["qga_state"], each["qga_agent_status"]) for name, each in hosts.items()} == {
            **dict.fromkeys((f"web1@{HERE}", f"web1@{THERE}", "web2", "lonely"), ("running", "ok")),
            "silent": ("running", "failed"),
            "agentless": ("running", "skipped"),
            "off": ("shutoff", "skipped"),
        }
        assert (hosts["web2"]["qga_uri"], hosts["web2"]["qga_uuid"]) == (HERE, uuid_of("web2"))
        assert {each["qga_local_uri"] for each in hosts.values()} == {HERE}
        assert hosts["web2"]["qga_hypervisor"] == "localhost"
        assert hosts[f"web1@{THERE}"]["qga_hypervisor"] == "hv2"
        assert {name: each["qga_error"]["code"] for name, each in hosts.items() if "qga_error" in each} == {
            "silent": "unresponsive",
            "agentless": "not_connected",
            "off": "not_running",
        }

    def test_facts_are_named_as_in_qga_info_and_a_reachable_address_is_chosen(self, run: InventoryRun) -> None:
        web2 = run.hosts["web2"]
        assert web2["qga_hostname"] == "web2.example"
        assert web2["qga_os"] == {"id": "fedora", "version_id": "41"}
        assert web2["qga_agent"] == {"version": "10.0.2", "kind": "stock", "command_count": len(FACTS)}
        assert web2["qga_network"][2]["name"] == "ens3"
        assert web2["ansible_host"] == web2["qga_address"] == "10.1.0.2"
        assert "ansible_connection" not in web2
        assert not {name for name in ("lonely", "silent", "off") if "ansible_host" in run.hosts[name]}

    def test_facts_make_groups_and_composed_groups(self, run: InventoryRun) -> None:
        assert run.group("qga_os_version_fedora_41") == {"web2"}
        assert run.group("qga_agent_stock") == run.group("qga_status_ok")
        assert run.group("qga_uri_qemu_tls___hv2_system") == {f"web1@{THERE}"}
        assert run.hosts["web2"]["twice"] == "web2.example-web2.example"
        assert run.hosts["lonely"]["kernel"].startswith("6.1")
        assert run.group("webs") == run.group("web") == {f"web1@{HERE}", f"web1@{THERE}", "web2"}
        assert run.group("sys_fedora") == {"web2"}
        assert not run.group("bad")
        assert not any("bad" in variables for variables in run.hosts.values())

    def test_warnings_are_sentences(self, run: InventoryRun) -> None:
        assert run.status == 0
        assert "1 of 8 guests returned no facts: silent (unresponsive)." in run.said
        assert f"The hostname 'web1' is not unique; the domain at {THERE} is named 'web1@{THERE}'" in run.said
        assert f"The guests of {NOWHERE} are missing: cannot connect" in run.said


class TestOptions:
    def test_cached_listings_give_the_same_addresses_and_groups(self, tmp_path: Path) -> None:
        source = configured(tmp_path, **cached_in(tmp_path))
        first = run_inventory(source, lay_out(tmp_path / "stand-in", in_the_field))
        assert {name: each["ansible_host"] for name, each in first.hosts.items() if name not in ("freebsd", "old")} == {
            "openshift": "192.168.126.11",
            "hyper-v": "192.168.126.12",
            "tunnel": "192.168.126.13",
            "passed-through": "192.168.126.14",
        }
        assert first.group("qga_os_freebsd") == first.group("qga_os_version_freebsd_13_1") == {"freebsd"}
        assert first.group("qga_os_linux") == {"old"}
        assert run_inventory(source, lay_out(tmp_path / "nobody", none_at_all)).hosts == first.hosts

    @pytest.mark.parametrize(
        ("name", "uri", "options"),
        [
            *(("web1", THERE, {"connection": connection}) for connection in ("ssh", "none", "qga")),
            ("my web", THERE, {"hostnames": "name"}),
            ("10.9.8.7", HERE, {"hostnames": "name"}),
            ("-web", "qemu+ssh://root@hv2:2222/system?keyfile=/k&no_verify=1", {"hostnames": "name"}),
            ("-web", "qemu+ssh://root@hv2:2222/system?keyfile=/k&no_verify=1", {"hostnames": "uuid"}),
        ],
        ids=["ssh", "none", "qga", "blanks", "another address", "a dash", "by uuid"],
    )
    def test_a_host_can_be_reached_through_its_agent_with_any_connection_option(
        self, core: str, tmp_path: Path, name: str, uri: str, options: dict[str, Any]
    ) -> None:
        source = configured(tmp_path, uris=[uri], compose={"ansible_host": "qga_address"}, **options)
        done = subprocess.run(
            [
                *(CORES[core] / "ansible", "-i", source, "-c", "qemu.guest_agent.qga"),
                *("all", "-m", "raw", "-a", "echo hi"),
            ],
            env={**os.environ, **settings(lay_out(tmp_path / "stand-in", one_that_runs_programs, name, uri))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "hi" in done.stdout.splitlines()

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"exlude": ["web1"]}, "There is no option 'exlude' [invalid_option]. Did you mean exclude?"),
            ({"timeout": 0}, "Timeout is 0.0 s [invalid_option]. Choose between 0.05 and 86400 s."),
            ({"address_family": ["ipv5"]}, "address_family"),  # Ansible checks choices by itself
            (
                {"strict_agents": True},
                "1 of 8 guests returned no facts: silent (unresponsive) [guests_failed].",
            ),
            (
                {"filters": [{"include": "qga_os.id == 'fedora'"}], "strict": True},
                "The filter \"qga_os.id == 'fedora'\" fails for ",
            ),
            (
                {"uris": [HERE, NOWHERE], "strict_hypervisors": True},
                f"Cannot connect to libvirt at {NOWHERE}: Failed to connect socket: Connection refused",
            ),
        ],
    )
    def test_an_error_is_a_sentence(self, core: str, tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
        run = inventory(tmp_path, core=core, **options)
        assert run.status != 0
        assert sentence in run.said
        assert "Traceback" not in run.said


def with_codes_of_errors(run: InventoryRun) -> dict[str, dict[str, Any]]:
    """Replace errors by their codes: the text depends on whether libvirt or the plugin times out first."""
    return {name: {**each, "qga_error": each.get("qga_error", {}).get("code")} for name, each in run.hosts.items()}


class TestCache:
    def test_hypervisors_are_not_asked_again(self, core: str, tmp_path: Path) -> None:
        def again(*arguments: str, **options: Any) -> InventoryRun:
            source = configured(tmp_path, uris=[HERE, THERE], timeout=1.0, **cached_in(tmp_path), **options)
            return run_inventory(source, lay_out(tmp_path / "nobody", none_at_all), *arguments, core=core)

        first = inventory(tmp_path, core=core, **cached_in(tmp_path))
        second = again()
        assert (second.status, second.hosts, second.said) == (0, first.hosts, first.said)
        # Variables are derived from it each time.
        assert again(prefix="vm_").hosts["web2"]["vm_hostname"] == "web2.example"
        # Another query, and a flushed cache, query the hypervisors again.
        assert again(domains=["web2"]).status != 0
        assert again("--list", "--flush-cache").status != 0

    def test_an_incomplete_listing_is_not_cached(self, core: str, tmp_path: Path) -> None:
        inventory(tmp_path, core=core, uris=[HERE, NOWHERE], **cached_in(tmp_path))
        assert not list((tmp_path / "cache").glob("*"))

    def test_a_cache_with_invalid_content_is_not_read(self, core: str, tmp_path: Path) -> None:
        first = inventory(tmp_path, core=core, **cached_in(tmp_path))
        (kept,) = (tmp_path / "cache").glob("*")
        kept.write_text(re.sub(r'"running"', '"{{ 6 * 7 }}"', kept.read_text()))
        again = inventory(tmp_path, core=core, **cached_in(tmp_path))
        assert (again.status, with_codes_of_errors(again)) == (0, with_codes_of_errors(first))
