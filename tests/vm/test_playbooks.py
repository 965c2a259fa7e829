"""The playbooks with a real guest under libvirt, mainly restore_guest: only libvirt can restore."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.ansible_run import PlaybookRun, run_playbook_of_collection
from tests.support.correction import NEAR_NS, claims, entry_of
from tests.support.tiers import quick
from tests.vm.guest import Guest

SECOND_NS = 1_000_000_000
ASLEEP_S = 2.0
RESYNC, VERIFY = "Resync the clock", "Verify the clock"
HERE = ("-e", "qga_hosts=localhost")


def restore(domain: str, *variables: str, check: bool = False, inventory: str = "localhost,") -> PlaybookRun:
    named = ("qga_hosts=all", f"qga_domain={domain}", *variables)
    given = [argument for variable in named for argument in ("-e", variable)]
    return run_playbook_of_collection("restore_guest", *given, *(["--check"] if check else []), inventory=inventory)


@pytest.fixture
def awake(guest: Guest) -> Iterator[Guest]:
    """The guest, which is started again after the test if necessary."""
    yield guest
    if not guest.is_running:
        guest.start()
        guest.wait_for_agent()


# ------------------------------------------------------------------------------------------------------------ restoring


def keep(guest: Guest, way: str, directory: Path) -> str:
    """Save the guest in this way, and return the variable that restores it."""
    if way == "a file":
        return f"qga_save_file={guest.save(directory / 'web1.save')}"
    if way == "libvirt's":
        guest.managed_save()
        return "qga_managed_save=true"
    guest.snapshot("calm")
    return "qga_snapshot=calm"


@pytest.mark.parametrize("kept", quick(["a file", "libvirt's", "a snapshot"], ["a file"]))
def test_a_guest_is_restored_and_its_clock_verified(kept: str, awake: Guest, tmp_path: Path) -> None:
    awake_until = time.monotonic()
    source = keep(awake, kept, tmp_path)
    state = awake.state
    checked = restore(awake.name, source, check=True)
    assert checked.status == 0, checked.output
    assert f"'{awake.name}' would be restored from" in checked.output
    assert awake.state == state

    time.sleep(ASLEEP_S)
    run = restore(awake.name, source)
    slept_ns = (time.monotonic() - awake_until) * SECOND_NS
    assert run.status == 0, run.output
    if kept == "a snapshot":
        awake.delete_snapshot("calm")
    entry = run.result(RESYNC)["guest"]
    assert -slept_ns < entry["offset_before_ns"] < -ASLEEP_S * SECOND_NS
    truth = awake.witness.offset()
    assert abs(truth.offset_ns) < NEAR_NS
    assert claims(entry, "after", truth)
    figures = r"was [\d.]+ s behind; its clock is now right to [+-][\d.]+ \w+ ±[\d.]+ \w+"
    assert re.fullmatch(f"{awake.name} {figures}", run.result(VERIFY)["msg"])


def test_a_guest_that_was_saved_while_paused_runs_afterwards(awake: Guest) -> None:
    awake.suspend()
    awake.managed_save()
    run = restore(awake.name, "qga_managed_save=true")
    assert run.status == 0, run.output
    assert awake.is_running
    assert abs(awake.witness.offset().offset_ns) < NEAR_NS


def test_a_clock_that_is_left_off_fails_the_run(awake: Guest) -> None:
    awake.managed_save()
    # A guest that is ahead is left alone: the module succeeds, and the playbook fails.
    run = restore(awake.name, "qga_managed_save=true", "qga_backward=leave", "qga_utc_offset=-3600")
    assert run.status == 2
    assert re.search(
        r" is off by \+(1 h 00 min|59 min \d\d s) .* left alone, but the tolerance is 0\.1 s\.$",
        run.result(VERIFY)["msg"],
    )
    entry_of(awake)


# --------------------------------------------------------------------------------------------------------------- errors


def assert_fails(run: PlaybookRun, words: str) -> None:
    assert run.status == 2, run.output
    (line,) = (line for line in run.output.splitlines() if line.startswith("fatal:"))
    assert words in line
    assert "Traceback" not in run.output
    assert "changed=0" in run.output


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ("", "Set one of qga_save_file, qga_managed_save and qga_snapshot"),
        ("qga_snapshot=calm qga_managed_save=true", "Set only one of qga_managed_save and qga_snapshot"),
        ("qga_managed_save=true", "is running: its disk has changed since"),
        ("qga_save_file=/nonexistent/web1.save", "is running: its disk has changed since"),
        ("qga_snapshot=--current", "no domain snapshot with matching name '--current'."),
        ("qga_snapshot=calm qga_uri=qemu:///nonesuch", "unexpected qemu URI path"),
    ],
)
def test_a_restore_that_is_impossible_fails_with_a_sentence(guest: Guest, variables: str, words: str) -> None:
    assert_fails(restore(guest.name, *variables.split()), words)
    assert guest.state == "running"


def test_an_unknown_guest_and_several_hypervisors_are_errors(guest: Guest) -> None:
    assert_fails(restore("qga-nonesuch", "qga_managed_save=true"), "failed to get domain 'qga-nonesuch'")
    run = restore(guest.name, "qga_managed_save=true", inventory="hv1,hv2")
    assert_fails(run, f"More than one hypervisor given for '{guest.name}': 2 hosts. Pass -e qga_hosts=NAME.")
    assert guest.is_running


@pytest.mark.thorough
def test_a_file_of_another_guest_and_a_missing_file_are_errors(awake: Guest, tmp_path: Path) -> None:
    saved = awake.save(tmp_path / "web1.save")
    try:
        assert_fails(restore("qga-other", f"qga_save_file={saved}"), f"belongs to '{awake.name}', not to 'qga-other'.")
        missing = restore(awake.name, f"qga_save_file={tmp_path}/nonesuch.save")
        assert_fails(missing, "No such file or directory")
        none = restore(awake.name, "qga_managed_save=true")
        assert_fails(none, f"virsh cannot restore '{awake.name}' from its managed save")
    finally:
        awake.restore(saved)


# --------------------------------------------------------------------------------------------------------------- fleets


def test_a_fleet_of_domains(guest: Guest, tmp_path: Path) -> None:
    guest.witness.step(-3 * SECOND_NS)
    asked = ("-e", json.dumps({"qga_domains": [guest.name, "qga-nonesuch"]}))
    resync = run_playbook_of_collection("resync_fleet", *HERE, *asked, directory=tmp_path)
    assert resync.status == 2, resync.output
    assert "(item=the one guest)" in resync.output
    assert "Not found on any hypervisor that answered: 'qga-nonesuch'." in resync.output
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS
    report = (tmp_path / "resync_fleet.html").read_text(encoding="utf-8")
    assert guest.name in report
    assert "qga-nonesuch" in report

    gather = run_playbook_of_collection("gather_facts", *HERE, "-e", f"qga_domains={guest.name}", directory=tmp_path)
    assert gather.status == 0, gather.output
    (entry,) = json.loads((tmp_path / "guest_facts" / "localhost.json").read_text(encoding="utf-8"))["guests"]
    assert (entry["name"], entry["status"], entry["os"]["id"]) == (guest.name, "gathered", "debian")
