"""The SELinux module of the extended agent, compiled: it allows what is meant, and nothing else.

It is not tried here on a system that SELinux guards.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.role_package import ROOT

MODULE = ROOT / "roles/extended_agent/files/qemu-ga-extended.cil"
# A module by itself has types and classes that only a policy declares.
BASE = ROOT / "tests/support/selinux_base.cil"
UNCONFINED = "(type unconfined_service_t)\n"

OF_STOCK = {
    ("virt_qemu_ga_t", "virt_qemu_ga_t", "unix_stream_socket", "accept getattr getopt read write"),
    ("virt_qemu_ga_t", "init_t", "unix_stream_socket", "accept getattr getopt read write"),
    ("virt_qemu_ga_t", "init_t", "fd", "use"),
}
OF_EXTENDED = {
    ("unconfined_service_t", "virt_qemu_ga_t", "unix_stream_socket", "connectto"),
    ("unconfined_service_t", "init_t", "unix_stream_socket", "connectto"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("secilc") and shutil.which("sesearch")), reason="needs the packages secilc and setools"
    ),
]


def compiled(directory: Path, *modules: str) -> subprocess.CompletedProcess[str]:
    """A policy from these modules, in the file ``policy``."""
    paths = []
    for number, module in enumerate(modules):
        paths.append(directory / f"{number}.cil")
        paths[-1].write_text(module)
    return subprocess.run(
        ["secilc", f"--output={directory / 'policy'}", f"--filecontext={directory / 'contexts'}", *paths],
        capture_output=True,
        text=True,
        check=False,
    )


def searched(directory: Path, *kinds: str) -> list[str]:
    found = subprocess.run(
        ["sesearch", *kinds, str(directory / "policy")], capture_output=True, text=True, check=True
    ).stdout
    return found.splitlines()


def allowed(directory: Path) -> set[tuple[str, str, str, str]]:
    """Every rule that allows something: who, whose, which class, and what."""
    rules = set()
    for line in searched(directory, "--allow"):
        word, source, target, *what = line.rstrip(";").split()
        assert word == "allow"
        rules.add((source, *target.split(":"), " ".join(what).strip("{ }")))
    return rules


@pytest.mark.parametrize("has_unconfined", [True, False])
def test_it_allows_the_agents_what_they_need_of_each_other_and_nothing_else(
    tmp_path: Path, has_unconfined: bool
) -> None:
    base = BASE.read_text() + (UNCONFINED if has_unconfined else "")
    done = compiled(tmp_path, base, MODULE.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert allowed(tmp_path) == OF_STOCK | (OF_EXTENDED if has_unconfined else set())
    assert searched(tmp_path, "--type_trans", "--auditallow", "--dontaudit", "--role_allow", "--range_trans") == []


@pytest.mark.parametrize("missing", ["virt_qemu_ga_t", "init_t"])
def test_a_policy_that_does_not_confine_the_stock_agent_refuses_it(tmp_path: Path, missing: str) -> None:
    """Debian's policy is one. A module that is installed and without effect would say that all is well."""
    base = BASE.read_text().replace(f"(type {missing})\n", "")
    done = compiled(tmp_path, base, MODULE.read_text())
    assert done.returncode != 0
    assert "Failed to resolve allow statement" in done.stderr
