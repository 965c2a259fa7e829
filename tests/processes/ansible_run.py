"""Running real playbooks with the collection installed as a user would install it, and reading what came of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import terminal
from tests.support.collection import ROOT, install
from tests.support.tiers import quick

# Of each ansible-core that is supported, where its programs are. The environment that the tests run in has the newest.
CORES: Mapping[str, Path] = {
    **{version: ROOT / f".venvs/core-{version}/bin" for version in ("2.17", "2.18")},
    "2.19": Path(sys.executable).parent,
}

OLDEST, *_others, NEWEST = CORES
every_core = pytest.mark.parametrize("core", quick(CORES, [NEWEST]))

_CALLBACKS = Path(__file__).with_name("callback")
# Guests have no network.
CONNECTION = "qemu.guest_agent.qga"


@dataclass(frozen=True)
class TaskRecord:
    """What came of one task on one host."""

    task: str
    outcome: str
    seconds: float
    result: dict[str, Any]


@dataclass(frozen=True)
class PlaybookRun:
    """A finished playbook: its exit status, all that it printed, and its tasks in order.

    Ends of lines are as they were printed only if that was on a terminal.
    """

    status: int
    output: str
    tasks: tuple[TaskRecord, ...]

    def result(self, task: str) -> dict[str, Any]:
        """The result of the one task of that name."""
        (record,) = (record for record in self.tasks if record.task == task)
        return record.result


def run_tasks(
    tasks: Sequence[Mapping[str, Any]], *arguments: str, environment: Mapping[str, str] | None = None
) -> PlaybookRun:
    """Run tasks on this machine in a play of their own. ``arguments`` go to ansible-playbook."""
    return _run_play("localhost", tasks, *arguments, environment=environment)


def run_tasks_in_guest(domain: str, tasks: Sequence[Mapping[str, Any]], *arguments: str) -> PlaybookRun:
    """Run tasks as root in a test guest, which has no network: through its guest agent."""
    reached = ("-i", f"{domain},", "-c", CONNECTION, "-e", "ansible_python_interpreter=/usr/bin/python3")
    return _run_play(domain, tasks, *reached, *arguments)


def _run_play(
    host: str, tasks: Sequence[Mapping[str, Any]], *arguments: str, environment: Mapping[str, str] | None = None
) -> PlaybookRun:
    play = {"hosts": host, "gather_facts": False, "tasks": list(tasks)}
    with tempfile.TemporaryDirectory() as directory:
        playbook = Path(directory) / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play]))
        return run_playbook(playbook, *arguments, environment=environment)


def run_playbook(
    playbook: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    core: str | None = None,
    on_terminal: bool = False,
) -> PlaybookRun:
    """Run a playbook file with this interpreter's ansible-playbook or another ``core``'s, here if ``arguments`` do not
    say else.
    """
    arguments = ("-i", "localhost,", "-c", "local", *arguments, str(playbook))
    return _run(arguments, environment, core=core, on_terminal=on_terminal)


def run_playbook_of_collection(
    name: str,
    *arguments: str,
    inventory: str | Path = "localhost,",
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    core: str | None = None,
    on_terminal: bool = False,
    within: Sequence[str] = (),
) -> PlaybookRun:
    """Run a playbook as a user would, by its full name and from ``directory``; hosts are here if the inventory does not
    say else. ``within`` is a command that runs the one behind it.
    """
    arguments = ("-i", str(inventory), "-c", "local", *arguments, f"qemu.guest_agent.{name}")
    return _run(arguments, environment, directory, core=core, on_terminal=on_terminal, within=within)


def _run(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    *,
    core: str | None = None,
    on_terminal: bool = False,
    within: Sequence[str] = (),
) -> PlaybookRun:
    with tempfile.TemporaryDirectory() as records_directory:
        records = Path(records_directory) / "records"
        records.touch()
        command = [
            *(*within, str(_program(core)), "-e", f"ansible_python_interpreter={sys.executable}"),
            *arguments,
        ]
        settings = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(install()),
            "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "task_records",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "QGA_TASK_RECORDS": str(records),
            **(environment or {}),
        }
        if on_terminal:
            status, output = terminal.run(command, settings, directory)
        else:
            done = subprocess.run(
                command,
                cwd=directory,
                env=settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            status, output = done.returncode, done.stdout
        lines = records.read_text(encoding="utf-8").splitlines()
    return PlaybookRun(status, output, tuple(TaskRecord(**json.loads(line)) for line in lines))


def _program(core: str | None) -> Path:
    directory = CORES["2.19"] if core is None else CORES[core]
    program = directory / "ansible-playbook"
    if not program.exists():
        raise RuntimeError(f"there is no ansible-core {core} in {directory.parent}; make unit-all makes it")
    return program


# ------------------------------------------------------------------------------------------- plays that a test composes

Task = dict[str, Any]
Play = dict[str, Any]


def play(hosts: str, *tasks: Task) -> Play:
    """Return a play whose tasks run on the controller."""
    return {"hosts": hosts, "gather_facts": False, "connection": "local", "tasks": list(tasks)}


def write_play(path: Path, *plays: Play) -> Path:
    """Write the plays to a playbook and return its path."""
    path.write_text(yaml.safe_dump(list(plays), width=1000), encoding="utf-8")
    return path
