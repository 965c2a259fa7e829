"""The guides' plays that need a guest of libvirt do what they say, on a real one."""

from __future__ import annotations

from pathlib import Path

from tests.docs.examples import Kind, all_examples, kind_of, yaml_of
from tests.processes.ansible_run import PlaybookRun, run_playbook
from tests.vm.guest import Guest

SHOWN = "Show what was found and what was left"


def run_play(guide: str, guest: Guest, directory: Path) -> PlaybookRun:
    """The one play of that guide; only the guest, its save file and the hypervisor take the place of the example's."""
    (text,) = (
        example.text
        for example in all_examples()
        if example.guide == guide and example.language == "yaml" and kind_of(yaml_of(example)) is Kind.PLAYS
    )
    text = text.replace("domain: web1", f"domain: {guest.name}").replace("hosts: hypervisors", "hosts: localhost")
    text = text.replace("/var/lib/libvirt/save/web1.save", str(directory / "web1.save"))
    playbook = directory / "example.yml"
    playbook.write_text(text, encoding="utf-8")
    run = run_playbook(playbook, "-e", "ansible_become=false")
    assert run.status == 0, run.output
    return run


def test_a_restore(guest: Guest, tmp_path: Path) -> None:
    guest.save(tmp_path / "web1.save")
    clock = run_play("after_restore", guest, tmp_path).result("Set its clock right")
    assert clock["changed"]
    assert clock["guest"]["within_tolerance"]


def test_the_first_five_minutes(guest: Guest, tmp_path: Path) -> None:
    guest.witness.step(-20_000_000_000)
    first = run_play("quickstart", guest, tmp_path).result(SHOWN)["msg"]
    second = run_play("quickstart", guest, tmp_path).result(SHOWN)["msg"]
    assert [first[0], second[0]] == ["corrected", "unchanged"]
    assert first[1].startswith(("before: -20", "before: -19"))
