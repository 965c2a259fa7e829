"""The tasks of the role extended_agent for its SELinux module. No guest here has SELinux."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.processes.ansible_run import PlaybookRun, every_core
from tests.processes.printing_guest import PrintingGuest
from tests.support.collection import ROOT
from tests.support.role_run import DESCRIBE, VALIDATE, described
from tests.support.tiers import quick

MODULE = (ROOT / "roles/extended_agent/files/qemu-ga-extended.cil").read_text(encoding="utf-8")
OPTION = {"extended_agent_selinux_module": True}
TASK = "Install or remove the SELinux module"
# Runs the script of that task with a fake semodule, which stores what it installs.
SHELL = """#!/bin/sh
case $2 in
*is_installed*) PATH={programs}:$PATH exec /bin/sh -c "$2" ;;
true) exit 0 ;;
*) exit 1 ;;
esac
"""
SEMODULE = """#!/bin/sh
case $* in
"--list-modules=full") test ! -e {store}/module || echo "400 qemu-ga-extended cil" ;;
"-X 400 --cil -E qemu-ga-extended") cp {store}/module qemu-ga-extended.cil ;;
"-X 400 -i qemu-ga-extended.cil") {installs} ;;
"-X 400 -r qemu-ga-extended") rm {store}/module ;;
*) exit 64 ;;
esac
"""
REFUSAL = "Failed to resolve allow statement at /var/lib/selinux/x/tmp/modules/400/qemu-ga-extended/cil:11"


def named(run: PlaybookRun, task: str) -> list[Any]:
    return [record for record in run.tasks if record.task.rpartition(" : ")[2] == task]


def apply(directory: Path, wanted: bool, check: bool, core: str | None = None, installs: str = "") -> PlaybookRun:
    """Run that task as the role does, on a guest with semodule."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    store = shlex.quote(str(directory))
    semodule = programs / "semodule"
    semodule.write_text(SEMODULE.format(store=store, installs=installs or f"cp qemu-ga-extended.cil {store}/module"))
    semodule.chmod(0o755)
    guest = PrintingGuest(directory, {})
    guest.shell.write_text(SHELL.format(programs=shlex.quote(str(programs))), encoding="utf-8")
    variables = {"extended_agent_module_wanted": wanted, "qga_deployment_is_check": check}
    return guest.run_role("extended_agent", core=core, tasks_from="selinux", variables=variables)


@every_core
def test_the_module_is_installed_unchanged_and_removed(core: str, tmp_path: Path) -> None:
    (checked,) = named(apply(tmp_path, wanted=True, check=True, core=core), TASK)
    assert checked.result["changed"]
    assert not (tmp_path / "module").exists()
    for wanted in (True, False):
        for is_first in (True, False):
            run = apply(tmp_path, wanted, check=False, core=core)
            assert run.status == 0, run.output
            (done,) = named(run, TASK)
            assert done.result["changed"] is is_first
        assert (tmp_path / "module").exists() is wanted
        if wanted:
            assert (tmp_path / "module").read_text(encoding="utf-8") == MODULE


def test_a_policy_that_rejects_the_module_fails_the_role_with_the_reason(tmp_path: Path) -> None:
    run = apply(tmp_path, wanted=True, check=False, installs=f"echo '{REFUSAL}' >&2; exit 1")
    (failed,) = named(run, "Fail if the SELinux module was not changed")
    assert failed.outcome == "failed"
    sentence = "The SELinux module qemu-ga-extended could not be installed, and the agents were not switched: "
    assert failed.result["msg"] == sentence + REFUSAL


@every_core
@pytest.mark.parametrize("selinux", quick(["enabled", "managed", ""], ["enabled"]))
def test_without_semodule_the_option_is_refused(core: str, selinux: str, tmp_path: Path) -> None:
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(families="rhel", version="9", name="RHEL", selinux=selinux)})
    run = guest.run_role("extended_agent", core=core, tasks_from="requirements", variables=OPTION)
    refusals = named(run, VALIDATE["extended_agent"])
    assert [record.outcome for record in refusals] == (["failed"] if selinux == "enabled" else [])
    if selinux == "enabled":
        assert refusals[0].result["msg"] == (
            "SELinux is enabled in the guest, but semodule is missing, so the policy module cannot be installed. "
            "Install the package policycoreutils, or do not set extended_agent_selinux_module."
        )


@pytest.mark.parametrize(
    ("selinux", "variables", "wanted"),
    [
        ("managed", {"selinux_module": "yes"}, "yes"),
        ("managed", {"selinux_module": "no"}, "no"),
        ("managed", {"selinux_module": True, "state": "absent"}, "no"),
        ("", {"selinux_module": True}, None),
        pytest.param("", {"selinux_module": True, "state": "absent"}, None, marks=pytest.mark.thorough),
    ],
)
def test_the_module_is_installed_before_the_switch_or_removed_only_on_guests_with_selinux(
    selinux: str, variables: dict[str, Any], wanted: str | None, tmp_path: Path
) -> None:
    # The first key that matches counts.
    printed = {
        DESCRIBE: described(families="rhel", version="9", name="RHEL", selinux=selinux),
        "wanted=yes": "yes",
        "wanted=no": "no",
        "systemctl": "channel\nstock\npython\nwritable=/usr/lib/qemu-ga-extended\n",
    }
    guest = PrintingGuest(tmp_path, printed, runs_modules=True)
    given = {f"extended_agent_{name}": value for name, value in variables.items()}
    run = guest.run_role("extended_agent", "--check", variables=given)
    assert run.status == 0, run.output
    assert [record.result["stdout"] for record in named(run, TASK)] == ([wanted] if wanted else [])
    if wanted == "yes":
        names = [record.task.rpartition(" : ")[2] for record in run.tasks]
        assert names.index(TASK) < names.index("Report the pending switch")
