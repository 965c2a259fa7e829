"""The compiled SELinux module of the extended agent: it allows only what is intended.

It is not tested on a system with SELinux here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.role_package import ROOT

MODULE = ROOT / "roles/extended_agent/files/qemu-ga-extended.cil"
# A module uses types and classes that only a policy declares.
BASE = ROOT / "tests/support/selinux_base.cil"
UNCONFINED = "(type unconfined_service_t)\n"

AGENTS, SYSTEMD = "virt_qemu_ga_t", "init_t"
OF_STOCK = {
    (AGENTS, AGENTS, "unix_stream_socket", "accept getattr getopt read write"),
    (AGENTS, SYSTEMD, "unix_stream_socket", "accept getattr getopt read write"),
    (AGENTS, SYSTEMD, "fd", "use"),
}
OF_EXTENDED = {("unconfined_service_t", label, "unix_stream_socket", "connectto") for label in (AGENTS, SYSTEMD)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("secilc") and shutil.which("sesearch")), reason="needs the packages secilc and setools"
    ),
]


def compiled(directory: Path, *modules: str) -> subprocess.CompletedProcess[str]:
    """Compile these modules into a policy, in the file ``policy``."""
    (directory / "all.cil").write_text("".join(modules))
    places = [f"--output={directory / 'policy'}", f"--filecontext={directory / 'contexts'}", directory / "all.cil"]
    return subprocess.run(["secilc", *places], capture_output=True, text=True, check=False)


def searched(directory: Path, *kinds: str) -> list[str]:
    command = ["sesearch", *kinds, str(directory / "policy")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def allowed(directory: Path) -> set[tuple[str, ...]]:
    """Return every rule that allows something: the source, the target, the class and the permissions."""
    rules = set()
    for line in searched(directory, "--allow"):
        _allow, source, target, *permissions = line.rstrip(";").split()
        rules.add((source, *target.split(":"), " ".join(permissions).strip("{ }")))
    return rules


@pytest.mark.parametrize("has_unconfined", [True, False])
def test_it_allows_only_what_the_two_agents_need(tmp_path: Path, has_unconfined: bool) -> None:
    base = BASE.read_text() + (UNCONFINED if has_unconfined else "")
    done = compiled(tmp_path, base, MODULE.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert allowed(tmp_path) == OF_STOCK | (OF_EXTENDED if has_unconfined else set())
    assert searched(tmp_path, "--type_trans", "--auditallow", "--dontaudit", "--role_allow", "--range_trans") == []


@pytest.mark.parametrize("missing", [AGENTS, SYSTEMD])
def test_a_policy_that_does_not_confine_the_stock_agent_refuses_it(tmp_path: Path, missing: str) -> None:
    """Debian's policy is one. An installed module without effect would suggest that all is well."""
    base = BASE.read_text().replace(f"(type {missing})\n", "")
    done = compiled(tmp_path, base, MODULE.read_text())
    assert done.returncode != 0
    assert "Failed to resolve allow statement" in done.stderr
