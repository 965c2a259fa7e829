"""The plays of the README and of the guides work on a real guest."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.docs.examples import Kind, all_examples, kind_of, yaml_of
from tests.processes.ansible_run import PlaybookRun, run_playbook
from tests.support.collection import ROOT
from tests.vm.guest import Guest

BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
# Molecule tests the plays with roles.
README = {
    yaml.safe_load(block)[0]["name"]: block for block in BLOCKS if "hosts: hypervisors" in block and "tasks:" in block
}
GUIDES = {
    example.guide: example.text
    for example in all_examples()
    if example.language == "yaml" and kind_of(yaml_of(example)) is Kind.PLAYS
}
RESTORE, CLOCK = "Restore a guest and give it its time back", "Set its clock right"


def run(play: str, guest: Guest, directory: Path, *options: str) -> PlaybookRun:
    """Run a play with only the guest, its save file and the hypervisor replaced."""
    for given, ours in (
        ("domain: web1", f"domain: {guest.name}"),
        ('domains: ["*"]', f"domains: [{guest.name[:-1]}?]"),  # a machine may have guests of its own
        ("/var/lib/libvirt/save/web1.save", str(directory / "web1.save")),
        ("hosts: hypervisors", "hosts: localhost"),
    ):
        play = play.replace(given, ours)
    playbook = directory / "example.yml"
    playbook.write_text(play, encoding="utf-8")
    done = run_playbook(playbook, "-e", "ansible_become=false", *options)
    assert done.status == 0, done.output
    return done


def test_after_a_restore(guest: Guest, tmp_path: Path) -> None:
    assert len(README) == 4, "every play on a hypervisor is tried here"
    for play, task in ((README[RESTORE], CLOCK), (GUIDES["after_restore"], "Correct the clock")):
        guest.save(tmp_path / "web1.save")
        restored = run(play, guest, tmp_path)
        clock = restored.result(task)
        assert (clock["changed"], clock["guest"]["within_tolerance"]) == (True, True)
        if play == README[RESTORE]:
            assert re.search(r"-\d+\.\d+ s before, -?\d+\.\d+(e-\d+)? ms after", restored.output)
            (tmp_path / "web1.save").unlink()
    checked = run(README[RESTORE], guest, tmp_path, "--check")
    clock = checked.result(CLOCK)["guest"]
    assert clock["offset_after_ns"] is None
    assert f"{clock['offset_before_ns'] / 1_000_000} ms after" in checked.output


def test_facts_a_whole_fleet_and_settings_for_all_tasks(guest: Guest, tmp_path: Path) -> None:
    shown = run(README["Look at a guest"], guest, tmp_path).result("Show how far its clock is off")
    assert shown["web1.guest.time"]["uncertainty_ns"] > 0

    guest.witness.step(-3_000_000_000)
    fleet = run(README["Give all guests their time back"], guest, tmp_path)
    assert fleet.result("Show how many were wrong, and by how much")["fleet.summary"]["corrected"] == 1

    settings = run(README["Several guests, the same settings"], guest, tmp_path)
    assert settings.result("Set the clock right")["invocation"]["module_args"]["timeout"] == 10


def test_the_first_five_minutes(guest: Guest, tmp_path: Path) -> None:
    guest.witness.step(-20_000_000_000)
    first, second = (
        run(GUIDES["quickstart"], guest, tmp_path).result("Show the result")["clock.msg"] for _time in range(2)
    )
    assert re.search(r" was (19|20)\.\d{3} s behind; its clock is now right to ", first)
    assert " is right (" in second
