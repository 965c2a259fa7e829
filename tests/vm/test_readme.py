"""The README's examples do what it says, on a real guest."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.processes.ansible_run import PlaybookRun, run_playbook
from tests.support.collection import ROOT
from tests.vm.guest import Guest

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Those of roles are tried by molecule.
PLAYS = [
    block
    for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    if "hosts: hypervisors" in block and "tasks:" in block
]


def run_example(title: str, guest: Guest, directory: Path, *options: str) -> PlaybookRun:
    """Run the play of that name; only the guest, its save file and the hypervisor take the place of the example's."""
    (text,) = (block for block in PLAYS if yaml.safe_load(block)[0]["name"] == title)
    text = text.replace("domain: web1", f"domain: {guest.name}")
    text = text.replace('domains: ["*"]', f"domains: [{guest.name[:-1]}?]")  # a machine may have guests of its own
    text = text.replace("/var/lib/libvirt/save/web1.save", str(directory / "web1.save"))
    playbook = directory / "example.yml"
    playbook.write_text(text.replace("hosts: hypervisors", "hosts: localhost"), encoding="utf-8")
    run = run_playbook(playbook, "-e", "ansible_become=false", *options)
    assert run.status == 0, run.output
    return run


def test_every_play_on_a_hypervisor_is_tried_here() -> None:
    assert len(PLAYS) == 4


def test_after_a_restore(guest: Guest, tmp_path: Path) -> None:
    guest.save(tmp_path / "web1.save")
    run = run_example("Restore a guest and give it its time back", guest, tmp_path)
    clock = run.result("Set its clock right")
    assert clock["changed"]
    assert clock["guest"]["within_tolerance"]
    assert re.search(r"-\d+\.\d+ s before, -?\d+\.\d+(e-\d+)? ms after", run.output)


def test_a_look_at_a_guest_that_is_awake(guest: Guest, tmp_path: Path) -> None:
    run = run_example("Restore a guest and give it its time back", guest, tmp_path, "--check")
    clock = run.result("Set its clock right")["guest"]
    assert clock["offset_after_ns"] is None
    assert f"{clock['offset_before_ns'] / 1_000_000} ms after" in run.output


def test_facts(guest: Guest, tmp_path: Path) -> None:
    shown = run_example("Look at a guest", guest, tmp_path).result("Show how far its clock is off")
    assert shown["web1.guest.time"]["uncertainty_ns"] > 0


def test_a_whole_fleet(guest: Guest, tmp_path: Path) -> None:
    guest.witness.step(-3_000_000_000)
    shown = run_example("Give all guests their time back", guest, tmp_path)
    assert shown.result("Show how many were wrong, and by how much")["fleet.summary"]["corrected"] == 1


def test_settings_for_all_tasks(guest: Guest, tmp_path: Path) -> None:
    run = run_example("Several guests, the same settings", guest, tmp_path)
    assert run.result("Set the clock right")["invocation"]["module_args"]["timeout"] == 10
