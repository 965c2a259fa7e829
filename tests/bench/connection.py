# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

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

from tests.support.ansible_run import PlaybookRun, run_playbook
from tests.support.collection import BUILD, install
from tests.support.table import format_table
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.lock import locked
from tests.vm.session import booted_guest, libvirt_session

OURS = "qemu.guest_agent.qga"
THEIRS = "community.libvirt.libvirt_qemu"
# The package that carries community.libvirt; Galaxy is not asked.
BUNDLE = "ansible==12.*"
PINGS = 5
COPIES = 2
MEGABYTES = 10

# Theirs runs commands without HOME, so that Ansible's own directory would be in the root directory.
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    OURS: {"ansible_qga_uri": "qemu:///system"},
    THEIRS: {"ansible_libvirt_uri": "qemu:///system", "ansible_remote_tmp": "/tmp/.ansible"},  # noqa: S108  # the guest's
}


@dataclass(frozen=True)
class Connections:
    """Median seconds of a task, by connection plugin; None: it cannot do the job."""

    ping_s: Mapping[str, float | None]
    copy_s: Mapping[str, float | None]

    @property
    def ping_ratio(self) -> float | None:
        return _ratio(self.ping_s)

    @property
    def copy_ratio(self) -> float | None:
        return _ratio(self.copy_s)

    def as_dict(self) -> dict[str, Any]:
        return {
            "connection_ping_ratio": self.ping_ratio,
            "connection_copy_ratio": self.copy_ratio,
            "connection_ping_s": dict(self.ping_s),
            "connection_copy_10_mib_s": dict(self.copy_s),
        }


def bench_connections(guest: Guest, say: Callable[[str], None]) -> Connections:
    """The checksum of each copy is verified, by Ansible as well."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        source.write_bytes(os.urandom(MEGABYTES * 1024 * 1024))
        tasks: list[dict[str, Any]] = []
        # The first of each is not counted: Python's files are read, and the module's archive is made.
        for turn in range(1 + PINGS):
            tasks.extend(_task("ping", connection, {"ansible.builtin.ping": {}}, turn) for connection in _SETTINGS)
        for turn in range(1 + COPIES):
            tasks.extend(
                _task(
                    "copy",
                    connection,
                    {"ansible.builtin.copy": {"src": str(source), "dest": f"/root/{turn}-{number}"}},
                    turn,
                )
                for number, connection in enumerate(_SETTINGS)
            )
        run = _run(guest, tasks, Path(directory))
    figures = Connections(_medians(run, "ping"), _medians(run, "copy"))
    if None in (figures.ping_s[OURS], figures.copy_s[OURS]):
        raise VmError(f"The playbook failed:\n{run.output}")
    say(f"ping {_said(figures.ping_ratio)} as fast as over {THEIRS}, copying {_said(figures.copy_ratio)}")
    return figures


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


def _task(name: str, connection: str, action: Mapping[str, Any], turn: int) -> dict[str, Any]:
    return {
        "name": f"{name} {connection} {turn}",
        **action,
        "vars": {"ansible_connection": connection, **_SETTINGS[connection]},
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
    if not records or any(record.outcome != "ok" or record.result.get("failed") for record in records):
        return None
    return median(record.seconds for record in records)


def _ratio(seconds: Mapping[str, float | None]) -> float | None:
    ours, theirs = seconds[OURS], seconds[THEIRS]
    return None if ours is None or theirs is None else theirs / ours


def _said(ratio: float | None) -> str:
    return "cannot be compared" if ratio is None else f"{ratio:.1f} times"


def _rows(figures: Connections) -> list[list[str]]:
    def shown(seconds: float | None) -> str:
        return "it cannot" if seconds is None else f"{seconds:.2f}"

    return [
        [what, shown(seconds[OURS]), shown(seconds[THEIRS]), "-" if ratio is None else f"{ratio:.1f}", wanted]
        for what, seconds, ratio, wanted in (
            ("ping, median (s)", figures.ping_s, figures.ping_ratio, "at least 2"),
            ("copying 10 MiB, median (s)", figures.copy_s, figures.copy_ratio, "at least 3"),
        )
    ]


def report(figures: Connections) -> str:
    return format_table(["over a connection plugin", OURS, THEIRS, "ratio", "wanted"], _rows(figures))


def main() -> None:
    with libvirt_session() as connection, booted_guest(connection, "qga-bench") as guest:
        print(report(bench_connections(guest, print)))


if __name__ == "__main__":
    main()
