"""The commands in the guides: each program must accept its commands.

Commands are run so that they change nothing: with --syntax-check, with --list-hosts, on libvirt's test driver.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.examples import Check, Kind, commands_of, kind_of, of_language, to_check, yaml_of
from tests.fakes.fleet import Profile, SimulatedFleet
from tests.processes.ansible_run import CORES, run_playbook
from tests.processes.stock_agent import find_qemu_ga
from tests.support.collection import PACKAGE, ROOT, install
from tests.support.until import until

COMMANDS = [
    pytest.param(part.strip(), id=f"{example.guide}: {part.strip()}")
    for example in to_check(Check.COMMANDS, Check.SERVICE_LOG)
    for command in commands_of(example)
    for part in command.split(";")
]
YAML = of_language("yaml")
BEHIND_NS = -3_000_000_000


NAMES = {
    ("quickstart", Kind.PLAYS): "clock.yml",
    ("quickstart", Kind.INVENTORY): "hypervisors.yml",
    ("connection", Kind.INVENTORY): "inventory.yml",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files that the guides show, and return their directory."""
    directory = tmp_path_factory.mktemp("pasted")
    for example in YAML:
        name = NAMES.get((example.guide, kind_of(yaml_of(example))))
        if name is not None:
            (directory / name).write_text(example.text)
    (directory / "nodes.yml").write_text((directory / "hypervisors.yml").read_text())
    return directory


