"""Tasks in a guest without a network, over our connection plugin and over community.libvirt's, by turns.

Run alone: python -m tests.bench.connection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from tests.processes.ansible_run import CONNECTION, PlaybookRun, run_playbook
from tests.support.collection import BUILD, install
from tests.support.table import format_table
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.lock import locked
from tests.vm.session import libvirt_session, restored_guest

THEIRS = "community.libvirt.libvirt_qemu"
# The package that carries community.libvirt; Galaxy is not asked.
BUNDLE = "ansible==12.*"
PINGS = 5
COPIES = 2
MEGABYTES = 10

# Theirs runs commands without HOME, so that Ansible's own directory would be in the root directory.
_COMMON = {"ansible_remote_tmp": "/tmp/.ansible"}  # noqa: S108  # the guest's
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    CONNECTION: {**_COMMON, "ansible_qga_uri": "qemu:///system"},
    THEIRS: {**_COMMON, "ansible_libvirt_uri": "qemu:///system"},
}
# A task of each is done over both connections, one behind the other.
_ROUNDS: Mapping[str, int] = {"raw": PINGS, "ping": PINGS, "compiled": COPIES, "copy": COPIES, "text": COPIES}
# What else is said to both; theirs does not know of it.
_WITH: Mapping[str, Mapping[str, object]] = {"compiled": {"ansible_qga_module_cache": False}}


@dataclass(frozen=True)
class Connections:
    """Median seconds of a task, by task and by connection plugin; None: it cannot do the job.

    ``raw`` runs ``true``: what a command costs by itself. ``ping`` is the module, and ``compiled`` is it with no code
    kept in the guest; ``copy`` is of 10 MiB at random, and ``text`` of as much of a log.
    """

    seconds: Mapping[str, Mapping[str, float | None]]

    def ratio(self, task: str) -> float | None:
        ours, theirs = self.seconds[task][CONNECTION], self.seconds[task][THEIRS]
        return None if ours is None or theirs is None else theirs / ours

    def as_dict(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for task, seconds in self.seconds.items():
            figures[f"connection_{task}_ratio"] = self.ratio(task)
            figures[f"connection_{task}_s"] = dict(seconds)
        return figures


def bench_connections(guest: Guest, say: Callable[[str], None]) -> Connections:
    """The checksum of each copy is verified, by Ansible as well."""
    size = MEGABYTES * 1024 * 1024
    with tempfile.TemporaryDirectory() as directory:
        contents = {"copy": os.urandom(size), "text": _log(size)}
        for name, content in contents.items():
            (Path(directory) / name).write_bytes(content)
        tasks: list[dict[str, Any]] = []
        for name, rounds in _ROUNDS.items():
            # The first of each is not counted: Python's files are read, and the module's archive is made.
            for turn in range(1 + rounds):
                tasks.extend(_task(name, connection, directory, turn) for connection in _SETTINGS)
        run = _run(guest, tasks, Path(directory))
    figures = Connections({name: _medians(run, name) for name in _ROUNDS})
    if any(seconds[CONNECTION] is None for seconds in figures.seconds.values()):
        raise VmError(f"The playbook failed:\n{run.output}")
    told = ", ".join(f"{name} {_said(figures.ratio(name))}" for name in _ROUNDS)
    say(f"as fast as over {THEIRS}: {told}")
    return figures


def _log(size: int) -> bytes:
    lines = (
        f"Nov 24 {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} web1 daemon[{number % 977}]: "
        f"request {number * 7919 % 100003} took {number * 31 % 997} ms\n"
        for number in range(size // 50)
    )
    return "".join(lines).encode()[:size]


def community_libvirt() -> Path:
    """A collections path with community.libvirt, taken out of the bundle; downloaded once."""
    path = BUILD / "community_libvirt"
    with locked(BUILD / "community_libvirt.lock"):
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as directory:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, BUNDLE]
                subprocess.run(command, check=True)
                (wheel,) = Path(directory).glob("ansible-*.whl")
                unpacked = Path(directory) / "unpacked"
                with zipfile.ZipFile(wheel) as bundle:
                    wanted = "ansible_collections/community/libvirt/"
                    bundle.extractall(unpacked, [name for name in bundle.namelist() if name.startswith(wanted)])
                unpacked.rename(path)
    return path


def _task(name: str, connection: str, directory: str, turn: int) -> dict[str, Any]:
    actions: Mapping[str, dict[str, Any]] = {
        "raw": {"ansible.builtin.raw": "true"},
        "ping": {"ansible.builtin.ping": {}},
        "compiled": {"ansible.builtin.ping": {}},
    }
    there = "/root/{}-{}-{}".format(name, turn, connection.replace(".", "-"))
    copy = {"ansible.builtin.copy": {"src": f"{directory}/{name}", "dest": there}}
    return {
        "name": f"{name} {connection} {turn}",
        **actions.get(name, copy),
        "vars": {"ansible_connection": connection, **_SETTINGS[connection], **_WITH.get(name, {})},
        "ignore_errors": True,
        "ignore_unreachable": True,
    }


def _run(guest: Guest, tasks: list[dict[str, Any]], directory: Path) -> PlaybookRun:
    playbook = directory / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": guest.name, "gather_facts": False, "tasks": tasks}]))
    variables = json.dumps({"ansible_python_interpreter": "/usr/bin/python3"})
    paths = os.pathsep.join(map(str, (install(), community_libvirt())))
    environment = {"ANSIBLE_COLLECTIONS_PATH": paths}
    return run_playbook(playbook, "-i", f"{guest.name},", "-e", variables, environment=environment)


def _medians(run: PlaybookRun, name: str) -> dict[str, float | None]:
    return {connection: _median(run, f"{name} {connection} ") for connection in _SETTINGS}


def _median(run: PlaybookRun, prefix: str) -> float | None:
    records = [record for record in run.tasks if record.task.startswith(prefix)][1:]
    if not records or any(record.outcome not in ("ok", "changed") or record.result.get("failed") for record in records):
        return None
    return median(record.seconds for record in records)


def _said(ratio: float | None) -> str:
    return "cannot be compared" if ratio is None else f"{ratio:.1f} times"


def _rows(figures: Connections) -> list[list[str]]:
    def shown(value: float | None, missing: str) -> str:
        return missing if value is None else f"{value:.2f}"

    told = {
        "raw": ("raw: true, what a command costs by itself, median (s)", "-"),
        "ping": ("ping, median (s)", "at least 2"),
        "compiled": ("ping, with no code kept in the guest, median (s)", "-"),
        "copy": ("copying 10 MiB at random, median (s)", "at least 3"),
        "text": ("copying 10 MiB of a log, median (s)", "at least 3"),
    }
    return [
        [
            what,
            *(shown(figures.seconds[name][connection], "it cannot") for connection in _SETTINGS),
            shown(figures.ratio(name), "-"),
            wanted,
        ]
        for name, (what, wanted) in told.items()
    ]


def report(figures: Connections) -> str:
    return format_table(["over a connection plugin", CONNECTION, THEIRS, "ratio", "wanted"], _rows(figures))


def main() -> None:
    with libvirt_session() as connection, restored_guest(connection, "qga-bench") as guest:
        print(report(bench_connections(guest, print)))


if __name__ == "__main__":
    main()
