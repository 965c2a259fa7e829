"""The plays of the README and of the guides work on a real guest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.examples import Kind, all_examples, kind_of, yaml_of
from tests.processes.ansible_run import PlaybookRun, run_playbook
from tests.support.collection import ROOT
from tests.vm.guest import Guest

(README,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
GUIDES = {
    example.guide: example.text
    for example in all_examples()
    if example.language == "yaml" and kind_of(yaml_of(example)) is Kind.PLAYS
}


def run(play: str, guest: Guest, directory: Path, *options: str) -> PlaybookRun:
    """Run a play with only the guest, its save file and the hypervisor replaced."""
    for given, ours in (
        ("domain: web1", f"domain: {guest.name}"),
        ("/var/lib/libvirt/save/web1.save", str(directory / "web1.save")),
        ("hosts: hypervisors", "hosts: localhost"),
    ):
        play = play.replace(given, ours)
    playbook = directory / "example.yml"
    playbook.write_text(play, encoding="utf-8")
    done = run_playbook(playbook, "-e", "ansible_become=false", *options)
    assert done.status == 0, done.output
    return done


@pytest.mark.parametrize("play", [README, GUIDES["quickstart"]], ids=["README", "quick start"])
def test_the_first_play_corrects_the_clock_once(guest: Guest, tmp_path: Path, play: str) -> None:
    guest.witness.step(-20_000_000_000)
    first, second = (run(play, guest, tmp_path).result("Show the result")["clock.msg"] for _time in range(2))
    assert re.fullmatch(rf"{guest.name} was (19\.9|20\.)\d+ s behind; its clock is now right to \S+ .s ±\S+ .s", first)
    assert re.fullmatch(rf"{guest.name} is right \(\S+ .s ±\S+ .s\)", second)


def test_a_restored_guest_is_corrected(guest: Guest, tmp_path: Path) -> None:
    guest.save(tmp_path / "web1.save")
    clock = run(GUIDES["after_restore"], guest, tmp_path).result("Correct the clock")
    assert (clock["changed"], clock["guest"]["within_tolerance"]) == (True, True)