def run(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(install()), "ANSIBLE_NOCOLOR": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def of_ansible(program: str) -> str:
    return str(CORES["2.19"] / program)


def check_hosts(words: list[str], place: Path) -> None:
    assert "hosts (" in run([of_ansible("ansible"), "--list-hosts", *words[1:]], place)


def check_virsh(words: list[str], place: Path) -> None:
    """Run virsh on libvirt's test driver, as far as that supports the command."""
    domain = "test" if "web1" in words else ""
    words = [domain if word == "web1" else word for word in words[1:]]
    described = run(["virsh", "help", words[0]], place)
    for option in (word for word in words[1:] if word.startswith("--")):
        assert re.search(rf"\s\[?{option}\b", described), option
    if words[0] in ("list", "suspend", "metadata"):
        run(["virsh", "--connect", "test:///default", *words], place)


def check_options(help_of: list[str]) -> Callable[[list[str], Path], None]:
    def check(words: list[str], place: Path) -> None:
        described = run([*help_of, "--help"], place, {"SYSTEMD_PAGER": "", "COLUMNS": "200"})
        for option in (word for word in words[1:] if re.fullmatch(r"-{1,2}[a-z]\S*", word)):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", described), option

    return check


def check_rulebook(words: list[str], place: Path) -> None:
    check_options([of_ansible("ansible-rulebook")])(words, place)
    name = words[words.index("--rulebook") + 1].rpartition(".")[2]
    assert (install() / PACKAGE / "extensions" / "eda" / "rulebooks" / f"{name}.yml").exists()


def check_galaxy(words: list[str], place: Path) -> None:
    run([of_ansible("ansible-galaxy"), *words[1:3], "--help"], place)
    if words[2] == "install":
        assert words[3] == "git+" + yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["repository"]


def check_qemu(words: list[str], place: Path) -> None:
    """Start a machine with these options, paused, and wait for its socket."""
    words = [word.replace("/run/vm/", f"{place}/") for word in words]
    with subprocess.Popen(
        [*words, "-S", "-display", "none", "-nodefaults"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as machine:
        try:
            until(lambda: (place / "web1.qga").is_socket() or machine.poll() is not None, "no socket was created")
            assert machine.poll() is None, machine.stderr and machine.stderr.read()
        finally:
            machine.terminate()


CHECKS: Mapping[str, Callable[[list[str], Path], object]] = {
    "ansible": check_hosts,
    "ansible-galaxy": check_galaxy,
    "ansible-inventory": check_options([of_ansible("ansible-inventory")]),
    "ansible-playbook": lambda words, place: run([of_ansible(words[0]), "--syntax-check", *words[1:]], place),
    "ansible-rulebook": check_rulebook,
    "journalctl": check_options(["journalctl"]),
    "qemu-system-x86_64": check_qemu,
    "sleep": check_options(["sleep"]),
    "virsh": check_virsh,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_accepted_by_its_program(command: str, place: Path) -> None:
    words = shlex.split(command)
    CHECKS[words[0]](words, place)


def test_ansible_accepts_all_playbooks_and_tasks(tmp_path: Path) -> None:
    """One run checks all, because each run takes a second. Errors name the playbook."""
    names = []
    for number, example in enumerate(YAML):
        text, kind = example.text, kind_of(yaml_of(example))
        if kind is Kind.TASKS:
            text = "- hosts: all\n  tasks:\n" + "".join(f"    {line}\n" for line in text.splitlines())
        if kind in (Kind.TASKS, Kind.PLAYS):
            names.append(f"{number}-{example.guide}.yml")
            (tmp_path / names[-1]).write_text(text)
    output = run([of_ansible("ansible-playbook"), "-i", "localhost,", "--syntax-check", *names], tmp_path)
    assert all(f"playbook: {name}" in output for name in names)


def test_the_agent_reads_the_configuration(tmp_path: Path) -> None:
    (example,) = to_check(Check.AGENT_CONFIGURATION)
    file = tmp_path / "qemu-ga.conf"
    file.write_text(example.text)
    output = run([find_qemu_ga(), "--dump-conf"], tmp_path, {"QGA_CONF": str(file)})
    (blocked,) = re.findall(r"^block-rpcs=(.*)$", example.text, re.MULTILINE)
    (read,) = re.findall(r"^block-rpcs=(.*)$", output, re.MULTILINE)
    assert set(read.split(",")) == set(blocked.split(","))


# ------------------------------------------------------------------------------------------ playbooks that can run here


def yaml_with(guide: str, words: str) -> Any:
    (example,) = (example for example in YAML if example.guide == guide and words in example.text)
    return yaml_of(example)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SimulatedFleet]:
    profiles = {name: Profile(offset_ns=BEHIND_NS) for name in ("web1", "101", "db1")}
    with SimulatedFleet(tmp_path / "sockets", profiles) as running:
        yield running


def played(path: Path, tasks: list[Any], replaced: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run the tasks with paths of this machine in place of the guide's, and return the results by task name."""
    text = json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}])
    for theirs, ours in replaced.items():
        text = text.replace(theirs, ours)
    playbook = path / "example.yml"
    playbook.write_text(text)
    run = run_playbook(playbook, "-e", "ansible_become=false", *arguments)
    assert run.status == 0, run.output
    return {record.task: record.result for record in run.tasks}


def test_the_quickstart_playbook_corrects_a_guest(fleet: SimulatedFleet, tmp_path: Path) -> None:
    (play,) = yaml_with("quickstart", "Correct the clock of a guest")
    tasks, ours = play["tasks"], {'"domain": "web1"': f'"socket": "{fleet.path("web1")}"'}
    checked, first, second = (
        played(tmp_path, tasks, ours, *arguments)["Show the result"]["clock.msg"]
        for arguments in (("--check",), (), ())
    )
    assert re.search(r" is (2\.9\d\d|3\.0\d\d) s behind; its clock would be stepped$", checked)
    assert re.search(r" was (2\.9\d\d|3\.0\d\d) s behind; its clock is now right to [+-].*s ±.*s$", first)
    assert re.search(r" is right \([+-].*s ±.*s\)$", second)


def test_the_proxmox_playbook_corrects_all_guests_but_one(fleet: SimulatedFleet, tmp_path: Path) -> None:
    (play,) = yaml_with("without_libvirt", "Correct the clocks of all guests of all nodes")
    ours = {"/var/run/qemu-server/*.qga": str(Path(fleet.path("web1")).with_name("*.qga"))}
    results = played(tmp_path, play["tasks"], ours)
    shown = results["Show the result by guest"]["msg"]
    assert {Path(name).stem: status for name, status in shown.items()} == {"web1": "corrected", "db1": "corrected"}
    assert [name for name, offset in fleet.truths().items() if abs(offset) > 10**9] == ["101"]


def test_exclusions_leave_out_two_guests(fleet: SimulatedFleet, tmp_path: Path) -> None:
    tasks = yaml_with("without_libvirt", "- name: Correct all clocks except two")[:1]
    ours = {"/run/vm": str(Path(fleet.path("web1")).parent), "router.qga": "101.qga"}
    guests = played(tmp_path, tasks, ours)["Correct all clocks except two"]["guests"]
    assert [Path(guest["name"]).name for guest in guests] == ["web1.qga"]


def test_the_fleet_playbook_lists_guests_that_failed(fleet: SimulatedFleet, tmp_path: Path) -> None:
    tasks = yaml_with("fleets", "Correct all clocks and continue if some fail")
    sockets = [fleet.path("web1"), str(tmp_path / "gone.qga")]
    tasks[0]["qemu.guest_agent.qga_update_time"] = {"sockets": sockets, "fail_on": "none"}
    shown = played(tmp_path, tasks, {})["List the guests that failed"]["msg"]
    assert [error["code"] for error in shown.values()] == ["not_found"]
