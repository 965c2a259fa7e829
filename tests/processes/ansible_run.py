"""Running real playbooks with the collection installed as a user would install it, and reading their results."""

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

# The programs of each supported ansible-core. The tests' own environment has the newest one.
CORES: Mapping[str, Path] = {
    **{version: ROOT / f".venvs/core-{version}/bin" for version in ("2.16", "2.17", "2.18")},
    "2.19": Path(sys.executable).parent,
}

OLDEST, *_others, NEWEST = CORES
every_core = pytest.mark.parametrize("core", quick(CORES, [NEWEST]))

_CALLBACKS = Path(__file__).with_name("callback")
# Guests have no network.
CONNECTION = "qemu.guest_agent.qga"


@dataclass(frozen=True)
class TaskRecord:
    """The result of one task on one host."""

    task: str
    outcome: str
    seconds: float
    result: dict[str, Any]


@dataclass(frozen=True)
class PlaybookRun:
    """A finished playbook: its exit status, its output, and its tasks in order.

    Line ends are unchanged only if it ran on a terminal.
    """

    status: int
    output: str
    tasks: tuple[TaskRecord, ...]

    def result(self, task: str) -> dict[str, Any]:
        """Return the result of the only task of that name."""
        (record,) = (record for record in self.tasks if record.task == task)
        return record.result


def run_tasks(
    tasks: Sequence[Mapping[str, Any]], *arguments: str, host: str = "localhost", **options: Any
) -> PlaybookRun:
    """Run tasks in a play, on this machine unless ``arguments`` override that. ``options`` are those of ``_run``."""
    play = {"hosts": host, "gather_facts": False, "tasks": list(tasks)}
    with tempfile.TemporaryDirectory() as directory:
        playbook = Path(directory) / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play]))
        return run_playbook(playbook, *arguments, **options)


def run_tasks_in_guest(domain: str, tasks: Sequence[Mapping[str, Any]], *arguments: str) -> PlaybookRun:
    """Run tasks as root in a test guest through its guest agent, because it has no network."""
    reached = ("-i", f"{domain},", "-c", CONNECTION, "-e", "ansible_python_interpreter=/usr/bin/python3")
    return run_tasks(tasks, *reached, *arguments, host=domain)


def run_playbook(playbook: Path, *arguments: str, **options: Any) -> PlaybookRun:
    """Run a playbook file, on this machine unless ``arguments`` override that. ``options`` are those of ``_run``."""
    return _run(("-i", "localhost,", "-c", "local", *arguments, str(playbook)), **options)


def run_playbook_of_collection(
    name: str, *arguments: str, inventory: str | Path = "localhost,", **options: Any
) -> PlaybookRun:
    """Run a playbook by its full name, as a user would. Hosts are this machine unless the inventory overrides that."""
    return _run(("-i", str(inventory), "-c", "local", *arguments, f"qemu.guest_agent.{name}"), **options)


def _run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    core: str | None = None,
    on_terminal: bool = False,
    within: Sequence[str] = (),
) -> PlaybookRun:
    """Run the ansible-playbook of a ``core`` in ``directory``. ``within`` is a command that runs another command."""
    with tempfile.TemporaryDirectory() as records_directory:
        records = Path(records_directory) / "records"
        records.touch()
        program = CORES[core or NEWEST] / "ansible-playbook"
        if not program.exists():
            raise RuntimeError(f"there is no ansible-core {core or NEWEST} in {program.parent}; run make unit-all")
        command = [*within, str(program), "-e", f"ansible_python_interpreter={sys.executable}", *arguments]
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
            both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            done = subprocess.run(command, cwd=directory, env=settings, check=False, **both)
            status, output = done.returncode, done.stdout
        lines = records.read_text(encoding="utf-8").splitlines()
    return PlaybookRun(status, output, tuple(TaskRecord(**json.loads(line)) for line in lines))


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
