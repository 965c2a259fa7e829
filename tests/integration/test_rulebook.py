"""The rulebooks, run by the real ansible-rulebook with real modules and playbooks, and a simulated hypervisor."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.fakes.agent import Agent
from tests.fakes.clock import SECOND_NS, Clock
from tests.fakes.domains import uuid_of
from tests.processes.ansible_run import PlaybookRun, every_core, run_playbook_of_collection
from tests.processes.remote_hypervisor import Hypervisor
from tests.processes.rulebook import DEADLINE_S, Rulebook
from tests.support.bait import baits
from tests.support.collection import ROOT
from tests.support.until import until as wait_until

SOURCE = ROOT / "extensions/eda/plugins/event_source/libvirt_guest.py"
URI = "qemu:///system"

# virDomainEventType and details of it, and virConnectDomainEventAgentLifecycleState.
STARTED, SUSPENDED, RESUMED = 2, 3, 4
UNPAUSED, RESTORED = 0, 2
CONNECTED, DISCONNECTED = 1, 2

NEAR_NS = 100_000_000  # the module's tolerance
OPTED_OUT = '<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "canaries").mkdir()
    return tmp_path


MakeRulebook = Callable[..., Rulebook]
RunByHand = Callable[..., PlaybookRun]


@pytest.fixture
def rulebook(directory: Path) -> MakeRulebook:
    """A rulebook in a process that imports the fake libvirt-python and prints its events."""

    def made(name: str | Path, *arguments: str, **settings: Any) -> Rulebook:
        environment = {"PYTHONPATH": f"{directory}:{ROOT}"}
        return Rulebook(name, directory, "--print-events", *arguments, environment=environment, **settings)

    return made


def until(condition: Callable[[], bool], running: Rulebook) -> None:
    wait_until(condition, lambda: running.output, DEADLINE_S)


def guest_off_by(offset_ns: int = -3 * SECOND_NS) -> Agent:
    return Agent(clock=Clock(offset_ns))


def is_right(guest: Agent) -> bool:
    return abs(guest.clock.offset_ns()) < NEAR_NS


def events_of(running: Rulebook, name: str) -> int:
    return running.output.count(f"'uuid': '{uuid_of(name)}'")


def resume(hypervisor: Hypervisor, name: str) -> None:
    hypervisor.fire("fire_lifecycle", name, SUSPENDED, 0)
    hypervisor.fire("fire_lifecycle", name, RESUMED, UNPAUSED)


def restore(hypervisor: Hypervisor, name: str) -> None:
    hypervisor.fire("fire_agent", name, DISCONNECTED)
    hypervisor.fire("fire_lifecycle", name, STARTED, RESTORED)
    hypervisor.fire("fire_lifecycle", name, RESUMED, UNPAUSED)
    hypervisor.fire("fire_agent", name, CONNECTED)


def no_traces_of(running: Rulebook, directory: Path) -> None:
    assert "Traceback" not in running.output
    assert list((directory / "canaries").iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- run_module


def test_each_resumption_is_corrected_once_whatever_the_guests_name(directory: Path, rulebook: MakeRulebook) -> None:
    texts = baits(directory / "canaries")
    guests = {name: guest_off_by() for name in ("web1", "[1, 2]", texts["expression"], texts["headerinoneline"])}
    not_mine = guest_off_by()
    with (
        Hypervisor(directory, {**guests, "not mine": not_mine}) as hypervisor,
        rulebook("qemu.guest_agent.resync_on_resume") as running,
    ):
        hypervisor.metadata["not mine"] = OPTED_OUT
        running.wait_for(f"{URI} is watched, running guests: {len(guests) + 1}")
        resume(hypervisor, "not mine")
        running.wait_for(f"domain '{uuid_of('not mine')}' at {URI} is opted out")
        running.wait_for("failed=1")
        for name in guests:
            restore(hypervisor, name)
        until(lambda: all(map(is_right, guests.values())), running)

        guests["web1"].clock.step(-5 * SECOND_NS)
        resume(hypervisor, "web1")
        until(lambda: is_right(guests["web1"]), running)
        assert [events_of(running, name) for name in guests] == [2, 1, 1, 1]
        assert not not_mine.asked("guest-set-time")
    no_traces_of(running, directory)


def test_the_rulebook_survives_a_lost_connection_and_misses_no_guest(directory: Path, rulebook: MakeRulebook) -> None:
    guests = {name: guest_off_by(0) for name in ("web1", "web2")}
    with (
        Hypervisor(directory, guests) as hypervisor,
        rulebook("qemu.guest_agent.resync_on_resume") as running,
    ):
        running.wait_for(f"{URI} is watched")
        hypervisor.stop_daemon()
        running.wait_for(f"{URI} is not watched: the connection to libvirt at {URI} was lost")
        for guest in guests.values():
            guest.clock.step(-5 * SECOND_NS)
        hypervisor.start_daemon()
        running.wait_for(f"{URI} is watched", times=2)
        until(lambda: all(map(is_right, guests.values())), running)
        assert [events_of(running, name) for name in guests] == [1, 1]
        assert running.output.count("'cause': 'watch_resumed'") == 2
    no_traces_of(running, directory)


@pytest.mark.thorough
def test_all_guests_are_resynced_at_the_start_on_request(directory: Path, rulebook: MakeRulebook) -> None:
    guests = {f"web{number}": guest_off_by() for number in range(3)}
    with (
        Hypervisor(directory, guests),
        rulebook("qemu.guest_agent.resync_on_resume", variables={"qga_look_at_start": True}) as running,
    ):
        until(lambda: all(map(is_right, guests.values())), running)
        running.wait_for("PLAY RECAP")
        assert running.output[: running.output.index("PLAY RECAP")].count("PLAY [wrapper]") > 1
        assert [events_of(running, name) for name in guests] == [1, 1, 1]
        assert running.output.count("'cause': 'watch_began'") == len(guests)
    no_traces_of(running, directory)


# -------------------------------------------------------------------------------------------------------- run_playbook

# The variables that a user's own tasks can use. Without the filter string, ansible-core before 2.19 parses the JSON.
KNOWN = {"content": "{{ [qga_event, qga_clock, qga_guest] | to_json | string }}", "dest": "{{ kept }}/KIND"}
AFTER = [
    {"name": "Keep what is known", "ansible.builtin.copy": {**KNOWN, "mode": "0600"}},
    {"name": "Show its name", "ansible.builtin.debug": {"msg": "KIND {{ qga_guest }}"}},
]


def tasks_file(path: Path) -> str:
    path.write_text(yaml.safe_dump(AFTER).replace("KIND", path.stem))
    return str(path)


def kept(directory: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    event, clock, guest = json.loads((directory / kind).read_text())
    return event, clock, guest


@pytest.mark.thorough
def test_own_tasks_run_after_a_resync_and_after_a_failed_one(directory: Path, rulebook: MakeRulebook) -> None:
    name = baits(directory / "canaries")["expression"]
    right, wrong = guest_off_by(), guest_off_by(10 * SECOND_NS)
    variables = {
        "kept": str(directory),
        "qga_tasks_after": tasks_file(directory / "after.yml"),
        "qga_tasks_after_failure": tasks_file(directory / "failure.yml"),
        "qga_wait_timeout": 0,
        # Large enough for a busy machine.
        "qga_backward": "leave",
        "qga_tolerance": 1,
    }
    with (
        Hypervisor(directory, {name: right, "wrong": wrong, "not mine": guest_off_by()}) as hypervisor,
        rulebook("qemu.guest_agent.resync_on_resume_playbook", playbook_variables=variables) as running,
    ):
        hypervisor.metadata["not mine"] = OPTED_OUT
        running.wait_for("is watched")
        resume(hypervisor, "wrong")
        running.wait_for("The clock of 'wrong' is not correct: wrong ")
        event, clock, shown = kept(directory, "failure")
        assert (event["domain"], shown, clock["guest"]["within_tolerance"]) == ("wrong", "wrong", False)

        # A guest that is opted out is not a failure, and no tasks run for it.
        (directory / "failure").unlink()
        resume(hypervisor, "not mine")
        running.wait_for("'not mine' is skipped: domain ")
        assert not (directory / "after").exists()
        restore(hypervisor, name)
        until((directory / "after").exists, running)
        assert is_right(right)
        event, clock, shown = kept(directory, "after")
        assert (event["uuid"], event["uri"], event["cause"]) == (uuid_of(name), URI, "restored")
        assert shown == event["domain"] == name.replace("{{", "\\x7b{")
        assert clock["guest"]["changed"]
        assert clock["guest"]["offset_before"] < -1
        assert "its clock is now right to" in running.output
        assert not (directory / "failure").exists()
        assert not wrong.asked("guest-set-time") + hypervisor.guests["not mine"].asked("guest-set-time")
    no_traces_of(running, directory)


# ---------------------------------------------------------------------------------- the playbook, on every ansible-core


@pytest.fixture
def by_hand(core: str, directory: Path) -> RunByHand:
    """Runs the playbook as a user who tries tasks by hand."""

    def run(**variables: Any) -> PlaybookRun:
        given = ("-e", json.dumps({"kept": str(directory), "qga_wait_timeout": 0, **variables}))
        environment = {"PYTHONPATH": f"{directory}:{ROOT}"}
        return run_playbook_of_collection("resync_resumed_guest", *given, core=core, environment=environment)

    return run


@every_core
class TestThePlaybook:
    def test_corrects_a_guest_and_runs_the_own_tasks(self, by_hand: RunByHand, directory: Path) -> None:
        name = baits(directory / "canaries")["expression"]
        event = {"domain": visible(name), "uuid": uuid_of(name), "uri": URI, "cause": "resumed"}
        after = tasks_file(directory / "after.yml")
        with Hypervisor(directory, {name: guest_off_by()}) as hypervisor:
            run = by_hand(ansible_eda={"event": {"libvirt_guest": event}}, qga_tasks_after=after)
            assert is_right(hypervisor.guests[name])
        assert run.status == 0, run.output
        found, clock, shown = kept(directory, "after")
        assert (found, shown) == (event, visible(name))
        assert clock["guest"]["status"] == "corrected"
        assert list((directory / "canaries").iterdir()) == []

    @pytest.mark.parametrize("is_down", [False, True])
    def test_skips_a_guest_that_is_gone_and_fails_after_the_own_tasks_for_other_errors(
        self, by_hand: RunByHand, directory: Path, is_down: bool
    ) -> None:
        after, failure = (tasks_file(directory / f"{kind}.yml") for kind in ("after", "failure"))
        with Hypervisor(directory, {}) as hypervisor:
            if is_down:
                hypervisor.stop_daemon()
            run = by_hand(qga_domain="web1", qga_tasks_after=after, qga_tasks_after_failure=failure)
        assert run.status == (2 if is_down else 0), run.output
        assert not (directory / "after").exists()
        assert (directory / "failure").exists() is is_down
        if is_down:
            said = "The clock of 'web1' is not correct: .*cannot connect to libvirt"
            assert re.search(said, run.output, re.IGNORECASE)
            _event, clock, shown = kept(directory, "failure")
            assert (clock["guest"]["error"]["code"], shown) == ("hypervisor_unavailable", "web1")
        else:
            message = run.result("Report why the guest is skipped")["msg"]
            assert message.startswith("'web1' is skipped: there is no domain")

    @pytest.mark.parametrize(
        ("variables", "sentence"),
        [
            ({}, "No guest given, neither by an event nor by -e qga_domain=NAME."),
            (
                {"qga_tasks_after": "after.yml"},
                "There is no task file 'after.yml' on the controller; give its absolute",
            ),
            ({"qga_tasks_after_failure": "/nonexistent/a"}, "There is no task file '/nonexistent/a' on the"),
        ],
    )
    def test_fails_with_invalid_variables(
        self, by_hand: RunByHand, variables: Mapping[str, str], sentence: str
    ) -> None:
        run = by_hand(**variables, **({"qga_domain": "web1"} if variables else {}))
        assert run.status == 2
        assert run.result("Validate variables")["msg"].startswith(sentence)


# -------------------------------------------------------------------------------------------------------------- errors


def test_an_invalid_argument_stops_the_rulebook_with_a_sentence(directory: Path, rulebook: MakeRulebook) -> None:
    with rulebook("qemu.guest_agent.resync_on_resume", variables={"qga_causes": ["paused"]}) as running:
        assert running.wait() == 1
    assert "Unknown cause 'paused' of libvirt_guest; expected one of resumed, restored," in running.output
    no_traces_of(running, directory)


# -------------------------------------------------------------------------------------------------- the file, directly


@pytest.mark.thorough
def test_the_source_works_from_a_directory_of_sources(directory: Path, rulebook: MakeRulebook) -> None:
    (directory / "sources").mkdir()
    shutil.copy(SOURCE, directory / "sources")
    own = directory / "own.yml"
    action = {"debug": {"msg": "{{ event.libvirt_guest.domain }} woke up"}}
    rule = {"name": "r", "condition": 'event.libvirt_guest.cause == "restored"', "action": action}
    own.write_text(
        yaml.safe_dump([{"name": "own", "hosts": "all", "sources": [{"libvirt_guest": None}], "rules": [rule]}])
    )
    with (
        Hypervisor(directory, {"web1": guest_off_by()}) as hypervisor,
        rulebook(own, "-S", str(directory / "sources")) as running,
    ):
        running.wait_for("is watched")
        restore(hypervisor, "web1")
        running.wait_for("^web1 woke up|msg.*web1 woke up")
        assert re.search(r"'type': 'libvirt_guest'", running.output)


def test_the_source_prints_its_events_if_it_is_run_directly(directory: Path) -> None:
    with (
        Hypervisor(directory, {"web1": guest_off_by()}) as hypervisor,
        subprocess.Popen(
            [sys.executable, str(SOURCE), URI],
            env={**os.environ, "PYTHONPATH": f"{directory}:{ROOT}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == f"{URI} is watched, running guests: 1\n"
        restore(hypervisor, "web1")
        event = json.loads(process.stdout.readline())["libvirt_guest"]
        assert (event["domain"], event["cause"]) == ("web1", "restored")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=DEADLINE_S) == ("", "")
    assert process.returncode == 0
