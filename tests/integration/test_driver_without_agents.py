"""Hypervisors without guest agents in libvirt's driver, such as lxc:///, xen:/// and test:///default.

The last one is real: libvirt's test driver, with one running domain.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections

from tests.fakes.domains import Definition
from tests.fakes.libvirt import FakeHypervisor
from tests.fakes.libvirt_replies import LibvirtError, fails
from tests.hostile import worker
from tests.hostile.case import Case
from tests.processes.ansible_run import every_core
from tests.processes.inventory_run import configured, run_inventory
from tests.support.resync_service import ServiceProcess

REAL = "test:///default"
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"

# Less than the ten seconds of waiting for a daemon that restarts.
AT_ONCE_SECONDS = 5.0

# libvirt's error numbers for functions that a driver lacks.
CODES = {
    3: "this function is not supported by the connection driver: virDomainQemuAgentCommand",
    84: "Operation not supported: guest agents",
    29: "operation forbidden: guest agents",
    8: "invalid argument: no QEMU driver",
    9: "operation failed: no QEMU driver",
}

MODULES = ("qga_update_time", "qga_info")


def run(module: str, **options: Any) -> dict[str, Any]:
    began = time.monotonic()
    verdict = worker.run(Case(module, {"fail_on": "none", **options}))
    assert verdict.noise == ""
    assert verdict.result is not None
    assert time.monotonic() - began < AT_ONCE_SECONDS
    return verdict.result


def entries(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the status of each guest, and the code of its error or reason."""
    return {
        each["name"]: (each["status"], each.get("error", each.get("reason", {})).get("code"))
        for each in result["guests"]
    }


@pytest.mark.parametrize("module", MODULES)
class TestTheModules:
    @pytest.mark.parametrize("named", ["test", UUID])
    def test_one_guest_fails_with_not_configured_at_once(self, module: str, named: str) -> None:
        error = run(module, domain=named, uri=REAL, wait_timeout=60)["guest"]["error"]
        assert error["code"] == "not_configured"
        assert error["message"].startswith(f"libvirt's driver for {REAL} has no guest agents")
        assert "qemu:///system" in error["hint"]

    @pytest.mark.parametrize(
        ("options", "status"),
        [
            ({"domains": ["test"]}, "failed"),
            ({"domains": ["*"]}, "skipped"),
            ({"domains": ["test"], "skip_unusable": True}, "skipped"),
        ],
    )
    def test_one_of_many_guests_is_not_configured(self, module: str, options: dict[str, Any], status: str) -> None:
        assert entries(run(module, uri=REAL, **options)) == {"test": (status, "not_configured")}

    @pytest.mark.parametrize("code", CODES)
    def test_guests_are_not_configured_for_each_error_number(
        self, module: str, code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = FakeHypervisor(Definition(name, agent=fails(code, CODES[code])) for name in ("one", "two"))
        monkeypatch.setattr(connections, "import_libvirt", fake.modules)
        result = run(module, domains=["one", "t*"], uri="lxc:///")
        assert entries(result) == {"one": ("failed", "not_configured"), "two": ("skipped", "not_configured")}

    @pytest.mark.parametrize("code", [3, 84])
    def test_guests_without_metadata_are_not_configured(
        self, module: str, code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def metadata(*_arguments: object) -> str:
            raise LibvirtError(code, "this function is not supported by the connection driver: virDomainGetMetadata")

        fake = FakeHypervisor([Definition("one", agent=fails(code, CODES[code]))])
        monkeypatch.setattr("tests.fakes.domains.Domain.metadata", metadata)
        monkeypatch.setattr(connections, "import_libvirt", fake.modules)
        assert entries(run(module, domains=["*"], uri="vbox:///session")) == {"one": ("skipped", "not_configured")}


@every_core
def test_an_inventory_skips_matched_domains_and_reports_named_ones_as_failed(core: str, tmp_path: Path) -> None:
    for domains, status in ((["*"], "skipped"), (["test"], "failed")):
        source = configured(tmp_path / status, uris=[REAL], timeout=5.0, domains=domains)
        done = run_inventory(source, tmp_path, core=core)
        assert done.status == 0, done.said
        host = done.hosts["test"]
        assert (host["qga_state"], host["qga_agent_status"]) == ("running", status)
        assert host["qga_error"]["code"] == "not_configured"


def test_the_service_watches_it_and_logs_nothing_about_its_domains(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, f"[watch]\nuris = {REAL}\n") as service:
        (watching,) = service.wait_for("watching")
        assert watching.fields["running"] == "1"
        assert service.stop() == 0
        assert service.lines("resync") == service.lines("lost") == []
